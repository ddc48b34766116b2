"""RANDOM: draws without repeats, by number alone, within the budget."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rafiki.model.knobs import (
    ArchKnob,
    CategoricalKnob,
    FixedKnob,
    FloatKnob,
    IntegerKnob,
    Knob,
    Policy,
    PolicyKnob,
    check_value,
)
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Direction,
    EndReason,
    TrialPhase,
    TrialState,
)
from rafiki.server.advisors import create_advisor
from rafiki.server.advisors.grid import Grid
from rafiki.server.advisors.sampling import draw_float, draw_integer, draw_scalars
from rafiki.server.domain.advisor import Advisor, AdvisorConfig, Ended, Proposal, Situation

if TYPE_CHECKING:
    from tests.server.advisors.conftest import FakeStudy

    MakeStudy: TypeAlias = type[FakeStudy]
    Reload: TypeAlias = Callable[[Advisor, AdvisorConfig], Advisor]

SMALL: dict[str, Knob] = {
    "units": IntegerKnob(1, 4, is_exp=True),
    "kind": CategoricalKnob(["a", "b"]),
    "depth": FixedKnob(3),
    "arch": ArchKnob([[1, 2], [3]]),
}
POINTS = 4 * 2 * 2
WIDE: dict[str, Knob] = {
    "rate": FloatKnob(1e-4, 1.0, is_exp=True),
    "units": IntegerKnob(2, 200),
    "stop": PolicyKnob(Policy.EARLY_STOP),
    "share": PolicyKnob(Policy.SHARE_PARAMS),
}


def make_random(
    knob_config: Mapping[str, Knob],
    *,
    seed: int = 5,
    batch_size: int = 1,
    has_probe: bool = False,
    time_s: float | None = None,
    model_trial_count: int | None = None,
) -> AdvisorConfig:
    return AdvisorConfig(
        study="trainJobs/0/studies/1",
        knob_config=knob_config,
        settings=AdvisorSettings(kind=AdvisorKind.RANDOM),
        direction=Direction.MAXIMIZE,
        seed=seed,
        batch_size=batch_size,
        has_probe=has_probe,
        time_s=time_s,
        model_trial_count=model_trial_count,
    )


def points(study: FakeStudy) -> list[tuple[object, ...]]:
    """The points proposed in TUNE trials."""
    return [
        (tuple(proposal.knobs.items()), tuple(archs.items()))
        for proposal in study.of(TrialPhase.TUNE)
        for archs in proposal.candidates or ({},)
    ]


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_finite_space_is_tried_once_without_repeats_and_then_done(
    fake_study: MakeStudy, workers: int, batch_size: int
) -> None:
    config = make_random(SMALL, batch_size=batch_size, time_s=1e6)
    study = fake_study(config, workers=workers).run()
    assert len(points(study)) == len(set(points(study))) == POINTS
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE


def test_every_value_proposed_is_in_its_domain(fake_study: MakeStudy) -> None:
    study = fake_study(make_random(WIDE, model_trial_count=50), workers=2).run()
    for proposal in study.proposals.values():
        for name, value in proposal.knobs.items():
            knob = WIDE[name]
            assert isinstance(knob, FloatKnob | IntegerKnob)
            check_value(knob, value)
    assert len(set(points(study))) == 50


def test_tune_trials_stop_early_where_offered_and_share_nothing(fake_study: MakeStudy) -> None:
    study = fake_study(make_random(WIDE, model_trial_count=2)).run()
    assert {proposal.policies for proposal in study.proposals.values()} == {
        frozenset({Policy.EARLY_STOP})
    }


def test_a_log_scale_is_uniform_in_the_logarithm() -> None:
    rng = random.Random(0)
    floats = [draw_float(FloatKnob(1e-6, 1.0, is_exp=True), rng) for _ in range(2000)]
    for decade in range(6):
        share = sum(10.0 ** (decade - 6) <= x < 10.0 ** (decade - 5) for x in floats) / 2000
        assert share == pytest.approx(1 / 6, abs=0.04)
    integers = [draw_integer(IntegerKnob(1, 1000, is_exp=True), rng) for _ in range(2000)]
    small = sum(value <= 31 for value in integers) / 2000
    expected = (math.log(31.5) - math.log(0.5)) / (math.log(1000.5) - math.log(0.5))
    assert small == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize(
    "knob",
    [
        FloatKnob(-1.7e308, 1.7e308),
        FloatKnob(5e-324, 1.7e308, is_exp=True),
        FloatKnob(3.0, 3.0, is_exp=True),
        IntegerKnob(-(2**63), 2**63 - 1),
        IntegerKnob(1, 2**63 - 1, is_exp=True),
        IntegerKnob(7, 7, is_exp=True),
    ],
)
def test_extreme_bounds_are_kept(knob: FloatKnob | IntegerKnob) -> None:
    rng = random.Random(0)
    for _ in range(100):
        check_value(knob, draw_scalars({"knob": knob}, rng)["knob"])


def test_the_probe_comes_first_and_is_not_counted(fake_study: MakeStudy) -> None:
    study = fake_study(make_random(WIDE, has_probe=True, model_trial_count=3), workers=3).run()
    phases = [proposal.phase for proposal in study.proposals.values()]
    assert phases == [TrialPhase.PROBE, *3 * [TrialPhase.TUNE]]
    probe = study.proposals[1]
    assert not probe.evaluate and not probe.save
    assert study.finish is not None and study.finish.reason is EndReason.TRIAL_COUNT


def test_the_trial_count_is_never_exceeded_and_cancelled_trials_do_not_count(
    fake_study: MakeStudy,
) -> None:
    def some_cancelled(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        if number % 3:
            return None
        return Ended(number=number, at_s=study.elapsed_s, state=TrialState.CANCELLED)

    config = make_random(WIDE, model_trial_count=20)
    study = fake_study(config, workers=3, outcome=some_cancelled).run()
    completed = [end for end in study.ends.values() if end.state is TrialState.COMPLETED]
    assert len(completed) == 20


def test_nothing_is_proposed_once_the_time_is_over(fake_study: MakeStudy) -> None:
    study = fake_study(make_random(WIDE, time_s=100.0), workers=2).run()
    assert study.finish is not None and study.finish.reason is EndReason.TIME
    assert all(asked.situation.elapsed_s < 100 for asked in study.asked[:-1])


def test_a_trial_depends_on_seed_and_number_alone() -> None:
    situation = Situation(number=7, elapsed_s=3.0, workers=2)
    decisions = [
        create_advisor(make_random(WIDE, seed=seed)).decide(situation) for seed in (1, 1, 2)
    ]
    assert decisions[0] == decisions[1] != decisions[2]


def test_the_plan_counts_what_the_time_holds(fake_study: MakeStudy) -> None:
    config = make_random(WIDE, has_probe=True, time_s=200.0)
    study = fake_study(config, workers=2).run(until=lambda study: len(study.ends) == 3)
    plan = study.advisor.plan(study.elapsed_s)
    assert plan.measured and plan.trials == pytest.approx(2 * 200 / 20, abs=2)
    assert study.run().advisor.plan(study.elapsed_s).trials == len(study.proposals) - 1


@pytest.mark.parametrize("workers", [1, 3])
def test_any_prefix_of_the_events_replays_to_the_same_next_decision(
    fake_study: MakeStudy, reloaded: Reload, workers: int
) -> None:
    config = make_random(SMALL, has_probe=True, model_trial_count=12)
    study = fake_study(config, workers=workers, seed=workers).run()
    folded, loaded = create_advisor(config), create_advisor(config)
    applied = 0
    for asked in study.asked:
        for event in study.events[applied : asked.events]:
            folded.apply(event)
            loaded.apply(event)
        applied = asked.events
        loaded = reloaded(loaded, config)
        assert folded.decide(asked.situation) == loaded.decide(asked.situation) == asked.decision


@given(st.integers(0, POINTS - 1))
def test_points_and_numbers_of_a_grid_are_inverse(number: int) -> None:
    grid = Grid(SMALL)
    assert grid.points == POINTS
    assert grid.number(*grid.at(number)) == number


@given(st.sets(st.integers(0, POINTS - 1), max_size=POINTS - 1), st.integers(1, 6))
def test_a_grid_draws_free_points_only(taken: set[int], count: int) -> None:
    grid = Grid(SMALL)
    knobs, drawn = grid.draw(count, taken, random.Random(1))
    numbers = [grid.number(knobs, choices) for choices in drawn]
    assert 1 <= len(numbers) == len(set(numbers)) <= count
    assert not taken & set(numbers)


def test_a_space_with_a_continuum_has_no_points() -> None:
    assert Grid(WIDE).points is None
    assert Grid({"rate": FloatKnob(1.0, 1.0)}).points == 1
    assert Grid({"arch": ArchKnob([[1, 2]] * 100)}).points is None
