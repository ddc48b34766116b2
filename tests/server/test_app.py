"""The server as a process: started, asked, stopped and killed."""

import json
import queue
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tests.conftest import NewDatabase
from tests.postgres import PostgresServer

from rafiki.model.knobs import ArchKnob, FloatKnob, IntegerKnob, KnobConfig
from rafiki.resources import AdvisorKind, AdvisorSettings, Budget, StudySpec, TrainJob
from rafiki.server.store.database import Database
from rafiki.v1 import advisor_pb2, advisor_pb2_grpc, jobs_pb2, jobs_pb2_grpc
from rafiki.wire.jobs import train_job_to_proto

TIMEOUT_S = 30.0
TRIALS = 12


class Process:
    """A server process on a data folder."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "rafiki.server",
                f"--data-dir={folder}",
                "--listen=127.0.0.1:0",
                "--log-level=WARNING",
                *flags,
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        self.channel = grpc.insecure_channel(self.line.split()[-1] if self.line else "none:1")
        self.jobs = jobs_pb2_grpc.JobServiceStub(self.channel)
        self.advisor = advisor_pb2_grpc.AdvisorServiceStub(self.channel)

    def end(self, number: signal.Signals) -> tuple[int, str]:
        """Sends a signal; returns the exit status and what was written to stderr."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.channel.close()
        _, errors = self.process.communicate(timeout=TIMEOUT_S)
        return self.process.returncode, errors


class Session:
    """A worker's session of one trial at a time."""

    def __init__(self, server: Process, study: str, *tokens: str) -> None:
        self._server = server
        self._requests: queue.Queue[advisor_pb2.StreamTrialsRequest | None] = queue.Queue()
        opening = advisor_pb2.OpenSession(
            worker_id="worker-1",
            studies=[study],
            capacity=1,
            lease_tokens=tokens,
            devices=[advisor_pb2.WorkerDevice(platform=advisor_pb2.PLATFORM_CPU, count=1)],
        )
        self._requests.put(advisor_pb2.StreamTrialsRequest(open=opening))
        self._call = server.advisor.StreamTrials(iter(self._requests.get, None), timeout=TIMEOUT_S)
        self.opened = next(self._call).opened

    def assignment(self) -> advisor_pb2.TrialAssignment:
        for event in self._call:
            if event.HasField("assignment"):
                return event.assignment
        raise EOFError

    def end(self) -> None:
        self._requests.put(None)
        self._call.cancel()


@pytest.fixture
def started() -> Iterator[list[Process]]:
    """Processes that end with the test."""
    processes: list[Process] = []
    yield processes
    for server in processes:
        server.end(signal.SIGKILL)


@pytest.mark.slow
def test_it_says_where_it_listens_answers_and_stops_on_sigterm(
    tmp_path: Path, started: list[Process]
) -> None:
    folder = tmp_path
    server = Process(folder)
    started.append(server)
    address = server.line.split()[-1]
    assert server.line == f"rafiki server listening on {address}\n"
    assert (folder / "server.address").read_text() == f"{address}\n"

    for service in ("", "rafiki.v1.JobService", "rafiki.v1.AdvisorService"):
        assert _health(server, service) == health_pb2.HealthCheckResponse.SERVING
    assert {"rafiki.v1.ModelService", "rafiki.v1.ParameterService"} <= _reflected(server)

    other = Process(folder)
    assert other.line == ""
    status, errors = other.end(signal.SIGTERM)
    assert (status, errors) == (
        1,
        f"rafiki-server: another server is using {folder}; stop it or choose another data folder\n",
    )

    assert server.end(signal.SIGTERM) == (0, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "expected", "text"),
    [
        (["--lease-s=10", "--heartbeat-s=5"], 2, "at least three heartbeat intervals"),
        (["--heartbeat-s=0"], 2, "greater than 0"),
        (["--listen=192.0.2.1:1"], 1, "cannot listen on 192.0.2.1:1"),
    ],
)
def test_it_says_in_one_line_why_it_cannot_start(
    tmp_path: Path, flags: list[str], expected: int, text: str
) -> None:
    status, errors = Process(tmp_path, *flags).end(signal.SIGTERM)
    assert status == expected
    assert errors.startswith("rafiki-server: ")
    assert text in errors
    assert len(errors.splitlines()) == 1


