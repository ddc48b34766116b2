import numpy as np

from rafiki.model.knobs import IntegerKnob
from rafiki.server.advisors.bayes_opt.observations import FAILURES, observations, representatives
from rafiki.server.advisors.tuning.history import History, Scored
from rafiki.server.advisors.tuning.points import Point

SPACE = {"n": IntegerKnob(0, 10**6)}


def history(rewards: list[float], failed: int = 0) -> History:
    made = History(SPACE)
    made.scored = [Scored(Point({"n": n}), reward) for n, reward in enumerate(rewards)]
    made.failed = [Point({"n": 1000 + n}) for n in range(failed)]
    return made


def test_a_short_history_is_held_whole() -> None:
    assert representatives(np.array([3.0, 1.0, 2.0]), 3).tolist() == [0, 1, 2]


def test_of_a_long_history_the_best_the_latest_and_some_of_every_rank_are_held() -> None:
    rewards = np.random.default_rng(0).permutation(1000).astype(float)
    held = representatives(rewards, 40)
    assert len(set(held.tolist())) == 40
    assert set(np.argsort(-rewards)[:20].tolist()) <= set(held.tolist())
    assert sum(held >= 985) >= 10
    assert np.histogram(rewards[held], 4, (0, 1000))[0].min() >= 2


def test_what_is_held_is_bounded() -> None:
    observed = observations(history([float(n % 17) for n in range(3000)], failed=300), 100)
    assert len(observed.points) == len(observed.targets) == 100 + FAILURES


def test_a_target_does_not_depend_on_which_points_are_held() -> None:
    rewards = np.random.default_rng(1).normal(size=300).tolist()
    whole, part = (observations(history(rewards), limit) for limit in (300, 50))
    by_point = dict(zip((p.knobs["n"] for p in whole.points), whole.targets, strict=True))
    assert [by_point[p.knobs["n"]] for p in part.points] == part.targets.tolist()


def test_a_failed_point_counts_as_the_worst_score() -> None:
    observed = observations(history([0.5, 0.9, 0.7], failed=1), 100)
    assert observed.points[-1] == Point({"n": 1000})
    assert observed.targets[-1] == observed.targets[0] == observed.targets.min()
