"""The short form of the storm, with one fault of every kind; `make chaos` runs the long one."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.chaos.evidence import check_storage
from tests.chaos.faults import FaultKind
from tests.chaos.replay import check_replay
from tests.chaos.storm import Outcome, run_storm

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SEED = 1


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the storm leaves what is to be known of a failure."""
    return tmp_path_factory.mktemp("chaos") / "storm"


@pytest.fixture(scope="module")
def outcome(folder: Path) -> Outcome:
    """What became of the storm."""
    return run_storm(seed=SEED, faults=len(FaultKind), folder=folder, scale=0.2)


@pytest.fixture
def data_dir(outcome: Outcome, folder: Path, tmp_path: Path) -> Path:
    """A copy of what the server stored, to be spoiled."""
    return Path(shutil.copytree(folder / "data", tmp_path / "data"))


def spoil(data_dir: Path, statement: str) -> None:
    """Changes the database behind the back of all."""
    with closing(sqlite3.connect(data_dir / "rafiki.db")) as database:
        assert database.execute(statement).rowcount > 0
        database.commit()


def test_a_storm_loses_nothing_and_doubles_nothing(outcome: Outcome, folder: Path) -> None:
    assert not outcome.complaints, f"{outcome}\nmore in {folder}"
    assert set(outcome.struck) == set(FaultKind)


def test_a_score_that_was_changed_behind_the_log_is_noticed(data_dir: Path) -> None:
    assert not list(check_replay(data_dir))
    spoil(data_dir, "UPDATE trials SET score = -score WHERE score IS NOT NULL")
    assert list(check_replay(data_dir))


def test_a_proposal_that_was_changed_is_noticed(data_dir: Path) -> None:
    spoil(data_dir, """UPDATE trials SET knobs = replace(knobs, '"units":', '"units":1')""")
    assert list(check_replay(data_dir))


def test_a_spoilt_blob_is_noticed(data_dir: Path) -> None:
    blob = next(path for path in (data_dir / "blobs").glob("??/*") if path.stat().st_size)
    blob.write_bytes(b"x" * blob.stat().st_size)
    assert list(check_storage(data_dir)) == [f"blob {blob.name} is corrupt"]


def test_a_missing_blob_is_noticed(data_dir: Path) -> None:
    blob = next((data_dir / "blobs").glob("??/*"))
    blob.unlink()
    assert list(check_storage(data_dir)) == [f"blob {blob.name} is missing"]


def test_a_missing_tensor_is_noticed(data_dir: Path) -> None:
    spoil(
        data_dir,
        "DELETE FROM checkpoint_tensors WHERE path = 'same' AND"
        " 'trainJobs/' || job || '/studies/' || study || '/checkpoints/' || checkpoint ="
        " (SELECT final_checkpoint FROM trials WHERE final_checkpoint <> '' LIMIT 1)",
    )
    (complaint,) = check_storage(data_dir)
    assert "of a completed trial holds ['drawn', 'seed']" in complaint
