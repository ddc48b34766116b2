"""Backups of a data folder while a server runs, and what is made of them."""

import json
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.server.live import BuildJob, Connect, OffsetClock, RunningServer, StartServer, started

from rafiki.server.operation import BackupError, back_up, restore
from rafiki.v1 import advisor_pb2, jobs_pb2

Save = Callable[[RunningServer, advisor_pb2.TrialAssignment, int], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The data folder of `start_server`."""
    return tmp_path


@pytest.fixture
def apart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for backups and what is restored of them."""
    return tmp_path_factory.mktemp("apart")


@pytest.fixture
def backup(
    start_server: StartServer,
    connect: Connect,
    random_job: BuildJob,
    save: Save,
    folder: Path,
    apart: Path,
) -> Path:
    """A backup with one checkpoint."""
    with start_server() as server:
        study = server.create_job(random_job(1)).studies[0].name
        worker = connect(server, studies=(study,))
        assignment = worker.assignment()
        save(server, assignment, 1)
        worker.complete(assignment)
        server.ended(study.partition("/studies/")[0])
        back_up(folder, apart / "backup")
    return apart / "backup"


def blobs(folder: Path) -> list[Path]:
    return sorted((folder / "blobs").glob("??/*"))


def test_a_job_ends_from_a_backup_taken_while_its_trials_ran(
    start_server: StartServer,
    connect: Connect,
    random_job: BuildJob,
    clock: OffsetClock,
    save: Save,
    folder: Path,
    apart: Path,
) -> None:
    with start_server() as server:
        created = server.create_job(random_job(3))
        study = created.studies[0].name
        worker = connect(server, studies=(study,), capacity=2)
        first, second = worker.assignment(), worker.assignment()
        save(server, first, 1)
        worker.complete(first, 0.25)
        worker.assignment()
        manifest = back_up(folder, apart / "backup")
        worker.complete(second, 0.75)  # the backup does not know of it

    assert manifest.rows["trials"] == 3
    assert (manifest.blob_count, manifest.blob_bytes, manifest.missing) == (1, 4000, ())
    restore(apart / "backup", apart / "restored")
    with started(apart / "restored", clock) as server:
        tokens = (second.lease.token,)
        worker = connect(server, studies=(study,), capacity=2, lease_tokens=tokens)
        assert [lease.token for lease in worker.opened.leases.leases] == list(tokens)
        worker.complete(second, 0.5)
        worker.complete(worker.assignment(), 0.5)
        server.ended(created.train_job.name)
        listed = server.jobs.ListTrials(jobs_pb2.ListTrialsRequest(parent=study)).trials
    assert [trial.score for trial in listed] == [0.25, 0.5, 0.5]
    assert blobs(apart / "restored") != []


@pytest.mark.slow
def test_every_blob_named_is_there_while_others_come_and_are_collected(
    start_server: StartServer,
    connect: Connect,
    random_job: BuildJob,
    save: Save,
    folder: Path,
    apart: Path,
) -> None:
    stop = threading.Event()

    def collect() -> None:
        """What a collector does: a checkpoint goes, and then its bytes."""
        connection = sqlite3.connect(folder / "rafiki.db", timeout=20)
        while not stop.is_set():
            oldest = connection.execute(
                "SELECT checkpoint, sha256 FROM checkpoint_tensors LIMIT 1"
            ).fetchone()
            if oldest is None:
                continue
            with connection:
                connection.execute(
                    "DELETE FROM checkpoint_tensors WHERE checkpoint = ?", oldest[:1]
                )
                connection.execute("DELETE FROM checkpoints WHERE id = ?", oldest[:1])
                connection.execute("DELETE FROM blobs WHERE sha256 = ?", oldest[1:])
            (folder / "blobs" / oldest[1][:2] / oldest[1]).unlink()
        connection.close()

    with start_server() as server:
        study = server.create_job(random_job(40)).studies[0].name
        worker = connect(server, studies=(study,))
        collector = threading.Thread(target=collect)
        try:
            for number in range(30):
                assignment = worker.assignment()
                save(server, assignment, number)
                worker.complete(assignment)
                if number == 10:
                    collector.start()
                if number % 3 == 0:
                    back_up(folder, apart / str(number))
        finally:
            stop.set()
            if collector.ident is not None:
                collector.join()
    for number in range(0, 30, 3):
        manifest = restore(apart / str(number), apart / f"restored-{number}")
        assert manifest.missing == ()
        assert len(blobs(apart / str(number))) == manifest.blob_count


def test_what_is_restored_equals_what_was_backed_up(
    backup: Path, folder: Path, apart: Path
) -> None:
    restore(backup, apart / "restored")
    (blob,) = blobs(apart / "restored")
    assert blob.read_bytes() == blobs(folder)[0].read_bytes()
    assert (apart / "restored" / "rafiki.db").read_bytes() == (backup / "rafiki.db").read_bytes()


@pytest.mark.parametrize("command", ["back up", "restore"])
def test_a_folder_that_is_not_empty_is_left_alone(
    backup: Path, folder: Path, apart: Path, command: str
) -> None:
    full = apart / "full"
    full.mkdir()
    (full / "mine").touch()
    with pytest.raises(BackupError, match="full is not empty"):
        back_up(folder, full) if command == "back up" else restore(backup, full)
    assert os.listdir(full) == ["mine"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink()  # it may be linked
    path.write_bytes(data)


def newer(path: Path) -> None:
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"schema": "9999"}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda x: flip(blobs(x)[0]), "the blob .* has other bytes"),
        (lambda x: blobs(x)[0].unlink(), "the blob .* is missing or cut"),
        (lambda x: flip(x / "rafiki.db"), "rafiki.db is not what was backed up"),
        (lambda x: (x / "rafiki.db").unlink(), "rafiki.db is missing"),
        (lambda x: (x / "manifest.json").unlink(), "unfinished"),
        (lambda x: (x / "manifest.json").write_text("{}"), "cannot be read"),
        (lambda x: newer(x / "manifest.json"), "schema 9999, which is newer"),
    ],
)
def test_a_damaged_backup_is_refused_and_nothing_left_behind(
    backup: Path, apart: Path, damage: Callable[[Path], object], message: str
) -> None:
    damage(backup)
    with pytest.raises(BackupError, match=message):
        restore(backup, apart / "restored")
    assert os.listdir(apart) == ["backup"]


def test_blobs_that_were_lost_before_are_told(backup: Path, folder: Path, apart: Path) -> None:
    (lost,) = blobs(folder)
    lost.unlink()
    manifest = back_up(folder, apart / "second")
    assert manifest.missing == (lost.name,)
    assert restore(apart / "second", apart / "restored") == manifest


def test_where_there_is_no_database_the_flag_is_named(apart: Path) -> None:
    with pytest.raises(BackupError, match=r"--data-dir.*pg_dump"):
        back_up(apart, apart / "backup")