@pytest.mark.slow
def test_every_log_line_is_json_with_ids_and_none_has_a_lease_token(
    tmp_path: Path, started: list[Process]
) -> None:
    server = Process(
        tmp_path, "--log-format=json", "--log-level=DEBUG", "--heartbeat-s=1", "--lease-s=3"
    )
    started.append(server)
    request = jobs_pb2.CreateTrainJobRequest(train_job=train_job_to_proto(_job(False)))
    study = server.jobs.CreateTrainJob(request, timeout=TIMEOUT_S).studies[0].name
    session = Session(server, study)
    kept = session.assignment()
    outcome = advisor_pb2.CompleteTrialRequest(
        name=kept.trial.name, lease_token=kept.lease.token, completed=_outcome(kept)
    )
    server.advisor.CompleteTrial(outcome, timeout=TIMEOUT_S)
    lost = session.assignment()
    session.end()  # the next session of the worker does not name the lease: it is lost
    other = Session(server, study)
    again = other.assignment()
    outcome.lease_token, outcome.name = lost.lease.token, lost.trial.name
    with pytest.raises(grpc.RpcError):
        server.advisor.CompleteTrial(outcome, timeout=TIMEOUT_S)
    other.end()
    status, text = server.end(signal.SIGTERM)

    assert (status, again.trial.name) == (0, lost.trial.name)
    lines = [json.loads(line) for line in text.splitlines()]
    assert all({"time", "level", "logger", "event", "message"} <= set(line) for line in lines)
    told = [(x["event"], x["trial"], x["attempt"], x["worker"]) for x in lines if "trial" in x]
    assert told == [
        ("trial assigned", kept.trial.name, 1, "worker-1"),
        ("trial reported", kept.trial.name, 1, "worker-1"),
        ("trial assigned", lost.trial.name, 1, "worker-1"),
        ("lease lost", lost.trial.name, 1, "worker-1"),
        ("trial assigned", lost.trial.name, 2, "worker-1"),
    ]
    assert {line["study"] for line in lines if "trial" in line} == {study}
    assert not any(x.lease.token in text for x in (kept, lost, again))


@pytest.mark.slow
def test_two_servers_on_one_database_refuse_each_other(
    tmp_path: Path, started: list[Process], postgres: PostgresServer
) -> None:
    with postgres.database() as name:
        flag = f"--database={postgres.url(name)}"
        started.append(Process(tmp_path / "first", flag))
        status, errors = Process(tmp_path / "second", flag).end(signal.SIGTERM)
        assert status == 1
        assert re.fullmatch(
            r"rafiki-server: another server, process \d+ on .+ since .+, is using "
            r"postgresql://rafiki@/test_\d+; stop it or choose another database\n",
            errors,
        )
        # Nor may two databases share the blobs of one folder.
        status, errors = Process(tmp_path / "first").end(signal.SIGTERM)
        assert (status, errors) == (
            1,
            f"rafiki-server: another server is using {tmp_path / 'first'}; "
            "stop it or choose another data folder\n",
        )
        assert started[0].end(signal.SIGTERM) == (0, "")


@pytest.mark.slow
def test_a_server_ends_once_another_has_taken_its_database(
    tmp_path: Path, started: list[Process], postgres: PostgresServer
) -> None:
    with postgres.database() as name:
        url = postgres.url(name)
        server = Process(tmp_path, f"--database={url}")
        started.append(server)
        postgres.execute(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity "
            f"WHERE datname = '{name}' AND pid <> pg_backend_pid()"
        )
        with Database(url):
            assert server.process.wait(TIMEOUT_S) == 1
        _, errors = server.end(signal.SIGTERM)
        assert errors.splitlines()[-1] == (
            "rafiki-server: another server has taken the database over; this one has stopped"
        )


def test_jax_is_left_alone_until_a_study_needs_it() -> None:
    program = "import sys, rafiki.server.app; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.slow
@pytest.mark.parametrize("is_batched", [False, True], ids=["single", "batches"])
def test_a_killed_server_proposes_what_an_unbroken_one_does(
    tmp_path: Path, started: list[Process], is_batched: bool, new_database: NewDatabase
) -> None:
    whole = _run(tmp_path / "whole", started, is_batched, kills=())
    folder = tmp_path / "broken"
    with new_database(folder) as url:
        broken = _run(
            folder,
            started,
            is_batched,
            f"--database={url}",
            kills=("created", "assigned:3", "reported:5", "answered:8", "unread:10"),
        )
        started[-1].end(signal.SIGKILL)
    assert broken == whole
    assert len(whole) == TRIALS


