"""Dispatch: brings studies and workers with room together, on the event loop.

Each study has a pump, a task that runs while there is a worker with room and the study
has a trial for it. What takes time, runs in threads of the dispatcher's own; one study never
waits for the advisor of another.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial

from rafiki.resources import DrainReason, Trial, TrialTimings
from rafiki.server.domain.clock import Clock
from rafiki.server.domain.errors import ServerDraining
from rafiki.server.domain.leases import Lease, LeaseTable
from rafiki.server.domain.names import JobName, StudyName, TrialName
from rafiki.server.domain.outcomes import Outcome
from rafiki.server.domain.studies import StudyFacts
from rafiki.server.domain.waiting import may_run
from rafiki.server.domain.workers import Worker
from rafiki.server.service.lanes import Lanes
from rafiki.server.service.mailbox import Mailbox
from rafiki.server.service.quarantine import Quarantine, QuarantineRules
from rafiki.server.service.roster import Roster
from rafiki.server.service.running_jobs import RunningJobs
from rafiki.server.service.sessions import Session
from rafiki.server.service.study_runner import StudyRunner
from rafiki.server.service.surroundings import Assignment
from rafiki.server.service.turns import Turns

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
        self._turns = Turns(leases.count_of_job)
        self._quarantine = Quarantine(quarantine)
        self._pumps: set[StudyName] = set()
        self._again: set[StudyName] = set()
        self._moved: set[StudyName] = set()  # have something to learn, or to end by
        self._starved: set[StudyName] = set()  # have found no worker with room
        self._picky: set[StudyName] = set()  # have found one, but rather want another
        self._reserved: Counter[str] = Counter()  # slots about to be filled, by job
        self._tasks: set[asyncio.Task[None]] = set()
        self._session_left = asyncio.Event()
        self._completing: set[str] = set()  # leases whose slots are about to be filled again
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
        self._mailbox.open()
        self._spawn(self._tick())
        for runner in jobs.all():
            self._move(runner.facts.name)

    async def close(self) -> None:
        """Stops handing out; steps under way are finished."""
        self.is_draining = True
        self._mailbox.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(None, self._lanes.close)

    # Signals, from any thread.

    def study_moved(self, study: StudyName) -> None:
        """See Signals."""
        self._mailbox.post(partial(self._move, study))

    def study_ended(self, study: StudyName) -> None:
        """See Signals."""
        self._mailbox.post(self._drain_idle)

    def lease_ended(self, lease: Lease) -> None:
        """See Signals."""
        self._mailbox.post(partial(self._free, lease))

    def lease_stopped(self, lease: Lease) -> None:
        """See Signals."""
        self._mailbox.post(partial(self._stop, lease))

    def job_changed(self, job_id: str) -> None:
        """See Signals."""
        self._mailbox.post(partial(self._job_changed, job_id))

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
        self.is_draining = True
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
        """Records an outcome; answers after the commit. Raises as `RunningJobs.complete`.

        Unless another study is to be served first, the thread that has recorded it goes on
        to give the worker its next trial: the fewer threads a trial passes, the better.
        """
        lease, runner = self._leases.get(token), self._running_jobs.find(name.parent)
        session = self._roster.get(lease.worker_id) if lease is not None else None
        if lease is not None:
            self._note_outcome(lease, outcome)
        if session is None or runner is None or not self._may_follow(session, runner, token):
            record = partial(self._running_jobs.complete, name, token, outcome, timings)
            return await self._lanes.run(name.parent, record)
        answer: asyncio.Future[Trial] = asyncio.get_running_loop().create_future()
        serving = asyncio.get_running_loop().create_task(
            self._record_and_serve(name, token, outcome, timings, session, runner, answer)
        )
        self._tasks.add(serving)
        serving.add_done_callback(partial(self._reap_answered, answer))
        return await answer

    def _may_follow(self, session: Session, runner: StudyRunner, token: str) -> bool:
        """Whether the slot of a lease, once free, is for the study that has it now."""
        if self.is_draining or token in self._completing or token not in session.held:
            return False
        if session.worker.worker_id in runner.avoided:
            return False
        if not session.has_room(runner.facts, ahead=runner.sends_ahead, without=token):
            return False
        others = self._starved - {runner.facts.name}
        return not any(self._wants(study, session) for study in others)

    def _wants(self, study: StudyName, session: Session) -> bool:
        runner = self._running_jobs.find(study)
        return runner is not None and may_run(session.worker, runner.facts)

    async def _record_and_serve(
        self,
        name: TrialName,
        token: str,
        outcome: Outcome,
        timings: TrialTimings | None,
        session: Session,
        runner: StudyRunner,
        answer: "asyncio.Future[Trial]",
    ) -> None:
        workers = self._roster.count_able(runner.facts)

        def step() -> Assignment | None:
            trial = runner.complete(name, token, outcome, timings, is_followed=True)
            self._mailbox.post(partial(_answer, answer, trial))
            return runner.assign(session.worker, workers)

        self._completing.add(token)
        gpu_count = session.held.pop(token)
        try:
            with self._reserving(session, runner.facts):
                assignment = await self._lanes.run(runner.facts.name, step)
        finally:
            self._completing.discard(token)
            if self._leases.get(token) is not None:  # the outcome was refused
                session.held[token] = gpu_count
        if assignment is None:
            self._go_without(runner)
        else:
            await self._deliver(session, assignment)
        # Others may have waited for what the study has learnt.
        if self._choose(runner) is not None:
            self._wake(runner.facts.name)

    # Quarantine.

    def _note_outcome(self, lease: Lease, outcome: Outcome) -> None:
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
            self._feed(self._starved | self._picky)

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
        session = self._choose(runner)
        workers = self._roster.count_able(facts)
        if session is None:
            self._starved.add(study)
            if study in self._moved and runner.is_due:
                self._moved.discard(study)
                await self._lanes.run(study, partial(runner.advance, workers))
                self._let_go(study)
            return False
        self._moved.discard(study)
        with self._reserving(session, facts):
            assignment = await self._lanes.run(
                study, partial(runner.assign, session.worker, workers)
            )
        if assignment is None:
            self._go_without(runner)
            return False
        await self._deliver(session, assignment)
        return True

    @contextmanager
    def _reserving(self, session: Session, facts: StudyFacts) -> Iterator[None]:
        """Keeps a slot of a session for a trial of a study."""
        accelerators, job_id = int(facts.gpu_count > 0), facts.name.job
        session.reserved += 1
        session.reserved_accelerators += accelerators
        self._reserved[job_id] += 1
        try:
            yield
        finally:
            session.reserved -= 1
            session.reserved_accelerators -= accelerators
            self._reserved[job_id] -= 1

    def _go_without(self, runner: StudyRunner) -> None:
        """A study has no trial for a session that had room for one."""
        study = runner.facts.name
        if runner.avoided:
            self._picky.add(study)
        self._feed(self._starved)
        self._let_go(study)

    async def _deliver(self, session: Session, assignment: Assignment) -> None:
        session.last_assigned = self._turns.serve(assignment.facts.name)
        lease = self._leases.get(assignment.lease.token)
        if lease is None:  # taken back meanwhile, from a session that had gone
            return
        if session.is_closed or not self._roster.has(session):
            await self._take_back([lease], is_handed_back=True)
            return
        session.deliver(assignment)
        session.stop(lease)

    def _choose(self, runner: StudyRunner) -> Session | None:
        facts = runner.facts
        if facts.gpu_count:
            job_id = facts.name.job
            in_use = self._leases.count_of_job(job_id) + self._reserved[job_id]
            if in_use >= facts.gpu_count:
                return None
        return self._roster.choose(facts, runner.avoided, ahead=runner.sends_ahead)

    def _feed(self, studies: Iterable[StudyName]) -> None:
        """Wakes studies that wait for a worker, in the order of their turns."""
        for study in self._turns.order(studies):
            self._wake(study)

    def _let_go(self, study: StudyName) -> None:
        self._running_jobs.forget_ended(study)
        if self._running_jobs.find(study) is None:
            self._starved.discard(study)
            self._picky.discard(study)
            self._moved.discard(study)
            self._turns.forget(study)
            self._drain_idle()

    # Leases.

    def _free(self, lease: Lease) -> None:
        session = self._roster.get(lease.worker_id)
        if session is not None:
            session.held.pop(lease.token, None)
        if lease.token not in self._completing:  # else its slot is taken again already
            self._feed(self._starved | self._picky)

    def _stop(self, lease: Lease) -> None:
        session = self._roster.get(lease.worker_id)
        if session is not None:
            session.stop(lease)

    async def _take_back(self, leases: Iterable[Lease], *, is_handed_back: bool = False) -> None:
        dropped = [lease for x in leases if (lease := self._leases.drop(x.token)) is not None]
        for lease in dropped:
            await self._lose(lease, is_handed_back=is_handed_back)

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
                self._spawn(self._lose(lease))
            self._end_quarantines()
            for runner in self._running_jobs.all():
                if runner.is_time_over or ticks % _SWEEP_TICKS == 0:
                    self._move(runner.facts.name)

    async def _lose(self, lease: Lease, *, is_handed_back: bool = False) -> None:
        lose = partial(self._running_jobs.lose, lease, is_handed_back=is_handed_back)
        await self._lanes.run(lease.trial.parent, lose)

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

    @property
    def _running_jobs(self) -> RunningJobs:
        assert self._jobs is not None, "start comes first"
        return self._jobs

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._reap)

    def _reap_answered(self, answer: "asyncio.Future[Trial]", task: asyncio.Task[None]) -> None:
        if answer.done() or task.cancelled() or (error := task.exception()) is None:
            self._reap(task)
        else:
            self._tasks.discard(task)
            answer.set_exception(error)

    def _reap(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a step of a study failed; it will be tried again", exc_info=error)


def _answer(answer: "asyncio.Future[Trial]", trial: Trial) -> None:
    """Answers who still waits for it."""
    if not answer.done():
        answer.set_result(trial)
