"""Databases and disks that fail under a running server: what callers are told, what is kept."""

import errno
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import grpc
import pytest
from tests.postgres import running_postgres
from tests.server.live import (
    TIMEOUT_S,
    FakeWorker,
    OffsetClock,
    RunningServer,
    code,
    message,
    reason,
    started,
)

from rafiki.model.knobs import FloatKnob
from rafiki.resources import AdvisorKind, AdvisorSettings, Budget, StudySpec, TrainJob
from rafiki.server.store import sqlite
from rafiki.v1 import advisor_pb2, jobs_pb2, trials_pb2

TRIALS = 6


def job(trials: int = TRIALS) -> TrainJob:
    """A job of one external RANDOM study."""
    spec = StudySpec(
        knob_config={"rate": FloatKnob(0.1, 0.9)},
        advisor=AdvisorSettings(kind=AdvisorKind.RANDOM),
    )
    budget = Budget(model_trial_count=trials)
    return TrainJob(app="test", task="ANY", studies=(spec,), budget=budget, seed=1)


def refusal(call: Callable[[], object]) -> tuple[str, grpc.StatusCode]:
    """The reason and the code with which a call fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return reason(caught.value), code(caught.value)


def until_it_works(call: Callable[[], object]) -> None:
    """Repeats a call while the storage fails, as workers do."""
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            call()
            return
        except grpc.RpcError as error:
            assert reason(error) in ("STORAGE_UNAVAILABLE", "STORAGE_FULL"), message(error)
            assert time.monotonic() < deadline
            time.sleep(0.05)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Waits for what the server does by itself."""
    deadline = time.monotonic() + TIMEOUT_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def check_end(server: RunningServer, name: str, scores: dict[str, float]) -> None:
    """The job has ended well, with every trial once and the scores that were acknowledged."""
    assert server.ended(name).state == jobs_pb2.TRAIN_JOB_STATE_SUCCEEDED
    request = jobs_pb2.ListTrialsRequest(parent=f"{name}/studies/1")
    listed = server.jobs.ListTrials(request, timeout=TIMEOUT_S).trials
    assert {trial.name: trial.score for trial in listed} == scores
    assert len(listed) == TRIALS
    assert {trial.state for trial in listed} == {trials_pb2.TRIAL_STATE_COMPLETED}