def _health(server: Process, service: str) -> int:
    check = server.channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    request = health_pb2.HealthCheckRequest(service=service)
    return int(check(request, timeout=TIMEOUT_S).status)


def _reflected(server: Process) -> set[str]:
    """The services that reflection lists."""
    ask = server.channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    answer = next(ask(iter([request]), timeout=TIMEOUT_S))
    return {service.name for service in answer.list_services_response.service}


def _run(
    folder: Path,
    started: list[Process],
    is_batched: bool,
    *flags: str,
    kills: tuple[str, ...],
) -> list[dict[str, Any]]:
    """Runs a study to its end, the server killed at these points; returns the proposals."""
    server = Process(folder, *flags)
    started.append(server)

    def restarted() -> Process:
        started[-1].end(signal.SIGKILL)
        started.append(Process(folder, *flags))
        return started[-1]

    request = jobs_pb2.CreateTrainJobRequest(train_job=train_job_to_proto(_job(is_batched)))
    created = server.jobs.CreateTrainJob(request, timeout=TIMEOUT_S)
    study, job = created.studies[0].name, created.train_job.name
    if "created" in kills:
        server = restarted()
    session = Session(server, study)
    proposals: list[dict[str, Any]] = []
    for number in range(1, TRIALS + 1):
        if f"unread:{number}" in kills:
            # The trial may have been assigned, but the worker never heard of it.
            server = restarted()
            session = Session(server, study)
        assignment = session.assignment()
        token = assignment.lease.token
        if f"assigned:{number}" in kills:
            server = restarted()
            session = Session(server, study, token)
            assert [lease.token for lease in session.opened.leases.leases] == [token]
        outcome = advisor_pb2.CompleteTrialRequest(
            name=assignment.trial.name, lease_token=token, completed=_outcome(assignment)
        )
        if f"reported:{number}" in kills:
            # Whether it was committed is anyone's guess: the worker reports again.
            sent = server.advisor.CompleteTrial.future(outcome, timeout=TIMEOUT_S)
            server = restarted()
            sent.cancel()
            session = Session(server, study, token)
        server.advisor.CompleteTrial(outcome, timeout=TIMEOUT_S)
        if f"answered:{number}" in kills:
            server = restarted()
            session = Session(server, study)
        trial: dict[str, Any] = MessageToDict(assignment.trial)
        proposals.append(
            {key: trial[key] for key in ("phase", "knobs", "seed", "candidates") if key in trial}
        )
    last = server.jobs.WatchTrainJob(jobs_pb2.WatchTrainJobRequest(name=job), timeout=TIMEOUT_S)
    states = [event.train_job.state for event in last if event.HasField("train_job")]
    assert states[-1] == jobs_pb2.TRAIN_JOB_STATE_SUCCEEDED
    listed = server.jobs.ListTrials(jobs_pb2.ListTrialsRequest(parent=study), timeout=TIMEOUT_S)
    assert [trial.name for trial in listed.trials] == [
        f"{study}/trials/{number}" for number in range(1, TRIALS + 1)
    ]
    assert all(trial.HasField("score") for trial in listed.trials)
    session.end()
    server.end(signal.SIGKILL)
    return proposals


def _outcome(assignment: advisor_pb2.TrialAssignment) -> advisor_pb2.TrialCompleted:
    count = len(assignment.trial.candidates)
    if count > 1:
        return advisor_pb2.TrialCompleted(candidate_scores=[0.1 * k for k in range(count)])
    return advisor_pb2.TrialCompleted(score=0.5)


def _job(is_batched: bool) -> TrainJob:
    knobs: KnobConfig = (
        {"cell": ArchKnob([["conv", "pool", "skip"]] * 6)}
        if is_batched
        else {"rate": FloatKnob(1e-4, 1.0, is_exp=True), "units": IntegerKnob(1, 1000)}
    )
    spec = StudySpec(
        knob_config=knobs,
        candidate_batch_size=5 if is_batched else 0,
        advisor=AdvisorSettings(kind=AdvisorKind.RANDOM),
    )
    return TrainJob(
        app="test",
        task="ANY",
        studies=(spec,),
        budget=Budget(model_trial_count=TRIALS),
        seed=11,
    )
