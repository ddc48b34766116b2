import numpy as np
import pytest

from rafiki.server.advisors.bayes_opt.targets import targets


def test_targets_are_standardised_and_keep_the_order() -> None:
    rewards = np.random.default_rng(0).standard_cauchy(101)
    t = targets(rewards)
    assert t.mean() == pytest.approx(0)
    assert t.std() == pytest.approx(1)
    assert np.argsort(t).tolist() == np.argsort(rewards).tolist()


def test_how_bad_a_crash_is_changes_nothing() -> None:
    good = [0.9, 0.91, 0.92, 0.93, 0.94]
    assert targets(np.array([0.1, *good])) == pytest.approx(targets(np.array([-1e300, *good])))


def test_good_rewards_keep_their_distances() -> None:
    t = targets(np.array([0.0, 0.1, 0.2, 0.3, 0.7]))
    assert (t[4] - t[3]) / (t[3] - t[2]) == pytest.approx(4.0)


def test_equal_rewards_have_equal_targets() -> None:
    t = targets(np.array([1.0, 0.2, 0.5, 0.2, 0.7, 0.2]))
    assert t[1] == t[3] == t[5]


@pytest.mark.parametrize(
    "rewards",
    [
        [5.0],
        [1.0, 1.0, 1.0],
        [0.0, 0.0],
        [1e300, -1e300],
        [1.7e308, -1.7e308, 0.0],
        [5e-324, 0.0, 0.0],
        [1.0, 1.0 + 2e-16, 1.0],
        [-1.0, -1.0, -1.0, -1.0, 3.0],
        [-1.0, -1.0, -1.0, -1.0, -3.0],
    ],
)
def test_any_rewards_have_finite_targets(rewards: list[float]) -> None:
    t = targets(np.array(rewards))
    assert np.all(np.isfinite(t))
    assert np.abs(t).max() <= len(rewards)
