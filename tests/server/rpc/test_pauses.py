"""Pausing and resuming jobs over real gRPC."""

from datetime import timedelta

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

from rafiki.resources import Budget
from rafiki.v1 import jobs_pb2


def pause(server: RunningServer, name: str) -> jobs_pb2.TrainJob:
    request = jobs_pb2.PauseTrainJobRequest(name=name)
    return server.jobs.PauseTrainJob(request, timeout=TIMEOUT_S).train_job


def resume(server: RunningServer, name: str) -> jobs_pb2.TrainJob:
    request = jobs_pb2.ResumeTrainJobRequest(name=name)
    return server.jobs.ResumeTrainJob(request, timeout=TIMEOUT_S).train_job


def stop(server: RunningServer, name: str) -> jobs_pb2.TrainJob:
    request = jobs_pb2.StopTrainJobRequest(name=name)
    return server.jobs.StopTrainJob(request, timeout=TIMEOUT_S).train_job


def test_a_worker_gets_nothing_of_a_paused_job_until_it_is_resumed(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    created = server.create_job(random_job(trials=2))
    worker = connect(server, studies=(created.studies[0].name,))
    held = worker.assignment()
    assert pause(server, created.train_job.name).state == jobs_pb2.TRAIN_JOB_STATE_PAUSED
    worker.complete(held)
    assert worker.has_nothing()
    paused = server.job(created.train_job.name)
    assert (paused.waiting_for, paused.best_trial) == ("somebody to resume it", held.trial.name)
    resumed = resume(server, created.train_job.name)
    assert resumed.state == jobs_pb2.TRAIN_JOB_STATE_RUNNING
    worker.complete(worker.assignment())
    assert server.ended(created.train_job.name).state == jobs_pb2.TRAIN_JOB_STATE_SUCCEEDED


def test_a_job_paused_before_its_first_trial_waits_for_whoever_resumes_it(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    created = server.create_job(random_job())
    pause(server, created.train_job.name)
    worker = connect(server, studies=(created.studies[0].name,))
    assert worker.has_nothing()
    resume(server, created.train_job.name)
    worker.assignment()


def test_watchers_are_told_of_pauses_and_that_they_are_over(
    server: RunningServer, random_job: BuildJob
) -> None:
    name = server.create_job(random_job()).train_job.name
    request = jobs_pb2.WatchTrainJobRequest(name=name)
    responses = server.jobs.WatchTrainJob(request, timeout=TIMEOUT_S)
    states = (x.train_job.state for x in responses if x.HasField("train_job"))
    assert next(states) == jobs_pb2.TRAIN_JOB_STATE_RUNNING
    pause(server, name)
    assert next(x for x in states if x != jobs_pb2.TRAIN_JOB_STATE_RUNNING) == (
        jobs_pb2.TRAIN_JOB_STATE_PAUSED
    )
    resume(server, name)
    assert next(x for x in states if x != jobs_pb2.TRAIN_JOB_STATE_PAUSED) == (
        jobs_pb2.TRAIN_JOB_STATE_RUNNING
    )
    pause(server, name)
    stop(server, name)
    assert list(states)[-1] == jobs_pb2.TRAIN_JOB_STATE_STOPPED


def test_a_job_that_has_ended_is_neither_paused_nor_resumed(
    server: RunningServer, random_job: BuildJob
) -> None:
    name = server.create_job(random_job()).train_job.name
    stop(server, name)
    for turn in (pause, resume):
        with pytest.raises(grpc.RpcError) as refusal:
            turn(server, name)
        assert code(refusal.value) is grpc.StatusCode.FAILED_PRECONDITION
        assert reason(refusal.value) == "INVALID_STATE"


@pytest.mark.parametrize("turn", [pause, resume])
def test_jobs_that_do_not_exist_are_not_found(server: RunningServer, turn: object) -> None:
    assert callable(turn)
    with pytest.raises(grpc.RpcError) as refusal:
        turn(server, "trainJobs/ffffffff")
    assert code(refusal.value) is grpc.StatusCode.NOT_FOUND


def test_a_pause_outlives_the_server_and_costs_no_time(
    start_server: StartServer, connect: Connect, clock: OffsetClock, random_job: BuildJob
) -> None:
    budget = Budget(time=timedelta(hours=1), model_trial_count=2)
    with start_server() as server:
        created = server.create_job(random_job(budget=budget))
        name, studies = created.train_job.name, (created.studies[0].name,)
        worker = connect(server, studies=studies)
        worker.complete(worker.assignment())
        pause(server, name)
        worker.close()
    clock.offset += timedelta(hours=5)
    with start_server() as server:
        job = server.job(name)
        assert job.state == jobs_pb2.TRAIN_JOB_STATE_PAUSED
        assert job.time_used.ToTimedelta() < timedelta(hours=1)
        worker = connect(server, worker_id="worker-2", studies=studies)
        assert worker.has_nothing()
        resume(server, name)
        worker.complete(worker.assignment())
        assert server.ended(name).state == jobs_pb2.TRAIN_JOB_STATE_SUCCEEDED
