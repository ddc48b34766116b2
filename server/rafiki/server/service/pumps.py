"""Pumps: bring the trials of studies and sessions with room together, on the event loop.

Each study has a pump, a task that runs while there is a worker with room and the study
has a trial for it. What takes time, runs in the study's lane.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rafiki.resources import Trial, TrialTimings
from rafiki.server.domain.leases import Lease, LeaseTable
from rafiki.server.domain.names import StudyName, TrialName
from rafiki.server.domain.outcomes import Outcome
from rafiki.server.domain.studies import StudyFacts
from rafiki.server.domain.waiting import may_run
from rafiki.server.service.lanes import Lanes
from rafiki.server.service.roster import Roster
from rafiki.server.service.running_jobs import RunningJobs
from rafiki.server.service.sessions import Session
from rafiki.server.service.study_runner import StudyRunner
from rafiki.server.service.surroundings import Assignment
from rafiki.server.service.tasks import Tasks
from rafiki.server.service.turns import Turns


class Pumps:
    """The pumps of all studies that run.

    Args:
        jobs: The jobs that run.
        leases: The leases that are held.
        roster: The open sessions.
        lanes: Where the steps of studies run.
        tasks: Where pumps live.
        post: Runs a function on the event loop, soon. Called from any thread.
        hand_back: Takes a trial back that did not reach its worker.
        on_gone: Called when a study that has ended is let go.
    """

    def __init__(
        self,
        jobs: RunningJobs,
        leases: LeaseTable,
        roster: Roster,
        *,
        lanes: Lanes,
        tasks: Tasks,
        post: Callable[[Callable[[], None]], None],
        hand_back: Callable[[Lease], Awaitable[None]],
        on_gone: Callable[[], None],
    ) -> None:
        self._jobs = jobs
        self._leases = leases
        self._roster = roster
        self._lanes = lanes
        self._tasks = tasks
        self._post = post
        self._hand_back = hand_back
        self._on_gone = on_gone
        self._turns = Turns(leases.count_of_job)
        self._pumping: set[StudyName] = set()
        self._again: set[StudyName] = set()
        self._moved: set[StudyName] = set()  # have something to learn, or to end by
        self._starved: set[StudyName] = set()  # have found no worker with room
        self._picky: set[StudyName] = set()  # have found one, but rather want another
        self._reserved: Counter[str] = Counter()  # slots about to be filled, by job
        self._completing: set[str] = set()  # leases whose slots are about to be filled again
        self.is_draining = False

    @property
    def starved(self) -> int:
        """How many studies wait for a worker with room. May be read by any thread."""
        return len(self._starved)

    def wake_all(self) -> None:
        """Looks at every study: a worker has come."""
        for runner in self._jobs.all():
            self._wake(runner.facts.name)

    def feed(self) -> None:
        """Wakes the studies that wait for a worker, in the order of their turns."""
        for study in self._turns.order(self._starved | self._picky):
            self._wake(study)

    def move(self, study: StudyName) -> None:
        """Looks at a study: it may have something to learn, or to end by."""
        if self._jobs.find(study) is not None:
            self._moved.add(study)
            self._wake(study)

    def free(self, lease: Lease) -> None:
        """A lease has ended: its worker has room again."""
        session = self._roster.get(lease.worker_id)
        if session is not None:
            session.held.pop(lease.token, None)
        if lease.token not in self._completing:  # else its slot is taken again already
            self.feed()

    async def complete(
        self, name: TrialName, token: str, outcome: Outcome, timings: TrialTimings | None
    ) -> Trial:
        """Records an outcome; answers after the commit. Raises as `RunningJobs.complete`.

        Unless another study is to be served first, the thread that has recorded it goes on
        to give the worker its next trial: the fewer threads a trial passes, the better.
        """
        lease, runner = self._leases.get(token), self._jobs.find(name.parent)
        session = self._roster.get(lease.worker_id) if lease is not None else None
        if session is None or runner is None or not self._may_follow(session, runner, token):
            record = partial(self._jobs.complete, name, token, outcome, timings)
            return await self._lanes.run(name.parent, record)
        answer: asyncio.Future[Trial] = asyncio.get_running_loop().create_future()
        serving = self._record_and_serve(name, token, outcome, timings, session, runner, answer)
        self._tasks.spawn(serving, answer)
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
        runner = self._jobs.find(study)
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
            self._post(partial(_answer, answer, trial))
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

    def _wake(self, study: StudyName) -> None:
        self._starved.discard(study)
        self._picky.discard(study)
        if study in self._pumping:
            self._again.add(study)
        elif self._jobs.find(study) is not None:
            self._pumping.add(study)
            self._tasks.spawn(self._pump(study))

    async def _pump(self, study: StudyName) -> None:
        try:
            self._again.add(study)
            while study in self._again and not self.is_draining:
                self._again.discard(study)
                while await self._serve(study):
                    pass
        finally:
            self._pumping.discard(study)
            self._again.discard(study)

    async def _serve(self, study: StudyName) -> bool:
        """Gives one trial of a study to a worker with room; False if there is none now."""
        runner = self._jobs.find(study)
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
        for other in self._turns.order(self._starved):
            self._wake(other)
        self._let_go(study)

    async def _deliver(self, session: Session, assignment: Assignment) -> None:
        session.last_assigned = self._turns.serve(assignment.facts.name)
        lease = self._leases.get(assignment.lease.token)
        if lease is None:  # taken back meanwhile, from a session that had gone
            return
        if session.is_closed or not self._roster.has(session):
            await self._hand_back(lease)
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

    def _let_go(self, study: StudyName) -> None:
        self._jobs.forget_ended(study)
        if self._jobs.find(study) is None:
            self._starved.discard(study)
            self._picky.discard(study)
            self._moved.discard(study)
            self._turns.forget(study)
            self._on_gone()


def _answer(answer: "asyncio.Future[Trial]", trial: Trial) -> None:
    """Answers who still waits for it."""
    if not answer.done():
        answer.set_result(trial)
