"""What people read of jobs: pages of jobs, studies, rounds, trials and their reports."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from rafiki.resources import (
    Direction,
    LogLevel,
    Study,
    StudyRound,
    TrainJob,
    TrainJobState,
    Trial,
    TrialLog,
    TrialMetrics,
    TrialOrder,
    TrialPhase,
    TrialPlot,
    TrialState,
)
from rafiki.server.domain.errors import InvalidArgument, ResourceNotFound
from rafiki.server.domain.names import JobName, StudyName, TrialName
from rafiki.server.service.job_views import JobViews
from rafiki.server.store.database import Database
from rafiki.server.store.jobs import find_job, list_jobs
from rafiki.server.store.rankings import (
    TrialFilter,
    list_by_score,
    list_deployable,
    list_proposed,
)
from rafiki.server.store.reports import list_logs, list_metrics, list_plots
from rafiki.server.store.studies import find_study, list_rounds
from rafiki.server.store.trials import find_trial


class JobReader:
    """Reads what JobService shows. Thread-safe.

    Every `after` is the key of the last item of the page before, None on the first page;
    every list holds at most `most` items. Raises ResourceNotFound for parents that do not
    exist.
    """

    def __init__(self, database: Database, views: JobViews) -> None:
        self._database = database
        self._views = views

    def job(self, name: JobName) -> TrainJob:
        """One job."""
        with self._database.read() as connection:
            return self._views.job(connection, name.job)

    def job_and_studies(self, job_id: str) -> tuple[TrainJob, list[Study]]:
        """One job with all of its studies."""
        with self._database.read() as connection:
            return self._views.job(connection, job_id), self._views.studies(connection, job_id)

    def jobs(
        self,
        *,
        owner: str | None,
        app: str,
        states: Sequence[TrainJobState],
        after: tuple[datetime, str] | None,
        most: int,
    ) -> list[TrainJob]:
        """Jobs, newest first; `owner` None means anyone's."""
        with self._database.read() as connection:
            found = list_jobs(
                connection, owner=owner, app=app, states=states, after=after, most=most
            )
        return [self._views.with_workers(job) for job in found]

    def study(self, name: StudyName) -> Study:
        """One study."""
        with self._database.read() as connection:
            return self._views.study(connection, name)

    def studies(self, name: JobName, *, after: int, most: int) -> list[Study]:
        """The studies of a job in the order of its specs."""
        with self._database.read() as connection:
            _check_parent(connection, name)
            return self._views.studies(connection, name.job, after=after, most=most)

    def rounds(self, name: StudyName, *, after: int, most: int) -> list[StudyRound]:
        """The completed rounds of a study, in order."""
        with self._database.read() as connection:
            _check_parent(connection, name)
            return list_rounds(connection, name, after=after, most=most)

    def trial(self, name: TrialName) -> Trial:
        """One trial."""
        with self._database.read() as connection:
            return _trial(connection, name)

    def trials(
        self,
        parent: StudyName | JobName,
        *,
        states: Sequence[TrialState],
        phases: Sequence[TrialPhase],
        after: tuple[int, int] | None,
        most: int,
    ) -> list[Trial]:
        """Trials by study and number."""
        with self._database.read() as connection:
            _check_parent(connection, parent)
            which = _filter(parent, states, phases)
            return list_proposed(connection, which, after=after, most=most)

    def trials_by_score(
        self,
        parent: StudyName | JobName,
        *,
        states: Sequence[TrialState],
        phases: Sequence[TrialPhase],
        after: tuple[float | None, int, int] | None,
        most: int,
    ) -> list[Trial]:
        """Trials of one phase, best first.

        Raises:
            InvalidArgument: There is not exactly one phase: others cannot be compared.
        """
        if len(set(phases)) != 1:
            rule = f"must be exactly one phase for {TrialOrder.SCORE}: others cannot be compared"
            raise InvalidArgument([("phases", rule)])
        with self._database.read() as connection:
            direction = _check_parent(connection, parent)
            which = _filter(parent, states, phases)
            return list_by_score(connection, which, direction, after=after, most=most)

    def best_trials(
        self,
        parent: StudyName | JobName,
        *,
        after: tuple[int, float, int, int] | None,
        most: int,
    ) -> list[Trial]:
        """Deployable trials, best first."""
        study = parent.study if isinstance(parent, StudyName) else None
        with self._database.read() as connection:
            direction = _check_parent(connection, parent)
            return list_deployable(connection, parent.job, study, direction, after=after, most=most)

    def logs(
        self, name: TrialName, *, min_level: LogLevel | None, after: tuple[int, int], most: int
    ) -> list[TrialLog]:
        """Log lines by attempt and sequence."""
        with self._database.read() as connection:
            _trial(connection, name)
            return list_logs(connection, name, min_level=min_level, after=after, most=most)

    def metrics(self, name: TrialName, *, after: tuple[int, int], most: int) -> list[TrialMetrics]:
        """Metrics by attempt and sequence."""
        with self._database.read() as connection:
            _trial(connection, name)
            return list_metrics(connection, name, after=after, most=most)

    def plots(self, name: TrialName, *, after: str, most: int) -> list[TrialPlot]:
        """Plots by title."""
        with self._database.read() as connection:
            _trial(connection, name)
            return list_plots(connection, name, after=after, most=most)


def _check_parent(connection: Connection, parent: StudyName | JobName) -> Direction:
    """The direction of the job. Raises ResourceNotFound."""
    job = find_job(connection, parent.job)
    if job is None:
        raise ResourceNotFound(str(parent))
    if isinstance(parent, StudyName) and find_study(connection, parent) is None:
        raise ResourceNotFound(str(parent))
    return job.direction


def _filter(
    parent: StudyName | JobName, states: Sequence[TrialState], phases: Sequence[TrialPhase]
) -> TrialFilter:
    study = parent.study if isinstance(parent, StudyName) else None
    return TrialFilter(job=parent.job, study=study, states=tuple(states), phases=tuple(phases))


def _trial(connection: Connection, name: TrialName) -> Trial:
    live = find_trial(connection, name)
    if live is None:
        raise ResourceNotFound(str(name))
    return live.trial
