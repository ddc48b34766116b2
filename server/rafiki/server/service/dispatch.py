"""Dispatch: sessions come and go, leases live and end, and pumps hand out trials meanwhile."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial

from rafiki.resources import DrainReason, Trial, TrialTimings
from rafiki.server.domain.clock import Clock
from rafiki.server.domain.errors import ServerDraining, StorageError
from rafiki.server.domain.leases import Lease, LeaseTable
from rafiki.server.domain.names import JobName, StudyName, TrialName
from rafiki.server.domain.outcomes import Outcome
from rafiki.server.domain.workers import Worker
from rafiki.server.service.lanes import Lanes
from rafiki.server.service.mailbox import Mailbox
from rafiki.server.service.pumps import Pumps
from rafiki.server.service.quarantine import Quarantine, QuarantineRules
from rafiki.server.service.roster import Roster
from rafiki.server.service.running_jobs import RunningJobs
from rafiki.server.service.sessions import Session
from rafiki.server.service.tasks import Tasks

logger = logging.getLogger(__name__)

_TICK_S = 0.5
# Every so many ticks all studies are looked at, should a signal have gone astray.
_SWEEP_TICKS = 10
# The clock goes on while the process or the machine sleeps.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Dispatcher:
    """Hands trials to sessions. Its `Signals` may come from any thread, the rest may not.

    Args:
        leases: The leases that are held.
        clock: The time.
        lease_duration: How long a renewal lasts.
        quarantine: When a worker is given no trials for a while.
        job_changed: Told which jobs' change logs have grown, on the event loop.
    """

    def __init__(
        self,
        leases: LeaseTable,
        clock: Clock,
        lease_duration: timedelta,
        quarantine: QuarantineRules,
        job_changed: Callable[[str], None],
    ) -> None:
        self._leases = leases
        self._clock = clock
        self._lease_duration = lease_duration
        self._job_changed = job_changed
        self._jobs: RunningJobs | None = None
        self._mailbox = Mailbox()
        self._lanes = Lanes(8, self._mailbox.post)
        self._roster = Roster()
        self._quarantine = Quarantine(quarantine)
        self._tasks = Tasks()
        self._started_pumps: Pumps | None = None
        self._session_left = asyncio.Event()
        self.is_draining = False

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Those connected now."""
        return self._roster.workers

    @property
    def quarantined(self) -> Mapping[str, str]:
        """Why workers are quarantined, by their ids."""
        return self._quarantine.reasons

    def start(self, jobs: RunningJobs) -> None:
        """Begins to hand out trials, on the running loop."""
        self._jobs = jobs
        self._started_pumps = Pumps(
            jobs,
            self._leases,
            self._roster,
            lanes=self._lanes,
            tasks=self._tasks,
            post=self._mailbox.post,
            hand_back=lambda lease: self._take_back([lease], is_handed_back=True),
            on_gone=self._drain_idle,
        )
        self._mailbox.open()
        self._tasks.spawn(self._tick())
        for runner in jobs.all():
            self._pumps.move(runner.facts.name)

    async def close(self) -> None:
        """Stops handing out; steps under way are finished."""
        self._hand_out_nothing()
        self._mailbox.close()
        await self._tasks.cancel()
        await asyncio.get_running_loop().run_in_executor(None, self._lanes.close)

    # Signals, from any thread.

    def study_moved(self, study: StudyName) -> None:
        """See Signals."""
        self._mailbox.post(lambda: self._pumps.move(study))

    def study_ended(self, study: StudyName) -> None:
        """See Signals."""
        self._mailbox.post(self._drain_idle)

    def lease_ended(self, lease: Lease) -> None:
        """See Signals."""
        self._mailbox.post(lambda: self._pumps.free(lease))

    def lease_stopped(self, lease: Lease) -> None:
        """See Signals."""
        self._mailbox.post(partial(self._stop, lease))

    def job_changed(self, job_id: str) -> None:
        """See Signals."""
        self._mailbox.post(partial(self._job_changed, job_id))

    @property
    def queues(self) -> Mapping[str, int]:
        """What waits: studies for a worker with room, steps for a thread. From any thread."""
        return {
            "studies_without_worker": self._pumps.starved,
            "dispatch_steps": self._lanes.waiting,
        }

    # Sessions, on the event loop.

    async def open(
        self, worker: Worker, tokens: Iterable[str]
    ) -> tuple[Session, list[Lease], list[str]]:
        """Opens a session; another one of the worker ends.

        Returns:
            The session, the leases it still holds, and the tokens that are lost. Leases of
            the worker that it does not name go back to their studies at once.
        """
        if self.is_draining:
            raise ServerDraining
        earlier = self._roster.get(worker.worker_id)
        if earlier is not None:
            earlier.supersede()
        session = Session(worker)
        held, lost = self._leases.renew(tokens, worker.worker_id, self._expire_time())
        session.held = {lease.token: lease.gpu_count for lease in held}
        unknown = [
            x for x in self._leases.of_worker(worker.worker_id) if x.token not in session.held
        ]
        self._roster.add(session)
        logger.info(
            "session opened worker=%s capacity=%d leases=%d",
            worker.worker_id,
            worker.capacity,
            len(held),
        )
        for lease in held:
            session.stop(lease)
        if self._is_idle(session):
            session.drain(DrainReason.NO_WORK)
        self._heed_quarantine(session)
        try:
            await self._take_back(unknown)
        except BaseException:  # the call was cut, or the database failed: nobody else will leave
            self.leave(session)
            raise
        self._pumps.wake_all()
        return session, held, lost

    def heartbeat(self, session: Session, tokens: Iterable[str]) -> None:
        """Renews the leases that a session names."""
        held, lost = self._leases.renew(tokens, session.worker.worker_id, self._expire_time())
        session.confirm(held, lost)

    async def release(self, session: Session) -> None:
        """Takes back what a session holds: it takes no more trials and finishes none."""
        session.is_draining = session.is_closed = True
        if self._roster.has(session):
            held = self._leases.of_worker(session.worker.worker_id)
            await self._take_back(held, is_handed_back=True)

    def leave(self, session: Session) -> None:
        """The stream of a session has ended; its leases live on until they expire."""
        session.is_draining = True
        if self._roster.remove(session):
            self._session_left.set()
            logger.info("session closed worker=%s", session.worker.worker_id)

    def drain(self) -> None:
        """The server is going away: no session is opened, none gets trials."""
        self._hand_out_nothing()
        for session in self._roster:
            session.drain(DrainReason.SERVER_SHUTDOWN)

    async def quiet(self) -> None:
        """Waits until no session is open."""
        while len(self._roster):
            self._session_left.clear()
            await self._session_left.wait()

    # Outcomes, on the event loop.

    async def complete(
        self, name: TrialName, token: str, outcome: Outcome, timings: TrialTimings | None
    ) -> Trial:
        """Records an outcome; answers after the commit. Raises as `RunningJobs.complete`."""
        lease = self._leases.get(token)
        if lease is not None:
            self._judge(lease, outcome)
        return await self._pumps.complete(name, token, outcome, timings)

    def _judge(self, lease: Lease, outcome: Outcome) -> None:
        """Quarantines the worker, if that is what the outcome calls for."""
        now = self._clock()
        if self._quarantine.note(lease.worker_id, outcome, now - lease.grant_time, now):
            session = self._roster.get(lease.worker_id)
            if session is not None:
                self._heed_quarantine(session)

    def _heed_quarantine(self, session: Session) -> None:
        found = self._quarantine.find(session.worker.worker_id)
        if found is not None:
            session.quarantine(*found)

    def _end_quarantines(self) -> None:
        released = self._quarantine.release(self._clock())
        for worker_id in released:
            session = self._roster.get(worker_id)
            if session is not None:
                session.is_quarantined = False
        if released:
            self._pumps.feed()

    # Leases.

    def _stop(self, lease: Lease) -> None:
        session = self._roster.get(lease.worker_id)
        if session is not None:
            session.stop(lease)

    async def _take_back(self, leases: Iterable[Lease], *, is_handed_back: bool = False) -> None:
        dropped = [lease for x in leases if (lease := self._leases.drop(x.token)) is not None]
        lose = partial(self._lose, is_handed_back=is_handed_back)
        for error in await asyncio.gather(*map(lose, dropped), return_exceptions=True):
            if error is not None:
                raise error

    async def _tick(self) -> None:
        ticks, looked_s = 0, time.clock_gettime(_CLOCK)
        # After so long it was the server that was away, not its workers: their heartbeats lie
        # unread in its sockets.
        stall_s = max(3 * _TICK_S, self._lease_duration.total_seconds() / 2)
        while True:
            await asyncio.sleep(_TICK_S)
            ticks += 1
            looked_before_s, looked_s = looked_s, time.clock_gettime(_CLOCK)
            if looked_s - looked_before_s > stall_s:
                away_s = looked_s - looked_before_s
                logger.warning("the server stood still, no lease ends now away_s=%.1f", away_s)
                self._leases.extend_all(self._expire_time())
            for lease in self._leases.take_expired(self._clock()):
                self._tasks.spawn(self._lose(lease))
            self._end_quarantines()
            for runner in self._running_jobs.all():
                if runner.is_time_over or ticks % _SWEEP_TICKS == 0:
                    self._pumps.move(runner.facts.name)
            if ticks % _SWEEP_TICKS == 0:
                self._tasks.spawn(self._settle())

    async def _settle(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._running_jobs.settle)

    async def _lose(self, lease: Lease, *, is_handed_back: bool = False) -> None:
        lose = partial(self._running_jobs.lose, lease, is_handed_back=is_handed_back)
        try:
            await self._lanes.run(lease.trial.parent, lose)
        except StorageError:
            self._leases.grant(lease)  # it is lost once it expires, again
            raise

    # The rest.

    def _drain_idle(self) -> None:
        for session in self._roster:
            if self._is_idle(session):
                session.drain(DrainReason.NO_WORK)

    def _is_idle(self, session: Session) -> bool:
        """Whether every study that the worker named has ended."""
        named = session.worker.studies
        return bool(named) and not any(self._is_running(name) for name in named)

    def _is_running(self, name: StudyName | JobName) -> bool:
        if isinstance(name, StudyName):
            runner = self._running_jobs.find(name)
            return runner is not None and not runner.is_ended
        return any(not runner.is_ended for runner in self._running_jobs.of_job(name.job))

    def _expire_time(self) -> datetime:
        return self._clock() + self._lease_duration

    def _hand_out_nothing(self) -> None:
        self.is_draining = True
        if self._started_pumps is not None:
            self._started_pumps.is_draining = True

    @property
    def _pumps(self) -> Pumps:
        assert self._started_pumps is not None, "start comes first"
        return self._started_pumps

    @property
    def _running_jobs(self) -> RunningJobs:
        assert self._jobs is not None, "start comes first"
        return self._jobs
