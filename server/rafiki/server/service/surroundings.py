"""What studies run in, and what they hand out."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from rafiki.resources import Checkpoint, Trial
from rafiki.server.domain.advisor import Advisor, AdvisorConfig, Merge
from rafiki.server.domain.clock import Clock
from rafiki.server.domain.leases import Lease, LeaseTable
from rafiki.server.domain.names import StudyName
from rafiki.server.domain.studies import StudyFacts
from rafiki.server.service.signals import Signals
from rafiki.server.store.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What studies run in: the same for all of a server."""

    database: Database
    clock: Clock
    leases: LeaseTable
    signals: Signals
    create_advisor: Callable[[AdvisorConfig], Advisor]
    merge: Callable[[StudyName, Merge], tuple[Checkpoint | None, str]]  # see Merger.try_merge
    lease_duration: timedelta = timedelta(seconds=20)
    max_attempts: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """A trial given to a worker, with the lease to run it."""

    facts: StudyFacts
    trial: Trial
    lease: Lease
    evaluate: bool
    save: bool
