import threading
from collections.abc import Callable

import grpc
import pytest

from rafiki.resources import LogLevel
from rafiki.v1 import advisor_pb2
from rafiki.worker import reporter as module
from rafiki.worker.calls import CallRefused, LeaseLost
from rafiki.worker.reporter import Reporter

Requests = list[advisor_pb2.ReportTrialRequest]


def report(requests: Requests, fill: Callable[[Reporter], None]) -> None:
    reporter = Reporter("trial", "lease", requests.append, lambda: None)
    fill(reporter)
    reporter.finish()


def test_nothing_is_sent_where_there_is_nothing_to_say() -> None:
    requests: Requests = []

    report(requests, lambda reporter: None)

    assert requests == []


def test_lines_longer_than_8_kib_are_cut() -> None:
    requests: Requests = []

    report(requests, lambda reporter: reporter.log("ä" * 9000, LogLevel.INFO, 0.0))

    assert len(requests[0].logs[0].message.encode()) <= 8 << 10


def test_requests_stay_below_1_mib() -> None:
    requests: Requests = []

    def fill(reporter: Reporter) -> None:
        for _ in range(300):
            reporter.log("x" * 8000, LogLevel.INFO, 0.0)

    report(requests, fill)

    assert sum(len(request.logs) for request in requests) == 300
    assert max(request.ByteSize() for request in requests) < 1 << 20
    sequences = [log.sequence for request in requests for log in request.logs]
    assert sequences == list(range(1, 301))


def test_more_metrics_than_fit_one_message_are_split() -> None:
    requests: Requests = []
    values = {f"m{number}": 1.0 for number in range(100)}

    report(requests, lambda reporter: reporter.metrics(values, 3, 0.5, 0.0))

    assert [len(entry.values) for entry in requests[0].metrics] == [64, 36]
    assert [entry.HasField("score") for entry in requests[0].metrics] == [True, False]


def test_only_the_latest_progress_and_plot_are_sent() -> None:
    requests: Requests = []

    def fill(reporter: Reporter) -> None:
        reporter.plot("Loss", ("a",), "")
        reporter.plot("Loss", ("b",), "")
        reporter.progress(0.1, 5.0)
        reporter.progress(0.2, float("nan"))

    report(requests, fill)

    assert [list(plot.metrics) for plot in requests[0].plots] == [["b"]]
    assert requests[0].progress.fraction == 0.2
    assert not requests[0].progress.HasField("remaining")


def test_the_oldest_goes_when_there_is_too_much_and_it_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_ENTRIES", 10)
    requests: Requests = []

    def fill(reporter: Reporter) -> None:
        for number in range(12):
            reporter.log(str(number), LogLevel.INFO, 0.0)

    report(requests, fill)

    messages = [log.message for log in requests[0].logs]
    assert messages[:10] == [str(number) for number in range(2, 12)]
    assert messages[10].startswith("2 earlier reports were dropped")


def test_a_lost_lease_is_passed_on() -> None:
    lost = threading.Event()

    def refuse(request: advisor_pb2.ReportTrialRequest) -> None:
        raise LeaseLost(grpc.StatusCode.FAILED_PRECONDITION, "LEASE_LOST", "gone")

    reporter = Reporter("trial", "lease", refuse, lost.set)
    reporter.log("line", LogLevel.INFO, 0.0)
    reporter.finish()

    assert lost.is_set()


def test_refused_reports_do_not_end_the_trial() -> None:
    def refuse(request: advisor_pb2.ReportTrialRequest) -> None:
        raise CallRefused(grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", "no")

    reporter = Reporter("trial", "lease", refuse, lambda: pytest.fail("the lease is not lost"))
    reporter.log("line", LogLevel.INFO, 0.0)
    reporter.finish()
