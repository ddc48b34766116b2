"""Studies without sessions: whatever happens, memory equals the database, which equals the log."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from tests.server.service.site import (
    CRASH,
    HIGH,
    KNOBS,
    LOW,
    RAISED,
    WORKERS,
    Site,
    assign,
    check,
    complete,
    no_room_in,
)

from rafiki.model.knobs import ArchKnob
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    EndReason,
    StudySpec,
    TrainJobState,
    TrialState,
)
from rafiki.server.domain.errors import DomainError, LeaseLost
from rafiki.server.domain.names import TrialName
from rafiki.server.domain.outcomes import Cancelled, Outcome
from rafiki.server.domain.workers import Worker
from rafiki.server.service.study_runner import StudyRunner
from rafiki.server.service.surroundings import Assignment


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
        elif action in ("pause", "resume"):
            self._turn(action)
        elif self.given:
            self._touch(action, self.given[choice % len(self.given)])

    def _turn(self, action: str) -> None:
        service, name = self.site.service, self.runner.facts.name.parent
        try:
            (service.pause if action == "pause" else service.resume)(name)
        except DomainError:
            pass

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
        "assign assign assign high low crash raise cancel lose advance pause resume resume".split()
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
    for table in ("study_events", "changes"):
        with no_room_in(site.database, table):
            with pytest.raises(IntegrityError):
                complete(runner, first)
            with pytest.raises(IntegrityError):
                runner.assign(WORKERS[1], 3)
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
