"""Following a job: what has changed since a token, and a bell for whoever waits."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import TypeAlias

from sqlalchemy import Connection

from rafiki.resources import Study, StudyRound, TrainJob, Trial
from rafiki.server.domain.errors import InvalidArgument, ResumeTokenExpired
from rafiki.server.domain.names import JobName, StudyName, TrialName
from rafiki.server.service.job_views import JobViews
from rafiki.server.store.changes import (
    Change,
    ChangeKind,
    is_kept,
    last_change,
    latest_of_each,
    prune_changes,
    read_changes,
)
from rafiki.server.store.database import Database
from rafiki.server.store.studies import find_round
from rafiki.server.store.trials import find_trial

Resource: TypeAlias = TrainJob | Study | Trial | StudyRound

_BATCH = 500
# So many entries of the change log are kept, over all jobs.
KEPT_CHANGES = 200_000


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """A resource as it is now; watching goes on after `token`."""

    resource: Resource
    token: str


@dataclass(frozen=True, slots=True)
class WatchPage:
    """What has changed. `is_last`: the job has ended and all is told."""

    events: list[WatchEvent]
    position: int
    is_last: bool


class Bells:
    """Wakes the watchers of a job. On the event loop only."""

    def __init__(self) -> None:
        self._bells: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def ring(self, job_id: str) -> None:
        """Wakes everyone who watches the job."""
        for bell in self._bells.get(job_id, ()):
            bell.set()

    def ring_all(self) -> None:
        """Wakes everyone."""
        for job_id in self._bells:
            self.ring(job_id)

    def hang(self, job_id: str) -> asyncio.Event:
        """A bell for a watcher of the job."""
        bell = asyncio.Event()
        self._bells[job_id].add(bell)
        return bell

    def take_down(self, job_id: str, bell: asyncio.Event) -> None:
        """The watcher has gone."""
        self._bells[job_id].discard(bell)
        if not self._bells[job_id]:
            del self._bells[job_id]


class WatchService:
    """Reads the change log of jobs. Thread-safe."""

    def __init__(self, database: Database, views: JobViews) -> None:
        self._database = database
        self._views = views

    def prune(self) -> int:
        """Forgets the oldest changes; returns how many."""
        with self._database.write() as connection:
            return prune_changes(connection, KEPT_CHANGES)

    def begin(self, name: JobName) -> WatchPage:
        """The job and its studies as they are now. Raises ResourceNotFound."""
        with self._database.read() as connection:
            position = last_change(connection)
            job = self._views.job(connection, name.job)
            studies = self._views.studies(connection, name.job)
        resources: list[Resource] = [job, *studies]
        events = [WatchEvent(resource, str(position)) for resource in resources]
        return WatchPage(events, position, job.state.is_end)

    def resume(self, name: JobName, token: str) -> WatchPage:
        """What has changed since a token.

        Raises:
            ResourceNotFound: There is no such job.
            InvalidArgument: The token is none.
            ResumeTokenExpired: Changes after it are no longer kept.
        """
        if not (token.isascii() and token.isdigit() and len(token) < 19):
            raise InvalidArgument([("resume_token", "must be one received from WatchTrainJob")])
        with self._database.read() as connection:
            self._views.job(connection, name.job)
            if not is_kept(connection, int(token)):
                raise ResumeTokenExpired
        return self.next_page(name, int(token))

    def next_page(self, name: JobName, position: int) -> WatchPage:
        """What has changed after a position: every resource once, as it is now."""
        with self._database.read() as connection:
            log = read_changes(connection, name.job, position, _BATCH)
            events = [
                event
                for change in _with_studies(latest_of_each(log))
                if (event := self._event(connection, name.job, change)) is not None
            ]
            job = self._views.job(connection, name.job)
        if log:
            position = log[-1].change_id
        return WatchPage(events, position, job.state.is_end and len(log) < _BATCH)

    def job_now(self, name: JobName) -> TrainJob:
        """The job as it is now, with what no change tells: its workers."""
        with self._database.read() as connection:
            return self._views.job(connection, name.job)

    def _event(self, connection: Connection, job_id: str, change: Change) -> WatchEvent | None:
        resource = self._resource(connection, job_id, change)
        return None if resource is None else WatchEvent(resource, str(change.change_id))

    def _resource(self, connection: Connection, job_id: str, change: Change) -> Resource | None:
        study, number = change.study or 0, change.number or 0
        match change.kind:
            case ChangeKind.JOB:
                return self._views.job(connection, job_id)
            case ChangeKind.STUDY:
                return self._views.study(connection, StudyName(job_id, study))
            case ChangeKind.TRIAL:
                live = find_trial(connection, TrialName(job_id, study, number))
                return None if live is None else live.trial
            case ChangeKind.ROUND:
                return find_round(connection, StudyName(job_id, study), number)


def _with_studies(changes: list[Change]) -> list[Change]:
    """The changes, with each study that had trials among them behind the last of these.

    The counts of a study change with every trial; telling them once per page is enough.
    """
    last_trial = {
        change.study: change.change_id for change in changes if change.kind is ChangeKind.TRIAL
    }
    told = {change.study: change.change_id for change in changes if change.kind is ChangeKind.STUDY}
    result = []
    for change in changes:
        result.append(change)
        if (
            change.kind is ChangeKind.TRIAL
            and last_trial[change.study] == change.change_id
            and told.get(change.study, 0) < change.change_id
        ):
            result.append(Change(change.change_id, ChangeKind.STUDY, change.study, None))
    return result
