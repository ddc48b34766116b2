"""A training on four devices is that on one, a quarter of each minibatch on each."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

NAMES = ("toy", "undivided", "cells", "macro")
Told = dict[str, dict[str, object]]


def train(folder: Path, devices: int) -> tuple[Told, str]:
    """What the training of a process with so many devices told, and its standard error."""
    folder.mkdir()
    flags = f"--xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, "-m", "tests.supernet.device_training", str(folder)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told: Told = json.loads(done.stdout.splitlines()[-1])
    return told, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("devices")


@pytest.fixture(scope="module")
def on_one(folder: Path) -> tuple[Told, str]:
    return train(folder / "1", 1)


@pytest.fixture(scope="module")
def on_four(folder: Path) -> tuple[Told, str]:
    return train(folder / "4", 4)


def test_every_device_has_a_quarter_of_the_minibatch_and_all_weights(
    on_four: tuple[Told, str],
) -> None:
    for name in ("toy", "cells", "macro"):
        told = on_four[0][name]
        assert told["devices"] == 4
        assert told["batches"] == [2, 2, 2, 2]
        assert told["all_reduce"]
        assert told["whole_weights"]


def test_one_device_reduces_nothing(on_one: tuple[Told, str]) -> None:
    assert not any(told["all_reduce"] for told in on_one[0].values())
    assert all(told["devices"] == 1 for told in on_one[0].values())


def test_a_minibatch_that_cannot_be_shared_out_is_whole_on_each_and_that_is_said_once(
    on_four: tuple[Told, str],
) -> None:
    told, said = on_four
    assert told["undivided"]["batches"] == [6, 6, 6, 6]
    assert said.count("WARNING: a minibatch of 6 cannot be shared out over 4 devices") == 1


@pytest.mark.parametrize("name", NAMES)
def test_losses_weights_and_class_scores_are_those_of_one_device(
    name: str, on_one: tuple[Told, str], on_four: tuple[Told, str], folder: Path
) -> None:
    with (
        np.load(folder / "1" / f"{name}.npz") as one,
        np.load(folder / "4" / f"{name}.npz") as four,
    ):
        assert one.keys() == four.keys()
        for path in one:
            np.testing.assert_allclose(one[path], four[path], rtol=0, atol=1e-5, err_msg=path)
