import math

import numpy as np
import pytest

from rafiki.server.advisors.bayes_opt.acquisition import ASYMPTOTIC, NO_GAIN, log_expected_gain
from rafiki.server.advisors.bayes_opt.process import Beliefs


def gain(
    mean: float,
    variance: float,
    covariance: float = 0.0,
    *,
    target: float,
    incumbent: float | None = None,
    noise: float = 0.0,
) -> float:
    """The logarithm of the gain of one point; the incumbent's mean is its target if left out."""
    beliefs = Beliefs(
        mean=np.array([mean]), variance=np.array([variance]), covariance=np.array([covariance])
    )
    expected = target if incumbent is None else incumbent
    return float(log_expected_gain(beliefs, target, expected, noise)[0])


def test_without_noise_the_gain_is_the_mean_of_the_improvements() -> None:
    draws = np.random.default_rng(0).normal(0.3, 0.5, 400_000)
    expected = np.maximum(draws - 0.6, 0).mean()
    assert math.exp(gain(0.3, 0.25, target=0.6)) == pytest.approx(expected, rel=0.01)


def test_with_noise_the_gain_is_what_replacing_the_incumbent_brings() -> None:
    rng = np.random.default_rng(1)
    both = rng.multivariate_normal([0.3, 0.4], [[0.25, 0.06], [0.06, 0.09]], 400_000)
    observed = both[:, 0] + rng.normal(0, 0.3, 400_000)
    expected = np.mean((both[:, 0] - both[:, 1]) * (observed > 0.6))
    log_gain = gain(0.3, 0.25, 0.06, target=0.6, incumbent=0.4, noise=0.09)
    assert math.exp(log_gain) == pytest.approx(expected, rel=0.02)


def test_a_certain_improvement_is_its_size() -> None:
    assert math.exp(gain(2.0, 1e-12, target=0.5)) == pytest.approx(1.5)


def test_it_still_tells_points_apart_where_the_gain_underflows() -> None:
    values = [gain(mean, 1e-6, target=10.0) for mean in (0.0, 1.0, 5.0, 9.0, 9.9)]
    assert np.all(np.isfinite(values))
    assert values == sorted(set(values))


def test_a_point_that_would_win_by_luck_alone_is_no_gain() -> None:
    poor = gain(0.0, 1e-4, target=1.0, incumbent=0.8, noise=1.0)
    fair = gain(0.5, 1e-4, target=1.0, incumbent=0.8, noise=1.0)
    good = gain(0.9, 1e-4, target=1.0, incumbent=0.8, noise=1.0)
    assert poor < fair < NO_GAIN < good


def test_the_asymptotic_series_joins_without_a_step() -> None:
    above, below = (gain(-ASYMPTOTIC + d, 1.0, target=0.0) for d in (0.05, -0.05))
    assert above - below == pytest.approx(ASYMPTOTIC * 0.1, rel=0.05)
