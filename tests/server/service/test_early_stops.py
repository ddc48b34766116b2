"""Trials whose reported scores are behind: told to stop once, and scored all the same."""

import math
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from tests.server.live import TIMEOUT_S
from tests.server.service.site import (
    HIGH,
    KNOBS,
    LOW,
    WORKERS,
    Site,
    assign,
    check,
    complete,
    no_room_in,
)

from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    EarlyStopping,
    StopReason,
    StudyPlan,
    StudySpec,
    TrialMetrics,
    TrialPhase,
    TrialProgress,
    TrialState,
)
from rafiki.server.domain.advisor import (
    Advisor,
    AdvisorConfig,
    AdvisorState,
    Decision,
    Ended,
    Event,
    Proposal,
    Reported,
    Situation,
)
from rafiki.server.domain.errors import LeaseLost
from rafiki.server.service.reports import ReportService
from rafiki.server.service.signals import NoSignals
from rafiki.server.service.study_runner import StudyRunner
from rafiki.server.service.surroundings import Assignment
from rafiki.server.store.database import Database

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PHASES = (TrialPhase.TUNE, TrialPhase.TUNE, TrialPhase.FINAL_TRAIN)


class BelowHalf(Advisor):
    """Wants every running trial stopped whose latest score is below 0.5, whatever its phase.

    Every third trial is a FINAL_TRAIN.
    """

    def __init__(self, config: AdvisorConfig) -> None:
        self.heard: list[list[float]] = []
        self._running: dict[int, float] = {}

    def decide(self, situation: Situation) -> Decision:
        phase = PHASES[(situation.number - 1) % 3]
        return Proposal(phase=phase, knobs={"rate": 0.5, "kind": "a"})

    def apply(self, event: Event) -> None:
        match event:
            case Reported():
                self.heard.append([event.number, event.step, event.score])
                self._running[event.number] = event.score
            case Ended():
                self._running.pop(event.number, None)

    def stops(self) -> frozenset[int]:
        return frozenset(number for number, score in self._running.items() if score < 0.5)

    def plan(self, elapsed_s: float) -> StudyPlan:
        return StudyPlan()

    def phase(self) -> TrialPhase:
        return TrialPhase.TUNE

    def dump(self) -> AdvisorState:
        running = {str(number): score for number, score in self._running.items()}
        return AdvisorState(values={"heard": self.heard, "running": running})

    def load(self, state: AdvisorState) -> None:
        self.heard = list(state.values["heard"])
        self._running = {int(number): x for number, x in state.values["running"].items()}


@pytest.fixture
def site(database: Database) -> Site:
    return Site.on(database, BelowHalf)


def study(site: Site, *, early_stopping: EarlyStopping | None) -> StudyRunner:
    settings = AdvisorSettings(kind=AdvisorKind.RANDOM, early_stopping=early_stopping)
    return site.create(studies=(StudySpec(knob_config=KNOBS, advisor=settings),))


@pytest.fixture
def runner(site: Site) -> StudyRunner:
    return study(site, early_stopping=EarlyStopping())


def metrics(sequence: int, score: float | None, step: int = 1) -> TrialMetrics:
    return TrialMetrics(sequence=sequence, time=NOW, values={}, step=step, score=score)


def report(
    site: Site, held: Assignment, *entries: TrialMetrics, progress: TrialProgress | None = None
) -> int:
    service = ReportService(site.database, site.clock, NoSignals(), site.jobs)
    return service.report(
        held.lease.trial, held.lease.token, logs=(), metrics=entries, plots=(), progress=progress
    )


def heard(runner: StudyRunner) -> list[list[float]]:
    fold = runner._steps.fold
    fold.settle()
    assert isinstance(fold.advisor, BelowHalf)
    return fold.advisor.heard


def stop_reason(site: Site, held: Assignment) -> StopReason | None:
    lease = site.leases.get(held.lease.token)
    assert lease is not None
    return lease.stop_reason


def test_a_trial_that_is_behind_is_told_to_stop(site: Site, runner: StudyRunner) -> None:
    behind, ahead = assign(runner), assign(runner, WORKERS[1])
    assert report(site, ahead, metrics(1, 0.9)) == 1
    assert report(site, behind, metrics(1, 0.9), metrics(2, 0.1, step=2)) == 2
    assert stop_reason(site, behind) is StopReason.EARLY_STOPPED
    assert stop_reason(site, ahead) is None
    assert heard(runner) == [[2, 1, 0.9], [1, 1, 0.9], [1, 2, 0.1]]
    check(site, runner)


def test_a_trial_that_was_told_to_stop_is_scored_and_can_be_best(
    site: Site, runner: StudyRunner
) -> None:
    behind = assign(runner)
    report(site, behind, metrics(1, 0.1))
    trial = complete(runner, behind, HIGH)
    assert (trial.state, trial.score) == (TrialState.COMPLETED, HIGH.score)
    assert trial.stop_reason is StopReason.EARLY_STOPPED
    assert site.job(runner).best_trial == trial.name


