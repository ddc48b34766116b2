"""A system of processes per test."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.e2e.processes import System

from rafiki.model import write_images


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for compiled programs."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture
def system(tmp_path: Path, programs: Path) -> Iterator[System]:
    """A running server without workers."""
    system = System(tmp_path, programs)
    try:
        system.start_server()
        yield system
    finally:
        system.stop()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A data set of eight small grey images of two classes."""
    path = tmp_path / "images.zip"
    random = np.random.default_rng(0)
    write_images(path, random.integers(0, 255, (8, 8, 8, 1), dtype=np.uint8), np.arange(8) % 2)
    return path
