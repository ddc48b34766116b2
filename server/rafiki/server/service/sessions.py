"""Open sessions: who is connected, what each worker holds, and what it is to be told.

All of it lives on the event loop and is touched by no thread.
"""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

from rafiki.resources import DrainReason
from rafiki.server.domain.leases import Lease
from rafiki.server.domain.names import StudyName
from rafiki.server.domain.studies import StudyFacts
from rafiki.server.domain.workers import Worker
from rafiki.server.service.surroundings import Assignment


@dataclass(frozen=True, slots=True)
class Introduction:
    """What all trials of a study need; comes before its first assignment."""

    facts: StudyFacts


@dataclass(frozen=True, slots=True)
class Delivery:
    """A trial to run; `is_ahead`: once another one has ended."""

    assignment: Assignment
    is_ahead: bool


@dataclass(frozen=True, slots=True)
class Renewal:
    """Leases that are extended, and tokens of those that are lost."""

    leases: tuple[Lease, ...]
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """The trial under this lease is to stop, for the reason the lease gives."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Drain:
    """No more trials will come."""

    reason: DrainReason


@dataclass(frozen=True, slots=True)
class Quarantined:
    """No trials will come until then, for this reason."""

    until: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class Superseded:
    """Another session of the same worker has been opened."""


Notice: TypeAlias = Introduction | Delivery | Renewal | Stop | Drain | Quarantined | Superseded


@dataclass(eq=False)
class Session:
    """One stream of one worker.

    `held` are the leases it runs, with the accelerators in use under each; `reserved` slots
    are about to be filled. A quarantined one gets no trials for a while. Once it is closed
    nothing reaches the worker. `untold_renewals` are answers to heartbeats still to be sent.
    """

    worker: Worker
    held: dict[str, int] = field(default_factory=dict)
    reserved: int = 0
    reserved_accelerators: int = 0
    is_draining: bool = False
    is_quarantined: bool = False
    is_closed: bool = False
    last_assigned: int = 0
    untold_renewals: int = 0
    _introduced: set[StudyName] = field(default_factory=set)
    _outbox: "asyncio.Queue[Notice]" = field(default_factory=asyncio.Queue)

    async def next_notice(self) -> Notice:
        """What to tell the worker next."""
        notice = await self._outbox.get()
        if isinstance(notice, Renewal):
            self.untold_renewals -= 1
        return notice

    @property
    def takes_trials(self) -> bool:
        """Whether it is given trials when it has room."""
        return not (self.is_draining or self.is_quarantined)

    def has_room(self, facts: StudyFacts, *, ahead: bool, without: str = "") -> bool:
        """Whether it can take another trial of a study that its worker may run.

        `ahead`: also one that has to wait there until another has ended. `without`: a lease
        that is about to end.
        """
        room = self.worker.capacity + (self.worker.prefetch if ahead else 0)
        leaving = without in self.held
        if not self.takes_trials or len(self.held) - leaving + self.reserved >= room:
            return False
        if not facts.gpu_count:
            return True
        in_use = sum(self.held.values()) - self.held.get(without, 0) + self.reserved_accelerators
        return in_use < self.worker.accelerators

    def deliver(self, assignment: Assignment) -> None:
        """Hands over a trial."""
        lease, study = assignment.lease, assignment.facts.name
        is_ahead = len(self.held) >= self.worker.capacity
        self.held[lease.token] = lease.gpu_count
        if study not in self._introduced:
            self._introduced.add(study)
            self._outbox.put_nowait(Introduction(assignment.facts))
        self._outbox.put_nowait(Delivery(assignment, is_ahead))

    def stop(self, lease: Lease) -> None:
        """Tells the worker to stop a trial, if it has been told to run it."""
        if lease.token in self.held and lease.stop_reason is not None:
            self._outbox.put_nowait(Stop(lease))

    def confirm(self, leases: list[Lease], lost: list[str]) -> None:
        """Answers a heartbeat."""
        for token in lost:
            self.held.pop(token, None)
        self.untold_renewals += 1
        self._outbox.put_nowait(Renewal(tuple(leases), tuple(lost)))

    def drain(self, reason: DrainReason) -> None:
        """Gives the worker no more trials."""
        if not self.is_draining:
            self.is_draining = True
            self._outbox.put_nowait(Drain(reason))

    def quarantine(self, until: datetime, reason: str) -> None:
        """Gives the worker no trials for a while."""
        self.is_quarantined = True
        self._outbox.put_nowait(Quarantined(until, reason))

    def supersede(self) -> None:
        """Ends the session in favour of another."""
        self.is_draining = True
        self._outbox.put_nowait(Superseded())
