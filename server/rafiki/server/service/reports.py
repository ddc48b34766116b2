"""What trials report while they run."""

import math
from collections.abc import Sequence

from rafiki.resources import TrialLog, TrialMetrics, TrialPlot, TrialProgress
from rafiki.server.domain.clock import Clock
from rafiki.server.domain.errors import InvalidArgument
from rafiki.server.domain.names import TrialName
from rafiki.server.service.report_log import LoggedReport, Report, log_report
from rafiki.server.service.running_jobs import RunningJobs
from rafiki.server.service.signals import Signals
from rafiki.server.service.study_runner import StudyRunner
from rafiki.server.store.database import Database

# A trial may declare so many plots.
_MAX_PLOTS = 100


class ReportService:
    """Stores reports of leased trials. Thread-safe.

    A report waits for its study only if the study may have to act on it.
    """

    def __init__(
        self, database: Database, clock: Clock, signals: Signals, jobs: RunningJobs
    ) -> None:
        self._database = database
        self._clock = clock
        self._signals = signals
        self._jobs = jobs

    def report(
        self,
        name: TrialName,
        token: str,
        *,
        logs: Sequence[TrialLog],
        metrics: Sequence[TrialMetrics],
        plots: Sequence[TrialPlot],
        progress: TrialProgress | None,
    ) -> int:
        """Stores what is new; returns the highest sequence stored for the attempt.

        Raises:
            ResourceNotFound: There is no such trial.
            LeaseLost: The lease is not that of its latest attempt, or the trial has ended.
            InvalidArgument: Two entries have one sequence.
        """
        report = Report(
            logs=tuple(logs), metrics=tuple(metrics), plots=tuple(plots), progress=progress
        )
        _check(report)
        runner = self._jobs.find(name.parent)
        if runner is not None and _may_stop_trials(runner, report):
            logged = runner.report(name, token, report)
        else:
            logged = self._store(name, token, report)
        if logged.has_progress:
            self._signals.job_changed(name.job)
        return logged.sequence

    def _store(self, name: TrialName, token: str, report: Report) -> LoggedReport:
        with self._database.write() as connection:
            return log_report(connection, name, token, report, self._clock())


def _may_stop_trials(runner: StudyRunner, report: Report) -> bool:
    if runner.facts.settings.early_stopping is None:
        return False
    return any(x.score is not None and math.isfinite(x.score) for x in report.metrics)


def _check(report: Report) -> None:
    if len(set(report.sequences)) < len(report.sequences):
        raise InvalidArgument(
            [("logs", "the sequences of logs and metrics must be distinct, over both together")]
        )
    if len(report.plots) > _MAX_PLOTS:
        raise InvalidArgument([("plots", f"must have at most {_MAX_PLOTS} entries")])
