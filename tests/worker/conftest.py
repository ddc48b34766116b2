"""Children to run tasks in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.worker.child_bench import TEMPLATES, Bench, Make
from tests.worker.worker_bench import WorkerBench


@pytest.fixture
def make_bench(tmp_path: Path) -> Iterator[Make]:
    benches: list[Bench] = []

    def make(source: Path | str, class_name: str, limit_bytes: int = 8 << 30) -> Bench:
        folder = tmp_path / str(len(benches))
        folder.mkdir()
        bench = Bench(folder, TEMPLATES / source, class_name, limit_bytes)
        benches.append(bench)
        return bench

    yield make
    for bench in benches:
        bench.close()


@pytest.fixture(scope="module")
def shared_plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("plain"), TEMPLATES / "plain.py", "Line", 8 << 30)
    yield bench
    bench.close()


@pytest.fixture
def plain(shared_plain: Bench) -> Bench:
    """A child for the template `Line`, which the tests of a module share while it lives."""
    shared_plain.reset()
    return shared_plain


@pytest.fixture
def supernet(make_bench: Make) -> Bench:
    return make_bench("supernet.py", "Supernet")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[WorkerBench]:
    bench = WorkerBench(tmp_path)
    yield bench
    bench.close()
