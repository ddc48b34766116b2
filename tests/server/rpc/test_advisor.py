"""Sessions, assignments, leases and outcomes over real gRPC."""

import math
from datetime import timedelta
from typing import Any

import grpc
import pytest
from tests.server.live import (
    BuildJob,
    Connect,
    OffsetClock,
    RunningServer,
    StartServer,
    code,
    message,
    reason,
)

from rafiki.model.knobs import ArchKnob, FixedKnob
from rafiki.resources import AdvisorKind, AdvisorSettings, Budget, StudySpec
from rafiki.v1 import advisor_pb2, jobs_pb2, trials_pb2

LEASE = timedelta(seconds=20)
CRASH = trials_pb2.TrialError(kind=trials_pb2.TRIAL_ERROR_KIND_CRASHED, message="killed")
RAISED = trials_pb2.TrialError(kind=trials_pb2.TRIAL_ERROR_KIND_MODEL_EXCEPTION, message="boom")


@pytest.fixture
def study(server: RunningServer, random_job: BuildJob) -> str:
    """A RANDOM external study of 3 trials."""
    return server.create_job(random_job(trials=3)).studies[0].name


def test_an_external_study_runs_from_creation_to_success(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    created = server.create_job(random_job(trials=3))
    study = created.studies[0].name
    worker = connect(server, studies=(study,))

    assert worker.event("study").study.name == study
    for number, score in ((1, 0.2), (2, 0.9), (3, 0.4)):
        assignment = worker.assignment()
        assert assignment.trial.name == f"{study}/trials/{number}"
        assert (assignment.evaluate, assignment.save, assignment.gpu_count) == (True, False, 0)
        completed = worker.complete(assignment, score)
        assert completed.trial.score == score

    job = server.ended(created.train_job.name)
    assert job.state == jobs_pb2.TRAIN_JOB_STATE_SUCCEEDED
    assert job.best_trial == f"{study}/trials/2"


def test_the_session_opens_with_what_the_server_chose(
    server: RunningServer, connect: Connect, study: str
) -> None:
    opened = connect(server, studies=(study,)).opened
    assert opened.heartbeat_interval.seconds == 5
    assert opened.lease_duration.seconds == 20
    assert opened.chunk_bytes == 1 << 20
    assert opened.server_version


def test_a_study_is_introduced_once_per_session(
    server: RunningServer, connect: Connect, study: str
) -> None:
    worker = connect(server, studies=(study,), capacity=2)
    events = [worker.event().WhichOneof("event") for _ in range(3)]
    assert events == ["study", "assignment", "assignment"]


def test_no_more_trials_are_assigned_than_there_is_room_for(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    study = server.create_job(random_job(trials=9)).studies[0].name
    worker = connect(server, studies=(study,), capacity=2)
    first, _ = worker.assignment(), worker.assignment()
    assert worker.has_nothing()
    worker.complete(first)
    assert worker.assignment().trial.name.endswith("/3")


def test_a_worker_that_names_no_study_gets_none_that_is_external(
    server: RunningServer, connect: Connect, study: str
) -> None:
    assert connect(server).has_nothing()


def test_a_worker_that_names_all_studies_of_a_job_gets_its_trials(
    server: RunningServer, connect: Connect, study: str
) -> None:
    job = study.rpartition("/")[0]
    assert connect(server, studies=(f"{job}/-",)).assignment().trial.name.startswith(job)


def test_a_worker_that_names_what_does_not_exist_is_told_so(
    server: RunningServer, connect: Connect
) -> None:
    with pytest.raises(grpc.RpcError) as raised:
        connect(server, studies=("trainJobs/00000000/studies/1",))
    assert reason(raised.value) == "RESOURCE_NOT_FOUND"


def test_a_session_whose_studies_have_all_ended_is_drained(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    study = server.create_job(random_job(trials=1)).studies[0].name
    worker = connect(server, studies=(study,))
    worker.complete(worker.assignment())
    drain = worker.event("drain").drain
    assert drain.reason == advisor_pb2.DRAIN_REASON_NO_WORK
    late = connect(server, worker_id="late", studies=(study,))
    assert late.event("drain").drain.reason == advisor_pb2.DRAIN_REASON_NO_WORK


def test_a_heartbeat_extends_leases_and_names_those_that_are_lost(
    server: RunningServer, connect: Connect, clock: OffsetClock, study: str
) -> None:
    worker = connect(server, studies=(study,))
    assignment = worker.assignment()
    clock.offset += timedelta(seconds=10)
    renewed = worker.heartbeat(assignment.lease.token, "no-such-token")
    assert [lease.token for lease in renewed.leases] == [assignment.lease.token]
    assert renewed.leases[0].expire_time.seconds >= assignment.lease.expire_time.seconds + 9
    assert renewed.lost_lease_tokens == ["no-such-token"]


def test_the_lease_of_another_worker_cannot_be_renewed(
    server: RunningServer, connect: Connect, study: str
) -> None:
    assignment = connect(server, studies=(study,)).assignment()
    other = connect(server, worker_id="other", studies=(study,))
    renewed = other.heartbeat(assignment.lease.token)
    assert renewed.lost_lease_tokens == [assignment.lease.token]


def test_a_lost_lease_returns_the_trial_with_the_same_knobs_and_seed(
    server: RunningServer, connect: Connect, clock: OffsetClock, random_job: BuildJob
) -> None:
    study = server.create_job(random_job(trials=1)).studies[0].name
    silent = connect(server, studies=(study,))
    first = silent.assignment()
    clock.offset += LEASE
    silent.vanish()
    second = connect(server, worker_id="other", studies=(study,)).assignment()
    assert second.trial.name == first.trial.name
    assert (second.trial.attempt, second.trial.worker) == (2, "other")
    assert second.trial.knobs == first.trial.knobs
    assert second.trial.seed == first.trial.seed
    assert second.lease.token != first.lease.token


def test_a_trial_whose_lease_was_lost_three_times_is_errored(
    server: RunningServer, connect: Connect, clock: OffsetClock, study: str
) -> None:
    worker = connect(server, studies=(study,))
    for attempt in (1, 2, 3):
        lost = worker.assignment()
        assert lost.trial.attempt == attempt
        clock.offset += LEASE
    assert worker.assignment().trial.name.endswith("/2")
    trial = server.trial(lost.trial.name)
    assert trial.state == trials_pb2.TRIAL_STATE_ERRORED
    assert trial.error.kind == trials_pb2.TRIAL_ERROR_KIND_WORKER_LOST
    with pytest.raises(grpc.RpcError) as raised:
        worker.complete(lost)
    assert reason(raised.value) == "LEASE_LOST"


def test_a_late_outcome_is_accepted_while_the_trial_was_not_assigned_again(
    server: RunningServer, connect: Connect, clock: OffsetClock, study: str
) -> None:
    worker = connect(server, studies=(study,))
    assignment = worker.assignment()
    worker.vanish()
    clock.offset += LEASE
    server.await_trial(assignment.trial.name, "PENDING")
    assert worker.complete(assignment, 0.7).trial.state == trials_pb2.TRIAL_STATE_COMPLETED


def test_an_outcome_of_a_trial_that_was_assigned_again_is_refused(
    server: RunningServer, connect: Connect, clock: OffsetClock, study: str
) -> None:
    worker = connect(server, studies=(study,))
    first = worker.assignment()
    clock.offset += LEASE
    second = worker.assignment()
    with pytest.raises(grpc.RpcError) as raised:
        worker.complete(first, 0.1)
    assert code(raised.value) is grpc.StatusCode.FAILED_PRECONDITION
    assert reason(raised.value) == "LEASE_LOST"
    assert worker.complete(second, 0.2).trial.score == 0.2


def test_an_outcome_is_counted_once_however_often_it_is_reported(
    server: RunningServer, connect: Connect, study: str
) -> None:
    worker = connect(server, studies=(study,))
    assignment = worker.assignment()
    answers = [worker.complete(assignment, score) for score in (0.5, 0.5, 0.9)]
    assert [answer.trial.score for answer in answers] == [0.5, 0.5, 0.5]
    job = study.rpartition("/studies")[0]
    assert server.study(job).completed_trials == 1


def test_an_outcome_without_a_lease_is_refused(
    server: RunningServer, connect: Connect, study: str
) -> None:
    worker = connect(server, studies=(study,))
    assignment = worker.assignment()
    assignment.lease.token = "made-up"
    with pytest.raises(grpc.RpcError) as raised:
        worker.complete(assignment)
    assert reason(raised.value) == "LEASE_LOST"
    assignment.trial.name = f"{study}/trials/99"
    with pytest.raises(grpc.RpcError) as raised:
        worker.complete(assignment)
    assert reason(raised.value) == "RESOURCE_NOT_FOUND"


@pytest.mark.parametrize(
    "outcome",
    [
        {"completed": advisor_pb2.TrialCompleted(score=math.nan)},
        {"completed": advisor_pb2.TrialCompleted(score=math.inf)},
        {"completed": advisor_pb2.TrialCompleted(score=0.5, test_score=-math.inf)},
        {"completed": advisor_pb2.TrialCompleted(score=0.5, test_score=0.5)},
        {"completed": advisor_pb2.TrialCompleted(score=0.5, checkpoint="trainJobs/1")},
        {"completed": advisor_pb2.TrialCompleted(score=0.5, candidate_scores=[0.5])},
        {"completed": advisor_pb2.TrialCompleted()},
        {"error": trials_pb2.TrialError(message="no kind")},
        {"error": trials_pb2.TrialError(kind=trials_pb2.TRIAL_ERROR_KIND_WORKER_LOST)},
        {"cancelled": advisor_pb2.TrialCancelled()},
        {},
    ],
)
def test_an_impossible_outcome_is_refused_and_changes_nothing(
    server: RunningServer, connect: Connect, study: str, outcome: dict[str, Any]
) -> None:
    worker = connect(server, studies=(study,))
    assignment = worker.assignment()
    before = server.trial(assignment.trial.name)
    with pytest.raises(grpc.RpcError) as raised:
        worker.report(assignment, **outcome)
    assert code(raised.value) is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(raised.value) == "INVALID_FIELD"
    assert server.trial(assignment.trial.name) == before
    assert worker.complete(assignment).trial.state == trials_pb2.TRIAL_STATE_COMPLETED


def test_candidates_are_scored_one_by_one_and_nan_is_unscored(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    spec = StudySpec(
        knob_config={"cell": ArchKnob([["a", "b", "c"]] * 4)},
        candidate_batch_size=3,
        advisor=AdvisorSettings(kind=AdvisorKind.RANDOM),
    )
    created = server.create_job(random_job(trials=1, studies=(spec,)))
    worker = connect(server, studies=(created.studies[0].name,))
    assignment = worker.assignment()
    assert len(assignment.trial.candidates) == 3
    with pytest.raises(grpc.RpcError) as raised:
        worker.report(assignment, completed=advisor_pb2.TrialCompleted(candidate_scores=[1.0]))
    assert reason(raised.value) == "INVALID_FIELD"
    scores = advisor_pb2.TrialCompleted(candidate_scores=[0.25, math.nan, 0.75])
    trial = worker.report(assignment, completed=scores).trial
    assert trial.score == 0.75
    assert [c.score if c.HasField("score") else None for c in trial.candidates] == [
        0.25,
        None,
        0.75,
    ]
    assert server.trial(trial.name) == trial


def test_a_crash_is_tried_again_and_its_report_may_be_repeated(
    server: RunningServer, connect: Connect, study: str
) -> None:
    worker = connect(server, studies=(study,))
    first = worker.assignment()
    answer = worker.report(first, error=CRASH)
    assert answer.trial.state == trials_pb2.TRIAL_STATE_PENDING
    assert not answer.trial.HasField("error")
    second = worker.assignment()
    assert (second.trial.name, second.trial.attempt) == (first.trial.name, 2)
    worker.report(second, error=CRASH)
    third = worker.assignment()
    ended = worker.report(third, error=CRASH).trial
    assert ended.state == trials_pb2.TRIAL_STATE_ERRORED
    assert ended.error == CRASH
    assert worker.report(third, error=CRASH).trial == ended


def test_after_a_crash_another_worker_is_preferred(
    server: RunningServer, connect: Connect, study: str
) -> None:
    first = connect(server, studies=(study,))
    crashed = first.assignment()
    second = connect(server, worker_id="worker-2", studies=(study,))
    other = second.assignment()
    first.report(crashed, error=CRASH)
    assert first.assignment().trial.name != crashed.trial.name
    second.complete(other)
    assert second.assignment().trial.name == crashed.trial.name


def test_what_a_model_raises_is_not_tried_again(
    server: RunningServer, connect: Connect, study: str
) -> None:
    worker = connect(server, studies=(study,))
    assignment = worker.assignment()
    trial = worker.report(assignment, error=RAISED).trial
    assert trial.state == trials_pb2.TRIAL_STATE_ERRORED
    assert worker.assignment().trial.name != assignment.trial.name


def test_a_study_of_which_nothing_succeeded_has_failed(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    spec = StudySpec(knob_config={"a": FixedKnob(1)})
    created = server.create_job(random_job(studies=(spec,), budget=Budget(model_trial_count=1)))
    worker = connect(server, studies=(created.studies[0].name,))
    worker.report(worker.assignment(), error=RAISED)
    assert server.ended(created.train_job.name).state == jobs_pb2.TRAIN_JOB_STATE_FAILED
    assert "boom" in server.study(created.train_job.name).end_message


def test_a_closed_session_gives_its_trials_back_at_once(
    server: RunningServer, connect: Connect, study: str
) -> None:
    worker = connect(server, studies=(study,))
    first = worker.assignment()
    worker.close()
    again = connect(server, worker_id="other", studies=(study,)).assignment()
    assert (again.trial.name, again.trial.attempt) == (first.trial.name, 2)


def test_a_broken_stream_keeps_its_leases_for_the_next_session(
    server: RunningServer, connect: Connect, study: str
) -> None:
    worker = connect(server, studies=(study,))
    assignment = worker.assignment()
    worker.vanish()
    again = connect(server, studies=(study,), lease_tokens=(assignment.lease.token, "other"))
    assert [x.token for x in again.opened.leases.leases] == [assignment.lease.token]
    assert again.opened.leases.lost_lease_tokens == ["other"]
    assert again.has_nothing()
    assert again.complete(assignment).trial.attempt == 1


def test_a_lease_that_the_next_session_does_not_name_is_given_back(
    server: RunningServer, connect: Connect, study: str
) -> None:
    worker = connect(server, studies=(study,))
    lost = worker.assignment()
    worker.vanish()
    again = connect(server, studies=(study,)).assignment()
    assert (again.trial.name, again.trial.attempt) == (lost.trial.name, 2)


def test_a_second_session_of_a_worker_ends_the_first(
    server: RunningServer, connect: Connect, study: str
) -> None:
    first = connect(server, studies=(study,))
    token = first.assignment().lease.token
    second = connect(server, studies=(study,), lease_tokens=(token,))
    with pytest.raises(grpc.RpcError) as raised:
        first.event("drain")
    assert code(raised.value) is grpc.StatusCode.ABORTED
    assert reason(raised.value) == "SESSION_SUPERSEDED"
    assert second.heartbeat(token).leases[0].token == token


@pytest.mark.parametrize(
    "messages",
    [
        [{"heartbeat": advisor_pb2.Heartbeat()}],
        [{"close": advisor_pb2.CloseSession()}],
        [{}],
    ],
)
def test_a_session_that_does_not_begin_with_open_is_refused(
    server: RunningServer, connect: Connect, messages: list[dict[str, Any]]
) -> None:
    worker = connect(server, opens=False)
    for words in messages:
        worker.send(**words)
    with pytest.raises(grpc.RpcError) as raised:
        worker.event()
    assert reason(raised.value) == "PROTOCOL_VIOLATION"


@pytest.mark.parametrize("words", [{"open": advisor_pb2.OpenSession()}, {}])
def test_a_session_that_speaks_out_of_turn_is_ended(
    server: RunningServer, connect: Connect, study: str, words: dict[str, Any]
) -> None:
    worker = connect(server, studies=(study,))
    assignment = worker.assignment()
    worker.send(**words)
    with pytest.raises(grpc.RpcError) as raised:
        worker.event("drain")
    assert reason(raised.value) == "PROTOCOL_VIOLATION"
    assert worker.complete(assignment).trial.state == trials_pb2.TRIAL_STATE_COMPLETED


@pytest.mark.parametrize(
    ("field", "opening"),
    [
        ("open.worker_id", {"worker_id": "", "capacity": 1}),
        ("open.worker_id", {"worker_id": "x" * 129, "capacity": 1}),
        ("open.capacity", {"worker_id": "w", "capacity": 0}),
        ("open.studies[0]", {"worker_id": "w", "capacity": 1, "studies": ["studies/1"]}),
        ("open.devices", {"worker_id": "w", "capacity": 1, "devices": []}),
    ],
)
def test_a_malformed_opening_is_refused(
    server: RunningServer, connect: Connect, field: str, opening: dict[str, Any]
) -> None:
    devices = [advisor_pb2.WorkerDevice(platform=advisor_pb2.PLATFORM_CPU, count=1)]
    worker = connect(server, opens=False)
    worker.send(open=advisor_pb2.OpenSession(**({"devices": devices} | opening)))
    with pytest.raises(grpc.RpcError) as raised:
        worker.event()
    assert reason(raised.value) == "INVALID_FIELD"
    assert field in message(raised.value)


def test_a_worker_that_sends_no_heartbeats_loses_its_stream(
    start_server: StartServer, connect: Connect
) -> None:
    with start_server(heartbeat_s=0.1, lease_s=0.4) as server:
        worker = connect(server)
        with pytest.raises(grpc.RpcError) as raised:
            worker.event("drain")
        assert code(raised.value) is grpc.StatusCode.DEADLINE_EXCEEDED


def test_an_oversized_message_is_refused_and_the_server_goes_on(
    server: RunningServer, connect: Connect, study: str
) -> None:
    worker = connect(server, studies=(study,))
    assignment = worker.assignment()
    huge = trials_pb2.TrialError(kind=trials_pb2.TRIAL_ERROR_KIND_CRASHED, message="x" * (5 << 20))
    with pytest.raises(grpc.RpcError) as raised:
        worker.report(assignment, error=huge)
    assert code(raised.value) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert worker.complete(assignment).trial.state == trials_pb2.TRIAL_STATE_COMPLETED


def test_an_oversized_message_ends_a_session_cleanly(
    server: RunningServer, connect: Connect, study: str
) -> None:
    worker = connect(server, studies=(study,))
    worker.send(heartbeat=advisor_pb2.Heartbeat(lease_tokens=["x" * (5 << 20)]))
    with pytest.raises(grpc.RpcError) as raised:
        worker.event("drain")
    assert code(raised.value) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert connect(server, worker_id="other").has_nothing()


def test_a_stopping_server_drains_sessions(
    start_server: StartServer, connect: Connect, random_job: BuildJob
) -> None:
    with start_server() as server:
        study = server.create_job(random_job()).studies[0].name
        worker = connect(server, studies=(study,))
        assignment = worker.assignment()
    drain = worker.event("drain").drain
    assert drain.reason == advisor_pb2.DRAIN_REASON_SERVER_SHUTDOWN
    with start_server() as server:
        again = connect(server, studies=(study,), lease_tokens=(assignment.lease.token,))
        assert again.complete(assignment).trial.attempt == 1
