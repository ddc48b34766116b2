"""The worker as a process, against a server that does what the test says."""

import os
import queue
import select
import signal

import grpc
import pytest
from tests.worker.fake_server import FakeServer, FakeSession, abort
from tests.worker.worker_bench import STUDY, WorkerBench, children

from rafiki.resources import StopReason, TrialPhase
from rafiki.v1 import advisor_pb2, params_pb2, trials_pb2

pytestmark = pytest.mark.slow


def opened(bench: WorkerBench) -> FakeSession:
    """A session of a worker that knows the study."""
    session = bench.server.session()
    bench.study(session)
    return session


def wait_for_lease(session: FakeSession, token: str) -> None:
    while token not in session.heartbeats.get(timeout=20):
        pass


def wait_for_child(pid: int) -> int:
    """The child of a worker whose trial has begun, as its first heartbeat tells."""
    while not (found := children(pid)):
        pass
    return found[0]


def ends_in_time(pid: int) -> bool:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([descriptor], [], [], 10.0)[0])
    finally:
        os.close(descriptor)


def test_a_worker_says_who_it_is_and_what_it_has(bench: WorkerBench) -> None:
    bench.start("--studies", f"{STUDY}")

    hello = bench.server.session().open

    assert hello.worker_id == "w"
    assert hello.capacity == 1
    assert list(hello.studies) == [STUDY]
    assert hello.devices[0].platform == advisor_pb2.PLATFORM_CPU
    assert hello.devices[0].count >= 1
    assert hello.devices[0].memory_bytes > 1 << 28
    assert list(hello.lease_tokens) == []


def test_a_trial_is_run_and_its_outcome_and_checkpoint_are_stored(bench: WorkerBench) -> None:
    bench.start()
    session = opened(bench)
    token = bench.assign(session, phase=TrialPhase.FINAL_TRAIN)

    outcome = bench.server.outcome()

    assert outcome.lease_token == token
    assert outcome.completed.score == 0.5
    assert outcome.completed.test_score == 0.75
    checkpoint = bench.server.checkpoints[outcome.completed.checkpoint]
    assert [tensor.path for tensor in checkpoint.tensors] == ["seed/constructor", "weight"]


def test_the_same_tensors_are_not_sent_again(bench: WorkerBench) -> None:
    bench.start()
    session = opened(bench)
    for _ in range(2):
        bench.assign(session)
        bench.server.outcome()

    assert len(bench.server.uploaded) == len(set(bench.server.uploaded)) == 3
    assert len(bench.server.checkpoints) == 2


def test_files_and_tensors_are_downloaded_once(bench: WorkerBench) -> None:
    bench.start()
    session = opened(bench)
    weight = bench.server.add_blob(b"\0" * 8)
    tensor = params_pb2.Tensor(path="weight", dtype=params_pb2.DTYPE_FLOAT64, digest=weight)
    for name in ("a", "b"):
        bench.server.checkpoints[name] = params_pb2.Checkpoint(name=name, tensors=[tensor])
        bench.assign(session, start_checkpoint=name)
        assert bench.server.outcome().completed.score == 0.5

    assert len(bench.server.downloaded) == len(set(bench.server.downloaded)) == 4


def test_a_checkpoint_that_is_not_there_is_a_problem_of_the_environment(
    bench: WorkerBench,
) -> None:
    bench.start()
    bench.assign(opened(bench), start_checkpoint="gone")

    error = bench.server.outcome().error

    assert error.kind == trials_pb2.TRIAL_ERROR_KIND_ENVIRONMENT
    assert "checkpoint gone" in error.message


def test_a_checkpoint_beyond_the_quota_of_the_job_is_an_error_of_the_trial_that_says_so(
    bench: WorkerBench,
) -> None:
    def refuse(method: str, context: grpc.ServicerContext) -> None:
        if method == "CreateCheckpoint":
            abort(context, grpc.StatusCode.FAILED_PRECONDITION, "QUOTA_EXCEEDED")

    bench.server.before = refuse
    bench.start()
    bench.assign(opened(bench))

    error = bench.server.outcome().error

    assert error.kind == trials_pb2.TRIAL_ERROR_KIND_ENVIRONMENT
    assert "QUOTA_EXCEEDED: quota_exceeded" in error.message


def test_data_that_are_not_there_are_a_problem_of_the_environment(bench: WorkerBench) -> None:
    bench.start()
    session = opened(bench)
    bench.server.blobs.clear()
    bench.assign(session)

    error = bench.server.outcome().error

    assert error.kind == trials_pb2.TRIAL_ERROR_KIND_ENVIRONMENT
    assert "no such blob" in error.message


