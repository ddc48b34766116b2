"""What a trial logs, sent to the server about once a second."""

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from rafiki.resources import LogLevel, TrialLog, TrialMetrics, TrialPlot, TrialProgress
from rafiki.v1 import advisor_pb2
from rafiki.wire.reports import (
    MAX_METRICS,
    trial_log_to_proto,
    trial_metrics_to_proto,
    trial_plot_to_proto,
)
from rafiki.wire.trials import trial_progress_to_proto
from rafiki.worker.assignment import WorkerClosing
from rafiki.worker.calls import CallRefused, LeaseLost

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0

# Of the 1 MiB that a request may take; the rest is for names and the last entry.
BATCH_BYTES = 900 * 1024

# While the server is away, so much is kept; then the oldest goes.
MAX_ENTRIES = 20_000
MAX_PLOTS = 64
MAX_TITLE_CHARACTERS = 200

Send = Callable[[advisor_pb2.ReportTrialRequest], object]


class Reporter:
    """Buffers the reports of one trial and sends them from a thread of its own.

    The methods that take reports are for any thread and never wait for the server.
    """

    def __init__(self, name: str, lease_token: str, send: Send, on_lost: Callable[[], None]):
        """`send` repeats until stored; `on_lost` learns that the lease is gone."""
        self._name = name
        self._lease_token = lease_token
        self._send = send
        self._on_lost = on_lost
        self._lock = threading.Lock()
        self._entries: deque[TrialLog | TrialMetrics] = deque()
        self._plots: dict[str, TrialPlot] = {}
        self._progress: TrialProgress | None = None
        self._sequence = 0
        self._dropped = 0
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reporter", daemon=True)
        self._thread.start()

    def log(self, message: str, level: LogLevel, time_s: float) -> None:
        """Takes a line."""
        with self._lock:
            self._sequence += 1
            self._put(
                TrialLog(sequence=self._sequence, time=_time(time_s), level=level, message=message)
            )

    def metrics(
        self, values: Mapping[str, float], step: int, score: float | None, time_s: float
    ) -> None:
        """Takes metrics, split where they are too many for one message."""
        items = list(values.items())
        for start in range(0, max(len(items), 1), MAX_METRICS):
            with self._lock:
                self._sequence += 1
                self._put(
                    TrialMetrics(
                        sequence=self._sequence,
                        time=_time(time_s),
                        values=dict(items[start : start + MAX_METRICS]),
                        step=max(step, 0),
                        score=score if start == 0 else None,
                    )
                )

    def plot(self, title: str, metrics: tuple[str, ...], x_axis: str) -> None:
        """Takes a plot; one of the same title replaces the one before."""
        title = title[:MAX_TITLE_CHARACTERS]
        with self._lock:
            if title and (title in self._plots or len(self._plots) < MAX_PLOTS):
                self._plots[title] = TrialPlot(title=title, metrics=metrics, x_axis=x_axis)

    def progress(self, fraction: float, remaining_s: float | None) -> None:
        """Takes the progress; only the latest counts."""
        if remaining_s is not None and not (math.isfinite(remaining_s) and remaining_s >= 0):
            remaining_s = None
        with self._lock:
            self._progress = TrialProgress(
                fraction=min(max(fraction, 0.0), 1.0), remaining_s=remaining_s
            )

    def finish(self) -> None:
        """Sends what is left and waits until it is stored, or nobody wants it."""
        self._finished.set()
        self._thread.join()

    def _put(self, entry: TrialLog | TrialMetrics) -> None:
        self._entries.append(entry)
        if len(self._entries) > MAX_ENTRIES:
            self._entries.popleft()
            self._dropped += 1

    def _run(self) -> None:
        try:
            while not self._finished.wait(INTERVAL_S):
                self._flush()
            self._flush()
        except LeaseLost:
            self._on_lost()
        except WorkerClosing:
            pass
        except CallRefused as refusal:
            # Its reports are not worth a trial.
            logger.warning("reports refused trial=%s: %s", self._name, refusal)

    def _flush(self) -> None:
        while (request := self._next_request()) is not None:
            self._send(request)

    def _next_request(self) -> advisor_pb2.ReportTrialRequest | None:
        """The next batch, taken out of the buffer; None if there is nothing to send."""
        with self._lock:
            if not (self._entries or self._plots or self._progress):
                return None
            request = advisor_pb2.ReportTrialRequest(name=self._name, lease_token=self._lease_token)
            request.plots.extend(map(trial_plot_to_proto, self._plots.values()))
            self._plots = {}
            if self._progress is not None:
                request.progress.CopyFrom(trial_progress_to_proto(self._progress))
                self._progress = None
            self._report_dropped()
            size_bytes = request.ByteSize()
            while self._entries and size_bytes < BATCH_BYTES:
                entry = self._entries.popleft()
                if isinstance(entry, TrialLog):
                    log = trial_log_to_proto(entry)
                    request.logs.append(log)
                    size_bytes += log.ByteSize() + 8
                else:
                    metrics = trial_metrics_to_proto(entry)
                    request.metrics.append(metrics)
                    size_bytes += metrics.ByteSize() + 8
            return request

    def _report_dropped(self) -> None:
        if self._dropped:
            self._sequence += 1
            message = f"{self._dropped} earlier reports were dropped: more than could be sent"
            self._dropped = 0
            self._entries.append(
                TrialLog(
                    sequence=self._sequence,
                    time=datetime.now(UTC),
                    level=LogLevel.WARNING,
                    message=message,
                )
            )


def _time(time_s: float) -> datetime:
    return datetime.fromtimestamp(time_s, UTC)
