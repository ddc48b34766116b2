"""Trials read over real gRPC: lists, rankings, and what trials report while they run."""

from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.server.live import (
    TIMEOUT_S,
    BuildJob,
    Connect,
    FakeWorker,
    OffsetClock,
    RunningServer,
    code,
    message,
    reason,
)

from rafiki.resources import Direction
from rafiki.v1 import advisor_pb2, jobs_pb2, trials_pb2

SCORES = (0.3, 0.9, 0.1, 0.9, 0.5)
NOW = Timestamp(seconds=1_700_000_000)


def run(
    server: RunningServer, connect: Connect, job: Any, scores: tuple[float, ...] = SCORES
) -> str:
    """Runs a study whose trials score so; returns its name."""
    study = server.create_job(job).studies[0].name
    worker = connect(server, studies=(study,))
    for score in scores:
        worker.complete(worker.assignment(), score)
    return str(study)


def numbers(trials: Any) -> list[int]:
    """The numbers of trials."""
    return [int(trial.name.rpartition("/")[2]) for trial in trials]


def pages(call: Any, request: Any, field: str) -> list[Any]:
    """All items of a list, read page by page."""
    items: list[Any] = []
    while True:
        response = call(request, timeout=TIMEOUT_S)
        page = getattr(response, field)
        assert len(page) <= request.page_size
        items.extend(page)
        if not response.next_page_token:
            return items
        request.page_token = response.next_page_token


@pytest.fixture
def study(server: RunningServer, connect: Connect, random_job: BuildJob) -> str:
    """A study of five trials that have ended."""
    return run(server, connect, random_job(trials=5))


def test_trials_are_listed_in_the_order_proposed(server: RunningServer, study: str) -> None:
    request = jobs_pb2.ListTrialsRequest(parent=study, page_size=2)
    assert numbers(pages(server.jobs.ListTrials, request, "trials")) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("direction", "expected"),
    [(Direction.MAXIMIZE, [2, 4, 5, 1, 3]), (Direction.MINIMIZE, [3, 1, 5, 2, 4])],
)
def test_trials_are_listed_by_score_in_the_direction_of_the_job(
    server: RunningServer,
    connect: Connect,
    random_job: BuildJob,
    direction: Direction,
    expected: list[int],
) -> None:
    study = run(server, connect, random_job(trials=5, direction=direction))
    by_score = jobs_pb2.ListTrialsRequest(
        parent=study,
        phases=[trials_pb2.TRIAL_PHASE_TUNE],
        order=jobs_pb2.TRIAL_ORDER_SCORE,
        page_size=2,
    )
    assert numbers(pages(server.jobs.ListTrials, by_score, "trials")) == expected
    best = jobs_pb2.ListBestTrialsRequest(parent=study, page_size=2)
    assert numbers(pages(server.jobs.ListBestTrials, best, "trials")) == expected


