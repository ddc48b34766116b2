"""What of a report is stored, inside a transaction of whoever takes it."""

import math
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from rafiki.resources import (
    TrialLog,
    TrialMetrics,
    TrialPhase,
    TrialPlot,
    TrialProgress,
    TrialState,
)
from rafiki.server.domain.advisor import Reported
from rafiki.server.domain.attempts import LiveTrial
from rafiki.server.domain.errors import LeaseLost, ResourceNotFound
from rafiki.server.domain.names import TrialName
from rafiki.server.store.changes import add_trial_change
from rafiki.server.store.events import EventKind, add_event
from rafiki.server.store.reports import insert_logs, insert_metrics, put_plots, stored_sequence
from rafiki.server.store.trials import find_trial, note_progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What an attempt says of itself; the sequences of logs and metrics are distinct."""

    logs: tuple[TrialLog, ...] = ()
    metrics: tuple[TrialMetrics, ...] = ()
    plots: tuple[TrialPlot, ...] = ()
    progress: TrialProgress | None = None

    @property
    def sequences(self) -> list[int]:
        """Those of its logs, then those of its metrics."""
        return [log.sequence for log in self.logs] + [entry.sequence for entry in self.metrics]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedReport:
    """What has been stored: the trial, the highest sequence so far, and metrics not seen before.

    `has_progress`: the trial is shown otherwise than before.
    """

    live: LiveTrial
    sequence: int
    metrics: tuple[TrialMetrics, ...]
    has_progress: bool


def log_report(
    connection: Connection, name: TrialName, token: str, report: Report, now: datetime
) -> LoggedReport:
    """Stores what is new of a report.

    Raises:
        ResourceNotFound: There is no such trial.
        LeaseLost: The lease is not that of its latest attempt, or the trial has ended.
    """
    live = find_trial(connection, name)
    if live is None:
        raise ResourceNotFound(str(name))
    if not token or live.lease_token != token or live.trial.state.is_end:
        raise LeaseLost(str(name))
    attempt = live.trial.attempt
    stored = stored_sequence(connection, name, attempt)
    metrics = tuple(entry for entry in report.metrics if entry.sequence > stored)
    insert_logs(connection, name, attempt, [x for x in report.logs if x.sequence > stored])
    insert_metrics(connection, name, attempt, metrics)
    put_plots(connection, name, report.plots)
    has_progress = report.progress is not None and live.trial.state is TrialState.RUNNING
    if has_progress and report.progress is not None:
        note_progress(connection, name, lease_token=token, progress=report.progress)
        add_trial_change(connection, name, now)
    return LoggedReport(
        live=live,
        sequence=max([stored, *report.sequences]),
        metrics=metrics,
        has_progress=has_progress,
    )


def log_scores(
    connection: Connection,
    trial: TrialName,
    report: LoggedReport,
    *,
    sequence: int,
    at_s: float,
    now: datetime,
) -> list[Reported]:
    """Stores the scores of a report as the events from `sequence` on, in their order.

    Only finite ones of a TUNE trial that runs: trials of other phases are never behind.
    """
    if report.live.trial.state is not TrialState.RUNNING:
        return []
    if report.live.trial.phase is not TrialPhase.TUNE:
        return []
    events = [
        Reported(number=trial.trial, at_s=at_s, step=entry.step, score=entry.score)
        for entry in report.metrics
        if entry.score is not None and math.isfinite(entry.score)
    ]
    for number, event in enumerate(events, start=sequence):
        add_event(
            connection,
            trial.parent,
            sequence=number,
            kind=EventKind.REPORTED,
            trial=trial.trial,
            at_s=at_s,
            time=now,
            step=event.step,
            score=event.score,
        )
    return events