def test_bytes_that_do_not_match_their_digest_are_not_used(bench: WorkerBench) -> None:
    bench.start()
    session = opened(bench)
    bench.server.blobs = {sha256: b"x" * len(d) for sha256, d in bench.server.blobs.items()}
    bench.assign(session)

    error = bench.server.outcome().error

    assert error.kind == trials_pb2.TRIAL_ERROR_KIND_ENVIRONMENT
    assert "has the digest" in error.message


def test_lines_come_with_rising_sequence_numbers(bench: WorkerBench) -> None:
    bench.start()
    bench.assign(opened(bench), mode="print")
    bench.server.outcome()

    logs = [log for report in bench.server.reports for log in report.logs]
    metrics = [entry for report in bench.server.reports for entry in report.metrics]
    plots = [plot.title for report in bench.server.reports for plot in report.plots]
    assert [log.message for log in logs] == ["printed to standard output", "logged"]
    assert {entry.values["loss"] for entry in metrics} == {0.5}
    assert [log.sequence for log in logs] + [e.sequence for e in metrics] == [1, 2, 3]
    assert plots == ["Loss"]


@pytest.mark.parametrize("mode", ["exit", "raise", "nan"])
def test_a_worker_survives_its_trials(bench: WorkerBench, mode: str) -> None:
    bench.start()
    session = opened(bench)
    bench.assign(session, mode=mode)
    bench.assign(session)

    assert bench.server.outcome().WhichOneof("outcome") == "error"
    assert bench.server.outcome().completed.score == 0.5


def test_a_stopped_trial_is_completed_and_a_cancelled_one_cancelled(bench: WorkerBench) -> None:
    bench.start()
    session = opened(bench)
    outcomes = []
    for reason in (StopReason.EARLY_STOPPED, StopReason.JOB_ENDED):
        token = bench.assign(session, mode="slow")
        wait_for_lease(session, token)
        bench.stop(session, token, reason)
        outcomes.append(bench.server.outcome().WhichOneof("outcome"))

    assert outcomes == ["completed", "cancelled"]


def test_a_trial_at_hand_runs_after_the_one_before_and_not_if_it_is_stopped_by_then(
    bench: WorkerBench,
) -> None:
    bench.start("--prefetch", "3")
    session = bench.server.session()
    assert session.open.prefetch == 3
    bench.study(session)
    first = bench.assign(session, mode="slow")
    unwanted, second = bench.assign(session, mode="slow"), bench.assign(session)
    for token in (first, unwanted, second):
        wait_for_lease(session, token)
    bench.stop(session, unwanted, StopReason.JOB_ENDED)
    bench.stop(session, first, StopReason.EARLY_STOPPED)

    outcomes = [bench.server.outcome() for _ in range(3)]

    kinds = [(outcome.lease_token, outcome.WhichOneof("outcome")) for outcome in outcomes]
    assert kinds == [(first, "completed"), (unwanted, "cancelled"), (second, "completed")]


def test_trials_at_hand_are_handed_back_by_a_worker_that_ends(bench: WorkerBench) -> None:
    worker = bench.start("--prefetch", "1")
    session = opened(bench)
    for _ in range(2):
        wait_for_lease(session, bench.assign(session, mode="slow"))
    worker.terminate()

    assert session.closed.wait(20)
    assert worker.wait(20) == 0
    assert bench.server.outcomes.empty()


def test_a_worker_that_loses_its_stream_loses_no_result(bench: WorkerBench) -> None:
    bench.start()
    session = opened(bench)
    token = bench.assign(session, mode="slow")
    wait_for_lease(session, token)
    session.break_off()

    again = bench.server.session()
    bench.stop(again, token, StopReason.EARLY_STOPPED)

    assert list(again.open.lease_tokens) == [token]
    assert bench.server.outcome().WhichOneof("outcome") == "completed"


def test_a_worker_waits_for_a_server_that_is_away(bench: WorkerBench) -> None:
    bench.start()
    session = opened(bench)
    token = bench.assign(session, mode="slow")
    wait_for_lease(session, token)
    bench.stop(session, token, StopReason.EARLY_STOPPED)
    bench.server.stop()
    blobs = bench.server.blobs
    bench.server = FakeServer(bench.server.port)
    bench.server.blobs = blobs

    again = bench.server.session()
    # The first request to stop may have been lost with its stream; a server repeats it.
    bench.stop(again, token, StopReason.EARLY_STOPPED)

    assert again.open.worker_id == "w"
    assert bench.server.outcome().lease_token == token


def test_a_trial_whose_lease_is_denied_is_dropped(bench: WorkerBench) -> None:
    bench.start()
    session = opened(bench)
    token = bench.assign(session, mode="slow")
    wait_for_lease(session, token)
    bench.server.lost.add(token)
    session.break_off()
    again = bench.server.session()
    bench.study(again)

    bench.assign(again)

    assert bench.server.outcome().lease_token == "lease-2"
    with pytest.raises(queue.Empty):
        bench.server.outcomes.get_nowait()


