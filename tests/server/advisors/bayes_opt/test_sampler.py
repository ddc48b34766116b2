import math
import random
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest

from rafiki.model.knobs import (
    ArchKnob,
    CategoricalKnob,
    FixedKnob,
    FloatKnob,
    IntegerKnob,
    KnobConfig,
    check_value,
)
from rafiki.resources import BayesOptOptions
from rafiki.server.advisors.bayes_opt.sampler import BayesOptSampler
from rafiki.server.advisors.tuning.history import History, Scored
from rafiki.server.advisors.tuning.points import Point
from rafiki.server.advisors.tuning.random import RandomSampler
from rafiki.server.advisors.tuning.sampler import Sampler

INT64_MAX = 2**63 - 1

MIXED: KnobConfig = {
    "rate": FloatKnob(1e-4, 1.0, is_exp=True),
    "width": IntegerKnob(1, 64),
    "kind": CategoricalKnob(["a", "b", "c"]),
}

Objective = Callable[[Point], float | None]


def smooth(point: Point) -> float:
    """At most 0, at rate 0.01, width 40 and kind b."""
    rate = math.log10(float(point.knobs["rate"])) + 2
    width = (float(point.knobs["width"]) - 40) / 32
    return -(rate**2) - width**2 - (0.0 if point.knobs["kind"] == "b" else 0.5)


def run(
    knob_config: KnobConfig,
    objective: Objective,
    trials: int,
    *,
    seed: int = 0,
    sampler: Sampler | None = None,
) -> History:
    """The history of up to `trials` trials, one after the other; all proposals are checked."""
    sampler = sampler or BayesOptSampler(knob_config, BayesOptOptions())
    history = History(knob_config)
    for number in range(trials):
        if history.is_exhausted:
            break
        [point] = sampler.propose(history, 1, seed * 10_000 + number)
        assert not history.is_taken(point)
        for name, value in point.knobs.items():
            check_value(knob_config[name], value)  # type: ignore[arg-type]  # no arch knobs
        history.take(point)
        reward = objective(point)
        if reward is None:
            history.failed.append(point)
        else:
            history.scored.append(Scored(point, reward))
    return history


def best(history: History) -> float:
    return max(entry.reward for entry in history.scored)


def test_it_finds_the_optimum_of_a_smooth_function_far_faster_than_random_draws() -> None:
    found = [best(run(MIXED, smooth, 40, seed=seed)) for seed in range(3)]
    drawn = [best(run(MIXED, smooth, 400, seed=seed, sampler=RandomSampler())) for seed in range(3)]
    assert max(drawn) < min(found)
    assert min(found) > -0.01


def test_it_finds_the_best_architecture_of_positions_that_add_up() -> None:
    space = {"cell": ArchKnob([["a", "b", "c", "d", "e"]] * 6)}
    worth = np.random.default_rng(0).random((6, 5))

    def score(point: Point) -> float:
        return float(sum(worth[position, choice] for position, choice in enumerate(point.choices)))

    optimum = worth.max(axis=1).sum()
    assert best(run(space, score, 60)) > optimum - 0.05


def test_pending_points_change_the_proposal() -> None:
    history = run(MIXED, smooth, 25)
    sampler = BayesOptSampler(MIXED, BayesOptOptions())
    [alone] = sampler.propose(history, 1, 99)
    history.running[26] = [alone]
    history.take(alone)
    [beside] = sampler.propose(history, 1, 99)
    assert beside != alone


def test_eight_points_asked_for_at_once_differ() -> None:
    history = run(MIXED, smooth, 25)
    sampler = BayesOptSampler(MIXED, BayesOptOptions())
    for number in range(8):
        [point] = sampler.propose(history, 1, 7)
        history.running[number] = [point]
        history.take(point)
    assert len({history.key(point) for point in history.pending}) == 8


