"""Following a job over real gRPC: what is told, in which order, and after a break."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from tests.server.live import (
    TIMEOUT_S,
    BuildJob,
    Connect,
    OffsetClock,
    RunningServer,
    StartServer,
    code,
    reason,
)

from rafiki.v1 import jobs_pb2, trials_pb2

Responses = Iterator[jobs_pb2.WatchTrainJobResponse]


def watch(server: RunningServer, name: str, token: str = "") -> Responses:
    """Follows a job."""
    request = jobs_pb2.WatchTrainJobRequest(name=name, resume_token=token)
    responses: Responses = server.jobs.WatchTrainJob(request, timeout=TIMEOUT_S)
    return responses


def until(responses: Responses, trial: str, state: str) -> jobs_pb2.WatchTrainJobResponse:
    """The first event that shows a trial in a state."""
    for response in responses:
        found = trials_pb2.TrialState.Name(response.trial.state)
        if response.trial.name == trial and found == f"TRIAL_STATE_{state}":
            return response
    raise AssertionError("the stream has ended")


def test_watching_begins_with_the_job_and_its_studies(
    server: RunningServer, random_job: BuildJob
) -> None:
    created = server.create_job(random_job())
    responses = watch(server, created.train_job.name)
    assert next(responses).train_job == created.train_job
    second = next(responses)
    assert second.study == created.studies[0]
    assert second.resume_token


def test_every_trial_is_told_and_the_end_of_the_job_comes_last(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    created = server.create_job(random_job(trials=3))
    study = created.studies[0].name
    responses = watch(server, created.train_job.name)
    assert next(responses).HasField("train_job")
    worker = connect(server, studies=(study,))
    for _ in range(3):
        worker.complete(worker.assignment())
    told = list(responses)
    completed = {
        response.trial.name
        for response in told
        if response.trial.state == trials_pb2.TRIAL_STATE_COMPLETED
    }
    assert completed == {f"{study}/trials/{number}" for number in (1, 2, 3)}
    assert told[-1].train_job.state == jobs_pb2.TRAIN_JOB_STATE_SUCCEEDED
    assert [x.study.completed_trials for x in told if x.HasField("study")][-1] == 3


def test_after_a_break_watching_goes_on_where_it_was(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    created = server.create_job(random_job(trials=3))
    study = created.studies[0].name
    worker = connect(server, studies=(study,))
    first = worker.assignment()
    worker.complete(first)
    responses = watch(server, created.train_job.name)
    assert next(responses).HasField("train_job")
    worker.complete(worker.assignment())
    token = until(responses, f"{study}/trials/2", "COMPLETED").resume_token
    worker.complete(worker.assignment())
    told = [
        x.trial.name for x in watch(server, created.train_job.name, token) if x.HasField("trial")
    ]
    assert first.trial.name not in told
    assert f"{study}/trials/3" in told


def test_a_token_lasts_over_a_restart(
    start_server: StartServer, connect: Connect, random_job: BuildJob
) -> None:
    with start_server() as server:
        created = server.create_job(random_job(trials=1))
        name = created.train_job.name
        token = next(watch(server, name)).resume_token
    with start_server() as server:
        worker = connect(server, studies=(created.studies[0].name,))
        worker.complete(worker.assignment())
        told = list(watch(server, name, token))
        assert told[-1].train_job.state == jobs_pb2.TRAIN_JOB_STATE_SUCCEEDED
        assert any(response.HasField("trial") for response in told)


def test_watching_an_ended_job_shows_it_and_ends(
    server: RunningServer, random_job: BuildJob
) -> None:
    name = server.create_job(random_job()).train_job.name
    server.jobs.StopTrainJob(jobs_pb2.StopTrainJobRequest(name=name), timeout=TIMEOUT_S)
    told = list(watch(server, name))
    assert [response.WhichOneof("event") for response in told] == ["train_job", "study"]
    assert list(watch(server, name, told[-1].resume_token)) == []


@pytest.mark.parametrize(
    ("token", "expected"),
    [("nonsense", "INVALID_FIELD"), ("-1", "INVALID_FIELD"), ("999999999", "RESUME_TOKEN_EXPIRED")],
)
def test_a_token_that_leads_nowhere_is_refused(
    server: RunningServer, random_job: BuildJob, token: str, expected: str
) -> None:
    name = server.create_job(random_job()).train_job.name
    with pytest.raises(grpc.RpcError) as raised:
        next(watch(server, name, token))
    assert reason(raised.value) == expected


def test_a_watcher_learns_of_workers_that_come(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    created = server.create_job(random_job())
    responses = watch(server, created.train_job.name)
    assert next(responses).train_job.workers == 0
    connect(server, studies=(created.studies[0].name,))
    assert any(response.train_job.workers == 1 for response in responses)


def test_watchers_of_a_stopping_server_are_told_to_come_back(
    start_server: StartServer, random_job: BuildJob
) -> None:
    with ThreadPoolExecutor(1) as reader:
        with start_server() as server:
            responses = watch(server, server.create_job(random_job()).train_job.name)
            assert next(responses).HasField("train_job")
            rest = reader.submit(list, responses)
        with pytest.raises(grpc.RpcError) as raised:
            rest.result()
    assert code(raised.value) is grpc.StatusCode.UNAVAILABLE


def test_a_job_that_waits_for_a_lost_worker_says_so(
    server: RunningServer, connect: Connect, clock: OffsetClock, random_job: BuildJob
) -> None:
    created = server.create_job(random_job())
    worker = connect(server, studies=(created.studies[0].name,))
    lost = worker.assignment().trial.name
    responses = watch(server, created.train_job.name)
    assert not next(responses).train_job.waiting_for
    worker.vanish()
    clock.offset += server.lease
    # In either order: a lease ends in memory before its trial is pending in the database.
    says_so = is_pending = False
    for response in responses:
        says_so |= bool(response.train_job.waiting_for)
        is_pending |= (
            response.trial.name == lost and response.trial.state == trials_pb2.TRIAL_STATE_PENDING
        )
        if says_so and is_pending:
            return
    raise AssertionError("the stream has ended")