def test_a_result_that_comes_too_late_does_not_end_the_worker(bench: WorkerBench) -> None:
    refused: list[str] = []

    def refuse_once(method: str, context: grpc.ServicerContext) -> None:
        if method == "CompleteTrial" and not refused:
            refused.append(method)
            abort(context, grpc.StatusCode.FAILED_PRECONDITION, "LEASE_LOST")

    bench.server.before = refuse_once
    bench.start()
    session = opened(bench)
    bench.assign(session)
    bench.assign(session)

    assert bench.server.outcome().lease_token == "lease-2"
    assert refused == ["CompleteTrial"]


def test_a_call_is_repeated_until_it_is_answered(bench: WorkerBench) -> None:
    attempts: list[str] = []

    def stumble(method: str, context: grpc.ServicerContext) -> None:
        attempts.append(method)
        if attempts.count(method) < 3 and method != "StreamTrials":
            context.abort(grpc.StatusCode.UNAVAILABLE, "not now")

    bench.server.before = stumble
    bench.start()
    bench.assign(opened(bench))

    assert bench.server.outcome().completed.score == 0.5
    assert attempts.count("CompleteTrial") == 3


def test_an_outcome_the_server_refuses_is_reported_as_an_error(bench: WorkerBench) -> None:
    refused: list[str] = []

    def refuse_once(method: str, context: grpc.ServicerContext) -> None:
        if method == "CompleteTrial" and not refused:
            refused.append(method)
            abort(context, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")

    bench.server.before = refuse_once
    bench.start()
    bench.assign(opened(bench))

    assert "refused the outcome" in bench.server.outcome().error.message


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_told_to_end_hands_its_trial_back(
    bench: WorkerBench, number: signal.Signals
) -> None:
    process = bench.start()
    session = opened(bench)
    wait_for_lease(session, bench.assign(session, mode="deaf"))
    child = wait_for_child(process.pid)

    process.send_signal(number)

    assert process.wait(timeout=10) == 0
    assert session.closed.is_set()
    assert bench.server.outcomes.empty()
    assert ends_in_time(child)


def test_a_worker_without_a_server_ends_when_told(bench: WorkerBench) -> None:
    bench.server.stop()
    process = bench.start()
    assert process.stderr is not None
    while "cannot be reached" not in process.stderr.readline():
        pass

    process.terminate()

    assert process.wait(timeout=10) == 0


def test_nothing_is_left_of_a_worker_that_was_killed(bench: WorkerBench) -> None:
    process = bench.start()
    session = opened(bench)
    wait_for_lease(session, bench.assign(session, mode="deaf"))
    child = wait_for_child(process.pid)

    process.kill()
    process.wait()

    assert ends_in_time(child)


def test_a_worker_ends_when_there_is_no_work_left_for_it(bench: WorkerBench) -> None:
    process = bench.start()
    session = opened(bench)
    token = bench.assign(session, mode="slow")
    wait_for_lease(session, token)
    session.send(
        advisor_pb2.StreamTrialsResponse(
            drain=advisor_pb2.DrainSession(reason=advisor_pb2.DRAIN_REASON_NO_WORK)
        )
    )
    bench.stop(session, token, StopReason.EARLY_STOPPED)

    assert bench.server.outcome().WhichOneof("outcome") == "completed"
    assert process.wait(timeout=10) == 0
    assert session.closed.is_set()


def test_a_worker_keeps_its_trial_over_a_restart_of_the_server(bench: WorkerBench) -> None:
    bench.start()
    session = opened(bench)
    token = bench.assign(session, mode="slow")
    wait_for_lease(session, token)
    session.send(
        advisor_pb2.StreamTrialsResponse(
            drain=advisor_pb2.DrainSession(reason=advisor_pb2.DRAIN_REASON_SERVER_SHUTDOWN)
        )
    )

    again = bench.server.session()

    assert not session.closed.is_set()
    assert list(again.open.lease_tokens) == [token]


@pytest.mark.parametrize(
    ("code", "reason", "message"),
    [
        (grpc.StatusCode.ABORTED, "SESSION_SUPERSEDED", "another worker calls itself 'w'"),
        (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "refuses this worker"),
    ],
)
def test_a_worker_that_cannot_be_of_use_says_so_and_ends(
    bench: WorkerBench, code: grpc.StatusCode, reason: str, message: str
) -> None:
    bench.server.before = lambda method, context: abort(context, code, reason)
    process = bench.start()
    _, errors = process.communicate(timeout=20)

    assert process.returncode == 1
    assert message in errors