def test_a_report_that_is_repeated_counts_once(site: Site, runner: StudyRunner) -> None:
    held = assign(runner)
    for _ in range(3):
        assert report(site, held, metrics(1, 0.8), metrics(2, 0.9, step=2)) == 2
    report(site, held, metrics(2, 0.9, step=2), metrics(3, 0.7, step=3))
    assert heard(runner) == [[1, 1, 0.8], [1, 2, 0.9], [1, 3, 0.7]]
    check(site, runner)


def test_a_trial_is_told_to_stop_once(site: Site, runner: StudyRunner) -> None:
    held = assign(runner)
    report(site, held, metrics(1, 0.1))
    with site.database.read() as connection:
        (before,) = connection.execute(text("SELECT count(*) FROM changes")).one()
    report(site, held, metrics(2, 0.1))
    with site.database.read() as connection:
        (after,) = connection.execute(text("SELECT count(*) FROM changes")).one()
    assert after == before


def test_scores_that_are_not_finite_and_metrics_without_one_are_no_events(
    site: Site, runner: StudyRunner
) -> None:
    held = assign(runner)
    report(site, held, metrics(1, math.nan), metrics(2, None), metrics(3, -math.inf))
    report(site, held, metrics(4, 0.9), metrics(5, math.nan))
    assert heard(runner) == [[1, 1, 0.9]]
    check(site, runner)


def test_a_final_training_is_never_told_to_stop(site: Site, runner: StudyRunner) -> None:
    for _ in range(2):
        complete(runner, assign(runner))
    held = assign(runner)
    assert held.trial.phase is TrialPhase.FINAL_TRAIN
    report(site, held, metrics(1, 0.1))
    assert stop_reason(site, held) is None
    assert heard(runner) == []


def test_without_early_stopping_reports_are_stored_and_change_nothing_else(site: Site) -> None:
    runner = study(site, early_stopping=None)
    held = assign(runner)
    assert report(site, held, metrics(1, 0.1)) == 1
    assert stop_reason(site, held) is None
    assert heard(runner) == []
    with site.database.read() as connection:
        query = "SELECT score FROM trial_metrics WHERE job = :job"
        rows = connection.execute(text(query), {"job": runner.facts.name.job}).all()
    assert [row.score for row in rows] == [0.1]


def test_reports_that_cannot_stop_a_trial_do_not_wait_for_the_study(site: Site) -> None:
    runner = study(site, early_stopping=None)
    other = study(site, early_stopping=EarlyStopping())
    held, listening = assign(runner), assign(other)
    half = TrialProgress(fraction=0.5)
    with ThreadPoolExecutor(1) as pool, busy(runner), busy(other):
        silent = pool.submit(report, site, held, metrics(1, 0.1))
        scoreless = pool.submit(report, site, listening, metrics(1, None), progress=half)
        assert (silent.result(TIMEOUT_S), scoreless.result(TIMEOUT_S)) == (1, 1)


def test_a_score_of_a_lease_that_is_lost_is_refused(site: Site, runner: StudyRunner) -> None:
    held = assign(runner)
    complete(runner, held, LOW)
    with pytest.raises(LeaseLost):
        report(site, held, metrics(1, 0.1))
    check(site, runner)


def test_a_restarted_server_knows_the_scores_it_has_acknowledged(
    site: Site, runner: StudyRunner
) -> None:
    held, other = assign(runner), assign(runner, WORKERS[1])
    report(site, held, metrics(1, 0.1))
    report(site, other, metrics(1, 0.9))
    again, restored = site.restarted(runner)
    assert heard(restored) == [[1, 1, 0.1], [2, 1, 0.9]]
    assert stop_reason(again, held) is StopReason.EARLY_STOPPED
    report(again, other, metrics(1, 0.9), metrics(2, 0.2, step=2))
    assert stop_reason(again, other) is StopReason.EARLY_STOPPED
    check(again, restored)


def test_an_event_that_cannot_be_stored_leaves_no_trace_of_the_report(
    site: Site, runner: StudyRunner
) -> None:
    held = assign(runner)
    with no_room_in(site.database, "study_events"), pytest.raises(IntegrityError):
        report(site, held, metrics(1, 0.1))
    assert report(site, held, metrics(1, 0.1)) == 1
    assert heard(runner) == [[1, 1, 0.1]]
    assert stop_reason(site, held) is StopReason.EARLY_STOPPED
    check(site, runner)


@contextmanager
def busy(runner: StudyRunner) -> Iterator[None]:
    """A study in the middle of a step that takes long."""
    has_begun, may_end = threading.Event(), threading.Event()

    def step() -> None:
        with runner._taking_turn():
            has_begun.set()
            may_end.wait()

    thread = threading.Thread(target=step)
    thread.start()
    has_begun.wait()
    try:
        yield
    finally:
        may_end.set()
        thread.join()
