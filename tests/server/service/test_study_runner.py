"""Studies without sessions: whatever happens, memory equals the database, which equals the log."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from rafiki.model.knobs import ArchKnob, CategoricalKnob, FloatKnob, KnobConfig
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    EndReason,
    StudySpec,
    TrainJob,
    TrainJobState,
    Trial,
    TrialError,
    TrialErrorKind,
    TrialOutcome,
    TrialState,
)
from rafiki.server.advisors import check_budget, create_advisor, resolve_settings
from rafiki.server.domain.advisor import AdvisorState
from rafiki.server.domain.errors import DomainError, LeaseLost
from rafiki.server.domain.leases import LeaseTable
from rafiki.server.domain.names import StudyName, TrialName
from rafiki.server.domain.outcomes import Cancelled, Outcome
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

    @classmethod
    def on(cls, database: Database) -> "Site":
        """A site that has just been started."""
        clock, leases, signals = Watch(), LeaseTable(), NoSignals()
        jobs = RunningJobs(
            Surroundings(
                database=database,
                clock=clock,
                leases=leases,
                signals=signals,
                create_advisor=create_advisor,
            )
        )
        schemes = Schemes(
            resolve_settings=resolve_settings,
            check_budget=check_budget,
            create_advisor=create_advisor,
        )
        return cls(
            database, clock, leases, jobs, JobService(database, clock, signals, schemes, jobs)
        )

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
            job, owner="users/local", request=RequestKey(), validate_only=False
        )
        runner = self.jobs.find(StudyName(job_id, 1))
        assert runner is not None
        return runner

    def job(self, runner: StudyRunner) -> TrainJob:
        """The job of a runner, as stored."""
        with self.database.read() as connection:
            views = JobViews(self.jobs, self.leases, lambda: ())
            return views.job(connection, runner.facts.name.job)

    def loaded(self, runner: StudyRunner) -> StudyFold:
        """What a restarted server would know of the study."""
        advisor = create_advisor(runner.facts.advisor_config())
        with self.database.read() as connection:
            return StudyFold.load(connection, runner.facts.name, advisor, runner.facts.direction)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with Database.in_folder(tmp_path_factory.mktemp("site")) as database:
        database.migrate()
        yield database


@pytest.fixture
def site(database: Database) -> Site:
    return Site.on(database)


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


class History:
    """What happens to a study, step by step."""

    def __init__(self, site: Site, runner: StudyRunner) -> None:
        self.site, self.runner = site, runner
        self.given: list[Assignment] = []

    def take(self, action: str, choice: int) -> None:
        """Does one thing, whatever comes of it."""
        self.site.clock.now += timedelta(seconds=1)
        if action == "assign":
            assignment = self.runner.assign(WORKERS[choice % 3], 3)
            self.given.extend([assignment] if assignment else [])
        elif action == "advance":
            self.runner.advance(3)
        elif self.given:
            self._touch(action, self.given[choice % len(self.given)])

    def _touch(self, action: str, assignment: Assignment) -> None:
        outcomes: dict[str, Outcome] = {
            "high": HIGH,
            "low": LOW,
            "crash": CRASH,
            "raise": RAISED,
            "cancel": Cancelled(),
        }
        if action == "lose":
            lease = self.site.leases.drop(assignment.lease.token)
            if lease is not None:
                self.site.jobs.lose(lease)
            return
        try:
            complete(self.runner, assignment, outcomes[action])
        except DomainError:
            pass


ACTIONS = st.tuples(
    st.sampled_from(
        ["assign", "assign", "assign", "high", "low", "crash", "raise", "cancel", "lose", "advance"]
    ),
    st.integers(0, 30),
)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(ACTIONS, max_size=40), st.integers(0, 40))
def test_memory_equals_the_database_whatever_happens(
    site: Site, actions: list[tuple[str, int]], stop_at: int
) -> None:
    runner = site.create(trials=6)
    history = History(site, runner)
    for number, (action, choice) in enumerate(actions):
        if number == stop_at:
            runner.stop(EndReason.STOPPED)
        history.take(action, choice)
        if not runner.is_ended:
            check(site, runner)
    with site.database.read() as connection:
        rows = connection.execute(
            text(
                "SELECT count(*), count(DISTINCT trial) FROM study_events"
                " WHERE job = :job AND kind = 'ENDED'"
            ),
            {"job": runner.facts.name.job},
        ).one()
    assert rows[0] == rows[1]


def test_a_commit_that_fails_leaves_no_trace(site: Site) -> None:
    runner, unbroken = site.create(), site.create()
    expected = [assign(unbroken).trial.knobs for _ in range(3)]
    first = assign(runner)
    trigger = "CREATE TRIGGER broken BEFORE INSERT ON {} BEGIN SELECT RAISE(ABORT, 'full'); END"
    for table in ("study_events", "changes"):
        with site.database.write() as connection:
            connection.execute(text(trigger.format(table)))
        with pytest.raises(IntegrityError):
            complete(runner, first)
        with pytest.raises(IntegrityError):
            runner.assign(WORKERS[1], 3)
        with site.database.write() as connection:
            connection.execute(text("DROP TRIGGER broken"))
    second = assign(runner)
    check(site, runner)
    assert complete(runner, first).state is TrialState.COMPLETED
    third = assign(runner)
    check(site, runner)
    assert [x.trial.knobs for x in (first, second, third)] == expected


def test_a_row_that_changed_behind_the_back_of_the_server_is_read_again(site: Site) -> None:
    runner = site.create()
    assignment = assign(runner)
    with site.database.write() as connection:
        connection.execute(
            text("UPDATE trials SET lease_token = 'other' WHERE lease_token = :token"),
            {"token": assignment.lease.token},
        )
    with pytest.raises(RuntimeError):
        complete(runner, assignment)
    with pytest.raises(LeaseLost):
        complete(runner, assignment)
    check(site, runner)


def test_many_threads_give_every_trial_once(site: Site) -> None:
    runner = site.create(trials=60)
    seen: list[str] = []
    lock = threading.Lock()

    def work(worker: Worker) -> None:
        while (assignment := runner.assign(worker, 3)) is not None:
            with lock:
                seen.append(assignment.trial.name)
            complete(runner, assignment)
            complete(runner, assignment, LOW)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, WORKERS))
    assert sorted(seen) == sorted(f"{runner.facts.name}/trials/{n}" for n in range(1, 61))
    runner.advance(3)
    assert runner.is_ended
    assert site.job(runner).state is TrainJobState.SUCCEEDED


def test_a_long_study_is_restored_from_a_snapshot(site: Site) -> None:
    spec = StudySpec(
        knob_config={"cell": ArchKnob([["a", "b", "c"]] * 8)},
        advisor=AdvisorSettings(kind=AdvisorKind.RANDOM),
    )
    runner = site.create(trials=400, studies=(spec,))
    for _ in range(150):
        complete(runner, assign(runner))
    assert runner._steps.fold.snapshot_sequence >= 256
    assign(runner)
    check(site, runner)
    with site.database.write() as connection:
        connection.execute(text("DELETE FROM snapshots"))
    check(site, runner)


def test_a_restarted_server_goes_on_with_what_was_assigned(site: Site) -> None:
    runner = site.create()
    held, waiting = assign(runner), assign(runner, WORKERS[1])
    complete(runner, waiting, CRASH)
    again = Site.on(site.database)
    again.jobs.restore()
    restored = again.jobs.find(runner.facts.name)
    assert restored is not None
    check(again, restored)
    (lease,) = again.leases.of_study(runner.facts.name)
    assert (lease.token, lease.worker_id) == (held.lease.token, "worker-0")
    assert assign(restored).trial.name == waiting.trial.name
    assert complete(restored, held).state is TrialState.COMPLETED


def test_a_restarted_server_remembers_that_a_job_was_to_stop(site: Site) -> None:
    runner = site.create()
    held = assign(runner)
    name = TrialName.parse(held.trial.name)
    site.service.stop(name.parent.parent)
    again = Site.on(site.database)
    again.jobs.restore()
    restored = again.jobs.find(runner.facts.name)
    assert restored is not None
    assert restored.assign(WORKERS[1], 3) is None
    complete(restored, held, Cancelled())
    restored.advance(1)
    assert again.job(runner).state is TrainJobState.STOPPED


def test_a_restarted_server_remembers_that_the_goal_was_reached(site: Site) -> None:
    spec = StudySpec(knob_config=KNOBS, advisor=AdvisorSettings(kind=AdvisorKind.RANDOM))
    runner = site.create(goal_score=0.8, studies=(spec, spec))
    complete(runner, assign(runner), HIGH)
    again = Site.on(site.database)
    again.jobs.restore()
    for restored in again.jobs.of_job(runner.facts.name.job):
        assert restored.assign(WORKERS[0], 3) is None
    assert again.job(runner).state is TrainJobState.SUCCEEDED


def test_the_time_budget_survives_a_restart(site: Site) -> None:
    runner = site.create(budget=Budget(time=timedelta(minutes=10)))
    complete(runner, assign(runner))
    again = Site.on(site.database)
    again.clock.now = site.clock.now + timedelta(minutes=9)
    again.jobs.restore()
    restored = again.jobs.find(runner.facts.name)
    assert restored is not None
    complete(restored, assign(restored))
    again.clock.now += timedelta(minutes=1)
    assert restored.assign(WORKERS[0], 3) is None
    assert restored.is_ended


def test_what_waits_when_the_time_is_over_is_given_up(site: Site) -> None:
    runner = site.create(budget=Budget(time=timedelta(minutes=10)))
    complete(runner, assign(runner))
    lost = assign(runner)
    site.clock.now += timedelta(minutes=10)
    lease = site.leases.drop(lost.lease.token)
    assert lease is not None
    site.jobs.lose(lease)
    assert runner.assign(WORKERS[1], 3) is None
    assert runner.is_ended
    assert site.job(runner).state is TrainJobState.SUCCEEDED


def test_a_retried_trial_is_what_a_study_without_a_result_waits_for(site: Site) -> None:
    runner = site.create(budget=Budget(time=timedelta(minutes=10)))
    lost = assign(runner)
    site.clock.now += timedelta(minutes=10)
    lease = site.leases.drop(lost.lease.token)
    assert lease is not None
    site.jobs.lose(lease)
    assert assign(runner, WORKERS[1]).trial.name == lost.trial.name