def test_a_small_space_is_exhausted_without_a_repeat() -> None:
    space: KnobConfig = {
        "n": IntegerKnob(1, 4, is_exp=True),
        "flag": CategoricalKnob([True, False]),
        "cell": ArchKnob([["a", "b"], ["a"], ["a", "b", "c"]]),
    }
    history = History(space)
    sampler = BayesOptSampler(space, BayesOptOptions(initial_trials=4))
    for number in range(48):
        [point] = sampler.propose(history, 1, number)
        assert not history.is_taken(point)
        history.take(point)
        history.scored.append(Scored(point, float(sum(point.choices))))
    assert history.is_exhausted


def test_the_first_trials_are_uniform_draws() -> None:
    history = run(MIXED, smooth, 25)
    few = BayesOptSampler(MIXED, BayesOptOptions(initial_trials=10))
    many = BayesOptSampler(MIXED, BayesOptOptions(initial_trials=100))
    assert many.propose(history, 1, 5) == RandomSampler().propose(history, 1, 5)
    assert few.propose(history, 1, 5) != RandomSampler().propose(history, 1, 5)


def test_points_that_failed_are_kept_away_from() -> None:
    space: KnobConfig = {"x": FloatKnob(0.0, 1.0), "y": FloatKnob(0.0, 1.0)}

    def half(point: Point) -> float | None:
        x, y = float(point.knobs["x"]), float(point.knobs["y"])
        return None if x > 0.5 else x + y

    history = run(space, half, 50)
    assert len(history.failed) < 20
    assert best(history) > 1.4


def test_the_same_history_and_seed_give_the_same_point_in_another_process() -> None:
    code = (
        "from tests.server.advisors.bayes_opt.test_sampler import *;"
        "print(BayesOptSampler(MIXED, BayesOptOptions()).propose(run(MIXED, smooth, 20), 1, 3))"
    )
    here = BayesOptSampler(MIXED, BayesOptOptions()).propose(run(MIXED, smooth, 20), 1, 3)
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert there.stdout.strip() == str(here)


def test_a_proposal_changes_nothing() -> None:
    history = run(MIXED, smooth, 15)
    sampler = BayesOptSampler(MIXED, BayesOptOptions())
    before = history.dump()
    first = sampler.propose(history, 1, 1)
    assert sampler.propose(history, 1, 1) == first
    after = history.dump()
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    "space",
    [
        {f"k{n}": CategoricalKnob([f"v{v}" for v in range(300)]) for n in range(4)},
        {"a": IntegerKnob(3, 3), "b": CategoricalKnob(["x"]), "c": FloatKnob(0.0, 1.0)},
        {"a": IntegerKnob(-(2**63), INT64_MAX), "b": IntegerKnob(1, INT64_MAX, is_exp=True)},
        {"a": FloatKnob(-1.7e308, 1.7e308), "b": FloatKnob(1e-300, 1e300, is_exp=True)},
        {f"x{n}": FloatKnob(0.0, 1.0) for n in range(40)},
        {"cell": ArchKnob([list(range(50))] * 16)},
        {"a": FixedKnob(1), "b": IntegerKnob(0, 1)},
        {"a": FixedKnob(1)},
    ],
    ids=["choices", "one-of-three", "integers", "floats", "many", "positions", "two", "one"],
)
def test_any_space_can_be_searched(space: KnobConfig) -> None:
    rng = random.Random(0)
    history = run(space, lambda point: rng.random(), 16)
    assert len(history.scored) == min(16, history.grid.points or 16)


@pytest.mark.parametrize(
    "rewards",
    [[1.0], [0.0], [1e300, -1e300], [1.7e308, -1.7e308, 0.0], [1.0, 1.0 + 2e-16], [5e-324, 0.0]],
)
def test_any_finite_rewards_can_be_learned_from(rewards: list[float]) -> None:
    rng = random.Random(1)
    history = run(MIXED, lambda point: rng.choice(rewards), 30)
    assert len(history.scored) == 30


def test_a_study_in_which_everything_fails_goes_on() -> None:
    assert len(run(MIXED, lambda point: None, 20).failed) == 20


def test_a_point_scored_twice_does_no_harm() -> None:
    history = run(MIXED, smooth, 12)
    history.scored += [Scored(entry.point, entry.reward + 0.1) for entry in history.scored]
    [point] = BayesOptSampler(MIXED, BayesOptOptions()).propose(history, 1, 0)
    assert not history.is_taken(point)
