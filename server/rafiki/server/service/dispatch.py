"""Dispatch: brings studies and workers with room together, on the event loop.

Each study has a pump, a task that runs while there is a worker with room and the study
has a trial for it. What takes time, runs in threads of the dispatcher's own; one study never
waits for the advisor of another.
"""

import asyncio
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from rafiki.resources import DrainReason
from rafiki.server.domain.clock import Clock
from rafiki.server.domain.errors import ServerDraining, StorageError
from rafiki.server.domain.leases import Lease, LeaseTable
from rafiki.server.domain.names import JobName, StudyName
from rafiki.server.domain.studies import StudyFacts
from rafiki.server.domain.waiting import may_run
from rafiki.server.domain.workers import Worker
from rafiki.server.service.running_jobs import RunningJobs
from rafiki.server.service.sessions import Session
from rafiki.server.service.surroundings import Assignment

logger = logging.getLogger(__name__)

_Result = TypeVar("_Result")

_TICK_S = 0.5
# Every so many ticks all studies are looked at, should a signal have gone astray.
_SWEEP_TICKS = 10


class Dispatcher:
    """Hands trials to sessions. Its `Signals` may come from any thread, the rest may not.

    Args:
        leases: The leases that are held.
        clock: The time.
        lease_duration: How long a renewal lasts.
        job_changed: Told which jobs' change logs have grown, on the event loop.
    """

    def __init__(
        self,
        leases: LeaseTable,
        clock: Clock,
        lease_duration: timedelta,
        job_changed: Callable[[str], None],
    ) -> None:
        self._leases = leases
        self._clock = clock
        self._lease_duration = lease_duration
        self._job_changed = job_changed
        self._jobs: RunningJobs | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._executor = ThreadPoolExecutor(8, thread_name_prefix="rafiki-dispatch")
        self._lock = threading.Lock()
        self._news: deque[Callable[[], None]] = deque()
        self._is_news_due = False
        self._sessions: dict[str, Session] = {}
        self._pumps: set[StudyName] = set()
        self._again: set[StudyName] = set()
        self._moved: set[StudyName] = set()  # have something to learn, or to end by
        self._starved: set[StudyName] = set()  # have found no worker with room
        self._picky: set[StudyName] = set()  # have found one, but rather want another
        self._reserved: Counter[str] = Counter()  # slots about to be filled, by job
        self._tasks: set[asyncio.Task[None]] = set()
        self._session_left = asyncio.Event()
        self._assignments = 0
        self._last_served: dict[StudyName, int] = {}
        self.is_draining = False
        self.workers: tuple[Worker, ...] = ()  # connected now; replaced, never changed

    def start(self, jobs: RunningJobs) -> None:
        """Begins to hand out trials, on the running loop."""
        self._jobs = jobs
        self._loop = asyncio.get_running_loop()
        self._spawn(self._tick())
        self._post()
        for runner in jobs.all():
            self._move(runner.facts.name)

    async def close(self) -> None:
        """Stops handing out; steps under way are finished."""
        self.is_draining = True
        self._loop = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self._executor.shutdown)

    # Signals, from any thread.

    def study_moved(self, study: StudyName) -> None:
        """See Signals."""
        self._post(partial(self._move, study))

    def study_ended(self, study: StudyName) -> None:
        """See Signals."""
        self._post(self._drain_idle)

    def lease_ended(self, lease: Lease) -> None:
        """See Signals."""
        self._post(partial(self._free, lease))

    def lease_stopped(self, lease: Lease) -> None:
        """See Signals."""
        self._post(partial(self._stop, lease))

    def job_changed(self, job_id: str) -> None:
        """See Signals."""
        self._post(partial(self._job_changed, job_id))

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
        earlier = self._sessions.get(worker.worker_id)
        if earlier is not None:
            earlier.supersede()
        session = Session(worker)
        held, lost = self._leases.renew(tokens, worker.worker_id, self._expire_time())
        session.held = {lease.token: lease.gpu_count for lease in held}
        unknown = [
            x for x in self._leases.of_worker(worker.worker_id) if x.token not in session.held
        ]
        self._sessions[worker.worker_id] = session
        self._count_workers()
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
        await self._take_back(unknown)
        for runner in self._running_jobs.all():
            self._wake(runner.facts.name)
        return session, held, lost

    def heartbeat(self, session: Session, tokens: Iterable[str]) -> None:
        """Renews the leases that a session names."""
        held, lost = self._leases.renew(tokens, session.worker.worker_id, self._expire_time())
        session.confirm(held, lost)

    async def release(self, session: Session) -> None:
        """Takes back what a session holds: it takes no more trials and finishes none."""
        session.is_draining = session.is_closed = True
        if self._sessions.get(session.worker.worker_id) is session:
            await self._take_back(self._leases.of_worker(session.worker.worker_id))

    def leave(self, session: Session) -> None:
        """The stream of a session has ended; its leases live on until they expire."""
        session.is_draining = True
        if self._sessions.get(session.worker.worker_id) is session:
            del self._sessions[session.worker.worker_id]
            self._count_workers()
            self._session_left.set()
            logger.info("session closed worker=%s", session.worker.worker_id)

    def drain(self) -> None:
        """The server is going away: no session is opened, none gets trials."""
        self.is_draining = True
        for session in self._sessions.values():
            session.drain(DrainReason.SERVER_SHUTDOWN)

    async def quiet(self) -> None:
        """Waits until no session is open."""
        while self._sessions:
            self._session_left.clear()
            await self._session_left.wait()

    # Pumps.

    def _move(self, study: StudyName) -> None:
        if self._running_jobs.find(study) is not None:
            self._moved.add(study)
            self._wake(study)

    def _wake(self, study: StudyName) -> None:
        self._starved.discard(study)
        self._picky.discard(study)
        if study in self._pumps:
            self._again.add(study)
        elif self._running_jobs.find(study) is not None:
            self._pumps.add(study)
            self._spawn(self._pump(study))

    async def _pump(self, study: StudyName) -> None:
        try:
            self._again.add(study)
            while study in self._again and not self.is_draining:
                self._again.discard(study)
                while await self._serve(study):
                    pass
        finally:
            self._pumps.discard(study)
            self._again.discard(study)

    async def _serve(self, study: StudyName) -> bool:
        """Gives one trial of a study to a worker with room; False if there is none now."""
        runner = self._running_jobs.find(study)
        if runner is None or self.is_draining:
            return False
        facts = runner.facts
        session = self._choose(facts, runner.avoided)
        workers = self._count_able(facts)
        if session is None:
            self._starved.add(study)
            if study in self._moved and runner.is_due:
                self._moved.discard(study)
                await self._run(partial(runner.advance, workers))
                self._let_go(study)
            return False
        self._moved.discard(study)
        accelerators = 1 if facts.gpu_count else 0
        session.reserved += 1
        session.reserved_accelerators += accelerators
        self._reserved[study.job] += 1
        try:
            assignment = await self._run(partial(runner.assign, session.worker, workers))
        finally:
            session.reserved -= 1
            session.reserved_accelerators -= accelerators
            self._reserved[study.job] -= 1
        if assignment is None:
            if runner.avoided:
                self._picky.add(study)
            self._feed(self._starved)
            self._let_go(study)
            return False
        self._assignments += 1
        session.last_assigned = self._last_served[study] = self._assignments
        await self._deliver(session, assignment)
        return True

    async def _deliver(self, session: Session, assignment: Assignment) -> None:
        lease = self._leases.get(assignment.lease.token)
        if lease is None:  # taken back meanwhile, from a session that had gone
            return
        if session.is_closed or self._sessions.get(session.worker.worker_id) is not session:
            await self._take_back([lease])
            return
        session.deliver(assignment)
        session.stop(lease)

    def _choose(self, facts: StudyFacts, avoided: frozenset[str]) -> Session | None:
        job_id = facts.name.job
        if facts.gpu_count:
            in_use = self._leases.count_of_job(job_id) + self._reserved[job_id]
            if in_use >= facts.gpu_count:
                return None
        able = [session for session in self._sessions.values() if session.has_room(facts)]
        return min(
            able,
            key=lambda s: (s.worker.worker_id in avoided, len(s.held), s.last_assigned),
            default=None,
        )

    def _count_able(self, facts: StudyFacts) -> int:
        return sum(
            may_run(session.worker, facts)
            for session in self._sessions.values()
            if not session.is_draining
        )

    def _feed(self, studies: Iterable[StudyName]) -> None:
        """Wakes studies that wait for a worker, the one served longest ago first."""
        for study in sorted(studies, key=lambda study: (self._last_served.get(study, 0), study)):
            self._wake(study)

    def _let_go(self, study: StudyName) -> None:
        self._running_jobs.forget_ended(study)
        if self._running_jobs.find(study) is None:
            self._starved.discard(study)
            self._picky.discard(study)
            self._moved.discard(study)
            self._last_served.pop(study, None)
            self._drain_idle()

    # Leases.

    def _free(self, lease: Lease) -> None:
        session = self._sessions.get(lease.worker_id)
        if session is not None:
            session.held.pop(lease.token, None)
        self._feed(self._starved | self._picky)

    def _stop(self, lease: Lease) -> None:
        session = self._sessions.get(lease.worker_id)
        if session is not None:
            session.stop(lease)

    async def _take_back(self, leases: Iterable[Lease]) -> None:
        dropped = [lease for x in leases if (lease := self._leases.drop(x.token)) is not None]
        for error in await asyncio.gather(*map(self._lose, dropped), return_exceptions=True):
            if error is not None:
                raise error

    async def _tick(self) -> None:
        ticks = 0
        while True:
            await asyncio.sleep(_TICK_S)
            ticks += 1
            for lease in self._leases.take_expired(self._clock()):
                self._spawn(self._lose(lease))
            for runner in self._running_jobs.all():
                if runner.is_time_over or ticks % _SWEEP_TICKS == 0:
                    self._move(runner.facts.name)
            if ticks % _SWEEP_TICKS == 0:
                self._spawn(self._run(self._running_jobs.settle))

    async def _lose(self, lease: Lease) -> None:
        try:
            await self._run(partial(self._running_jobs.lose, lease))
        except StorageError:
            self._leases.grant(lease)  # it is lost once it expires, again
            raise

    # The rest.

    def _drain_idle(self) -> None:
        for session in self._sessions.values():
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

    def _count_workers(self) -> None:
        self.workers = tuple(session.worker for session in self._sessions.values())

    def _expire_time(self) -> datetime:
        return self._clock() + self._lease_duration

    @property
    def _running_jobs(self) -> RunningJobs:
        assert self._jobs is not None, "start comes first"
        return self._jobs

    def _post(self, *news: Callable[[], None]) -> None:
        """Has `news` run on the event loop, with one wake-up for many."""
        with self._lock:
            self._news.extend(news)
            if self._loop is None or self._is_news_due or not self._news:
                return
            self._is_news_due = True
            self._loop.call_soon_threadsafe(self._read_news)

    def _read_news(self) -> None:
        with self._lock:
            self._is_news_due = False
            news, self._news = self._news, deque()
        for item in news:
            item()

    async def _run(self, step: Callable[[], _Result]) -> _Result:
        """Runs a step in a thread, to its end even if this task is cancelled."""
        return await asyncio.shield(
            asyncio.get_running_loop().run_in_executor(self._executor, step)
        )

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            told = None if isinstance(error, StorageError) else error
            text = "a step of a study failed; it will be tried again error=%s"
            logger.error(text, error, exc_info=told)