class Run:
    """A job that is worked at by one worker, and the scores that were acknowledged."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        created = server.create_job(job())
        self.name = created.train_job.name
        self.study = created.studies[0].name
        self.worker = FakeWorker(server, studies=(self.study,))
        self.scores: dict[str, float] = {}

    def work(self, trials: int) -> None:
        """Runs so many trials."""
        for _ in range(trials):
            self.finish(self.worker.assignment())

    def finish(self, assignment: advisor_pb2.TrialAssignment) -> None:
        """Reports a score until it is acknowledged."""
        score = 0.1 + 0.1 * len(self.scores)
        until_it_works(lambda: self.worker.complete(assignment, score))
        self.scores[assignment.trial.name] = score

    def refuse(self, assignment: advisor_pb2.TrialAssignment) -> tuple[str, grpc.StatusCode]:
        """Reports a score, in vain."""
        return refusal(lambda: self.worker.complete(assignment, 0.9))

    def end(self) -> None:
        """Works until the job ends, and looks at what has become of it."""
        self.work(TRIALS - len(self.scores))
        check_end(self.server, self.name, self.scores)
        self.worker.vanish()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
def test_a_server_outlives_a_postgresql_that_is_away(
    tmp_path: Path, number: signal.Signals
) -> None:
    with running_postgres() as postgres:
        url = postgres.url(postgres.create_database())
        with started(tmp_path, OffsetClock(), database=url) as server:
            run = Run(server)
            run.work(2)
            held = run.worker.assignment()
            postgres.stop(number)
            for _ in range(2):
                away = ("STORAGE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE)
                assert run.refuse(held) == away
                assert refusal(lambda: server.job(run.name)) == away
                assert refusal(lambda: server.create_job(job())) == away
            assert run.worker.heartbeat(held.lease.token).leases  # it is still held
            postgres.start()
            run.finish(held)
            run.end()


@pytest.mark.slow
def test_a_lease_is_lost_although_that_cannot_be_stored_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = OffsetClock()
    with running_postgres() as postgres:
        url = postgres.url(postgres.create_database())
        with started(tmp_path, clock, database=url) as server:
            run = Run(server)
            held = run.worker.assignment()
            run.worker.vanish()
            postgres.stop()
            clock.offset += 2 * server.lease
            wait_until(lambda: "a step of a study failed" in caplog.text)
            postgres.start()
            until_it_works(lambda: server.job(run.name))
            run.worker = FakeWorker(server, studies=(run.study,), worker_id="worker-2")
            run.end()
            assert server.trial(held.trial.name).attempt == 2


def test_a_database_locked_by_another_program_is_an_error_until_it_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.2)
    with started(tmp_path, OffsetClock()) as server:
        run = Run(server)
        run.work(2)
        held = run.worker.assignment()
        with closing(sqlite3.connect(tmp_path / "rafiki.db", isolation_level=None)) as stranger:
            stranger.execute("BEGIN IMMEDIATE")
            locked = ("STORAGE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE)
            assert run.refuse(held) == locked
            assert refusal(lambda: server.create_job(job())) == locked
            assert server.job(run.name).name == run.name  # who reads does not wait
        run.finish(held)
        run.end()


@pytest.mark.slow
def test_a_file_that_may_not_grow_is_an_error_until_it_may(tmp_path: Path) -> None:
    with started(tmp_path, OffsetClock()) as server:
        run = Run(server)
        run.work(2)
        held = run.worker.assignment()
        with small_files(tmp_path / "rafiki.db-wal"):
            name, status = run.refuse(held)
            assert (name, status) in (
                ("STORAGE_UNAVAILABLE", grpc.StatusCode.UNAVAILABLE),
                ("STORAGE_FULL", grpc.StatusCode.RESOURCE_EXHAUSTED),
            )
            assert server.job(run.name).name == run.name
        run.finish(held)
        run.end()


@pytest.mark.slow
def test_a_full_disk_is_an_error_until_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size_mib=8) as folder:
        with started(folder, OffsetClock()) as server:
            run = Run(server)
            run.work(2)
            held = run.worker.assignment()
            # More than the log has room for as it is.
            report = advisor_pb2.ReportTrialRequest(
                name=held.trial.name,
                lease_token=held.lease.token,
                logs=[log_line(sequence) for sequence in range(1, 101)],
            )
            with filled(folder / "ballast"):
                full = ("STORAGE_FULL", grpc.StatusCode.RESOURCE_EXHAUSTED)
                assert refusal(lambda: send(server, report)) == full
                assert server.job(run.name).name == run.name
            until_it_works(lambda: send(server, report))
            run.finish(held)
            run.end()


@pytest.mark.slow
def test_a_server_says_in_one_line_that_its_files_are_read_only(tmp_path: Path) -> None:
    with started(tmp_path / "data", OffsetClock()) as server:
        server.create_job(job())
    command = [sys.executable, "-m", "rafiki.server", f"--data-dir={tmp_path / 'data'}"]
    with read_only(tmp_path / "data"):
        done = subprocess.run(
            [*command, "--listen=127.0.0.1:0", "--log-level=WARNING"],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S * 3,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot be written" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def log_line(sequence: int) -> trials_pb2.TrialLog:
    """A long line."""
    line = trials_pb2.TrialLog(
        sequence=sequence, level=trials_pb2.LOG_LEVEL_INFO, message="x" * 8_000
    )
    line.time.GetCurrentTime()
    return line


def send(server: RunningServer, report: advisor_pb2.ReportTrialRequest) -> None:
    """Sends a report."""
    server.advisor.ReportTrial(report, timeout=TIMEOUT_S)


@contextmanager
def small_files(path: Path) -> Iterator[None]:
    """In this process, no file may grow beyond the size of this one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def small_disk(folder: Path, *, size_mib: int) -> Iterator[Path]:
    """A file system in memory."""
    folder.mkdir()
    mount(*("-t", "tmpfs", "-o", f"size={size_mib}m", "none"), folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The folder, on a file system that takes no writes."""
    mount("--bind", str(folder), folder)
    try:
        mount("-o", "remount,bind,ro", folder)
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def mount(*arguments: str | Path) -> None:
    """Mounts; skips the test where that is not allowed."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting needs root: {done.stderr}")


@contextmanager
def filled(path: Path) -> Iterator[None]:
    """All room of the disk taken by a file."""
    try:
        with open(path, "wb", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError as error:
                    assert error.errno == errno.ENOSPC
        yield
    finally:
        os.unlink(path)
