"""A server without its network, and a hand on its studies."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

import numpy as np
from sqlalchemy import text

from rafiki.model.knobs import CategoricalKnob, FloatKnob, KnobConfig
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    StudySpec,
    TrainJob,
    Trial,
    TrialError,
    TrialErrorKind,
    TrialOutcome,
)
from rafiki.server.advisors import check_budget, create_advisor, resolve_settings
from rafiki.server.domain.advisor import Advisor, AdvisorConfig, AdvisorState
from rafiki.server.domain.leases import LeaseTable
from rafiki.server.domain.names import StudyName
from rafiki.server.domain.outcomes import Outcome
from rafiki.server.domain.requests import RequestKey
from rafiki.server.domain.workers import Worker
from rafiki.server.service.job_views import JobViews
from rafiki.server.service.jobs import JobService, Schemes
from rafiki.server.service.running_jobs import RunningJobs
from rafiki.server.service.signals import NoSignals
from rafiki.server.service.study_fold import StudyFold
from rafiki.server.service.study_runner import StudyRunner
from rafiki.server.service.surroundings import Assignment, Surroundings
from rafiki.server.store.database import Database

CreateAdvisor: TypeAlias = Callable[[AdvisorConfig], Advisor]

KNOBS: KnobConfig = {"rate": FloatKnob(0.1, 0.9), "kind": CategoricalKnob(["a", "b"])}
CRASH = TrialError(kind=TrialErrorKind.CRASHED, message="killed")
RAISED = TrialError(kind=TrialErrorKind.MODEL_EXCEPTION, message="boom")
HIGH, LOW = TrialOutcome(score=0.9), TrialOutcome(score=0.1)
WORKERS = [Worker(worker_id=f"worker-{number}", capacity=1) for number in range(3)]


class Watch:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Site:
    """A server without its network."""

    database: Database
    clock: Watch
    leases: LeaseTable
    jobs: RunningJobs
    service: JobService

    create_advisor: CreateAdvisor

    @classmethod
    def on(cls, database: Database, create_advisor: CreateAdvisor = create_advisor) -> "Site":
        """A site that has just been started."""
        clock, leases, signals = Watch(), LeaseTable(), NoSignals()
        jobs = RunningJobs(
            Surroundings(
                database=database,
                clock=clock,
                leases=leases,
                signals=signals,
                create_advisor=create_advisor,
                merge=lambda study, merge: (None, "no blobs here"),
            )
        )
        schemes = Schemes(
            resolve_settings=resolve_settings,
            check_budget=check_budget,
            create_advisor=create_advisor,
        )
        service = JobService(database, clock, signals, schemes, jobs)
        return cls(database, clock, leases, jobs, service, create_advisor)

    def restarted(self, runner: StudyRunner) -> tuple["Site", StudyRunner]:
        """The same after the server was killed, with the new runner of a study; same time."""
        again = Site.on(self.database, self.create_advisor)
        again.clock.now = self.clock.now
        again.jobs.restore()
        restored = again.jobs.find(runner.facts.name)
        assert restored is not None
        return again, restored

    def create(self, trials: int = 5, **fields: object) -> StudyRunner:
        """The runner of a new RANDOM study."""
        spec = StudySpec(knob_config=KNOBS, advisor=AdvisorSettings(kind=AdvisorKind.RANDOM))
        job = TrainJob(
            **{  # type: ignore[arg-type]
                "app": "test",
                "task": "ANY",
                "studies": (spec,),
                "budget": Budget(model_trial_count=trials),
                "seed": 3,
            }
            | fields
        )
        job_id, _, _ = self.service.create(
            job,
            owner="users/local",
            request=RequestKey(),
            validate_only=False,
            check=lambda job, studies: None,
        )
        runner = self.jobs.find(StudyName(job_id, 1))
        assert runner is not None
        return runner

    def job(self, runner: StudyRunner) -> TrainJob:
        """The job of a runner, as stored."""
        with self.database.read() as connection:
            return self.views.job(connection, runner.facts.name.job)

    @property
    def views(self) -> JobViews:
        """What people read, with no worker connected."""
        return JobViews(self.jobs, self.leases, lambda: (), lambda: {})

    def loaded(self, runner: StudyRunner) -> StudyFold:
        """What a restarted server would know of the study."""
        advisor = self.create_advisor(runner.facts.advisor_config())
        with self.database.read() as connection:
            return StudyFold.load(connection, runner.facts.name, advisor, runner.facts.direction)


def assign(runner: StudyRunner, worker: Worker = WORKERS[0]) -> Assignment:
    """A trial that must be there."""
    assignment = runner.assign(worker, len(WORKERS))
    assert assignment is not None
    return assignment


def complete(runner: StudyRunner, assignment: Assignment, outcome: Outcome = HIGH) -> Trial:
    """Reports an outcome."""
    return runner.complete(assignment.lease.trial, assignment.lease.token, outcome, None)


def check(site: Site, runner: StudyRunner) -> None:
    """Memory equals what a restarted server would read."""
    fold, loaded = runner._steps.fold, site.loaded(runner)
    fold.settle()
    assert (fold.number, fold.sequence, fold.best) == (
        loaded.number,
        loaded.sequence,
        loaded.best,
    )
    assert fold.live == loaded.live
    assert fold.pending == loaded.pending
    assert plain(fold.advisor.dump()) == plain(loaded.advisor.dump())
    running = {live.lease_token for live in fold.running}
    assert {lease.token for lease in site.leases.of_study(runner.facts.name)} == running


def plain(state: AdvisorState) -> object:
    """A state that can be compared."""
    arrays = {name: np.asarray(array).tolist() for name, array in state.arrays.items()}
    return dict(state.values), arrays


@contextmanager
def no_room_in(database: Database, table: str) -> Iterator[None]:
    """Inside the block, a row inserted into the table is an IntegrityError."""
    with database.write() as connection:
        if connection.dialect.name == "sqlite":
            raising = "BEGIN SELECT RAISE(ABORT, 'full'); END"
            set_up = f"CREATE TRIGGER full_up BEFORE INSERT ON {table} {raising}"
            undo = "DROP TRIGGER full_up"
        else:
            set_up = f"ALTER TABLE {table} ADD CONSTRAINT full_up CHECK (false) NOT VALID"
            undo = f"ALTER TABLE {table} DROP CONSTRAINT full_up"
        connection.execute(text(set_up))
    yield
    with database.write() as connection:
        connection.execute(text(undo))