def test_trials_without_a_score_come_last_and_are_never_best(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    study = server.create_job(random_job(trials=4)).studies[0].name
    worker = connect(server, studies=(study,))
    failure = trials_pb2.TrialError(kind=trials_pb2.TRIAL_ERROR_KIND_INFEASIBLE)
    worker.report(worker.assignment(), error=failure)
    worker.complete(worker.assignment(), 0.5)
    worker.report(worker.assignment(), error=failure)
    worker.assignment()
    by_score = jobs_pb2.ListTrialsRequest(
        parent=study,
        phases=[trials_pb2.TRIAL_PHASE_TUNE],
        order=jobs_pb2.TRIAL_ORDER_SCORE,
        page_size=1,
    )
    assert numbers(pages(server.jobs.ListTrials, by_score, "trials")) == [2, 1, 3, 4][:4]
    best = jobs_pb2.ListBestTrialsRequest(parent=study, page_size=10)
    assert numbers(pages(server.jobs.ListBestTrials, best, "trials")) == [2]


def test_scores_of_several_phases_are_not_ordered_together(
    server: RunningServer, study: str
) -> None:
    request = jobs_pb2.ListTrialsRequest(parent=study, order=jobs_pb2.TRIAL_ORDER_SCORE)
    with pytest.raises(grpc.RpcError) as raised:
        server.jobs.ListTrials(request, timeout=TIMEOUT_S)
    assert reason(raised.value) == "INVALID_FIELD"
    assert "phases" in message(raised.value)


def test_trials_of_all_studies_of_a_job_are_listed_together(
    server: RunningServer, study: str
) -> None:
    everything = study.rpartition("/")[0] + "/-"
    request = jobs_pb2.ListTrialsRequest(
        parent=everything, states=[trials_pb2.TRIAL_STATE_COMPLETED], page_size=10
    )
    assert numbers(pages(server.jobs.ListTrials, request, "trials")) == [1, 2, 3, 4, 5]


def test_the_token_of_another_list_is_refused(server: RunningServer, study: str) -> None:
    request = jobs_pb2.ListTrialsRequest(parent=study, page_size=2)
    token = server.jobs.ListTrials(request, timeout=TIMEOUT_S).next_page_token
    other = jobs_pb2.ListBestTrialsRequest(parent=study, page_token=token)
    with pytest.raises(grpc.RpcError) as raised:
        server.jobs.ListBestTrials(other, timeout=TIMEOUT_S)
    assert "page_token" in message(raised.value)


def test_jobs_are_listed_newest_first(server: RunningServer, random_job: BuildJob) -> None:
    names = [server.create_job(random_job(app="listed")).train_job.name for _ in range(3)]
    request = jobs_pb2.ListTrainJobsRequest(
        app="listed", states=[jobs_pb2.TRAIN_JOB_STATE_RUNNING], page_size=2
    )
    listed = pages(server.jobs.ListTrainJobs, request, "train_jobs")
    assert [job.name for job in listed] == names[::-1]


def log(sequence: int, text: str = "hello", level: str = "INFO") -> trials_pb2.TrialLog:
    """A log line."""
    number = trials_pb2.LogLevel.Value(f"LOG_LEVEL_{level}")
    return trials_pb2.TrialLog(sequence=sequence, time=NOW, level=number, message=text)


def report(server: RunningServer, assignment: advisor_pb2.TrialAssignment, **fields: Any) -> int:
    """Reports; returns the highest sequence stored."""
    request = advisor_pb2.ReportTrialRequest(
        name=assignment.trial.name, lease_token=assignment.lease.token, **fields
    )
    return int(server.advisor.ReportTrial(request, timeout=TIMEOUT_S).stored_sequence)


@pytest.fixture
def worker(server: RunningServer, connect: Connect, random_job: BuildJob) -> FakeWorker:
    """A worker on a study of its own."""
    study = server.create_job(random_job(trials=2)).studies[0].name
    return connect(server, studies=(study,))


def test_reports_are_stored_once_and_read_in_order(
    server: RunningServer, worker: FakeWorker
) -> None:
    assignment = worker.assignment()
    values = {"loss": 0.25, "bad": float("inf")}
    metrics = trials_pb2.TrialMetrics(sequence=2, time=NOW, step=10, values=values, score=0.5)
    first: dict[str, Any] = {"logs": [log(1), log(3, level="ERROR")], "metrics": [metrics]}
    assert report(server, assignment, **first) == 3
    assert report(server, assignment, **first) == 3
    assert report(server, assignment, logs=[log(3, "again"), log(4, "more")]) == 4
    name = assignment.trial.name

    lines = pages(
        server.jobs.ListTrialLogs, jobs_pb2.ListTrialLogsRequest(parent=name, page_size=2), "logs"
    )
    assert [(x.attempt, x.sequence, x.message) for x in lines] == [
        (1, 1, "hello"),
        (1, 3, "hello"),
        (1, 4, "more"),
    ]
    severe = jobs_pb2.ListTrialLogsRequest(
        parent=name, min_level=trials_pb2.LOG_LEVEL_WARNING, page_size=9
    )
    assert [x.sequence for x in pages(server.jobs.ListTrialLogs, severe, "logs")] == [3]
    request = jobs_pb2.ListTrialMetricsRequest(parent=name, page_size=9)
    (stored,) = pages(server.jobs.ListTrialMetrics, request, "metrics")
    metrics.attempt = 1
    assert stored == metrics


def test_a_plot_replaces_the_one_of_its_title(server: RunningServer, worker: FakeWorker) -> None:
    assignment = worker.assignment()
    old = trials_pb2.TrialPlot(title="b", metrics=["loss"])
    new = trials_pb2.TrialPlot(title="b", metrics=["loss", "accuracy"], x_axis="epoch")
    other = trials_pb2.TrialPlot(title="a", metrics=["x"])
    report(server, assignment, plots=[old])
    report(server, assignment, plots=[new, other])
    request = jobs_pb2.ListTrialPlotsRequest(parent=assignment.trial.name, page_size=1)
    assert pages(server.jobs.ListTrialPlots, request, "plots") == [other, new]


def test_progress_is_shown_while_a_trial_runs(server: RunningServer, worker: FakeWorker) -> None:
    assignment = worker.assignment()
    report(server, assignment, progress=trials_pb2.TrialProgress(fraction=0.25))
    report(server, assignment, logs=[log(1)])
    assert server.trial(assignment.trial.name).progress.fraction == 0.25
    completed = worker.complete(assignment).trial
    assert not completed.HasField("progress")
    assert server.trial(assignment.trial.name) == completed


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"logs": [log(0)]}, "logs[0].sequence"),
        ({"logs": [log(1), log(1)]}, "distinct"),
        ({"logs": [log(1, "x" * 9000)]}, "logs[0].message"),
        ({"logs": [log(n, "x" * 8000) for n in range(1, 140)]}, "at most"),
        ({"progress": trials_pb2.TrialProgress(fraction=1.5)}, "progress.fraction"),
        ({"plots": [trials_pb2.TrialPlot()]}, "plots[0].title"),
    ],
)
def test_a_malformed_report_is_refused_as_a_whole(
    server: RunningServer, worker: FakeWorker, fields: dict[str, Any], text: str
) -> None:
    assignment = worker.assignment()
    with pytest.raises(grpc.RpcError) as raised:
        report(server, assignment, **fields)
    assert code(raised.value) is grpc.StatusCode.INVALID_ARGUMENT
    assert text in message(raised.value)
    assert report(server, assignment) == 0


def test_a_report_without_the_lease_is_refused(
    server: RunningServer, worker: FakeWorker, clock: OffsetClock
) -> None:
    first = worker.assignment()
    clock.offset += server.lease
    second = worker.assignment()
    with pytest.raises(grpc.RpcError) as raised:
        report(server, first, logs=[log(1)])
    assert reason(raised.value) == "LEASE_LOST"
    assert report(server, second, logs=[log(1, "second")]) == 1
    worker.complete(second)
    with pytest.raises(grpc.RpcError) as raised:
        report(server, second, logs=[log(2)])
    assert reason(raised.value) == "LEASE_LOST"
