import math

import numpy as np
import pytest

from rafiki.server.advisors.bayes_opt.dimensions import Floats
from rafiki.server.advisors.bayes_opt.kernel import Kernel, matern
from rafiki.server.advisors.bayes_opt.process import (
    OFFSET_VARIANCE,
    GaussianProcess,
    Prior,
    fit,
    negative_log_posterior,
)

# Three dimensions, the last a choice of two.
GROUPS = np.array([0, 1, 2, 2])


def features(count: int, rng: np.random.Generator) -> Floats:
    numeric = rng.random((count, 2))
    choice = np.eye(2)[rng.integers(2, size=count)] / math.sqrt(2)
    return np.hstack([numeric, choice])


def fitted(x: Floats, targets: Floats) -> GaussianProcess:
    kernel, noise = fit(x, GROUPS, targets)
    return GaussianProcess.given(kernel, noise, x, targets)


def test_the_kernel_is_the_matern_formula() -> None:
    kernel = Kernel(np.array([math.log(4.0), 0.0, math.log(0.25)]), math.log(3.0), GROUPS)
    a = np.array([[0.1, 0.5, 1 / math.sqrt(2), 0.0]])
    b = np.array([[0.4, 0.5, 0.0, 1 / math.sqrt(2)]])
    r = math.sqrt(4.0 * 0.3**2 + 0.25)
    s = math.sqrt(5) * r
    assert kernel(a, b)[0, 0] == pytest.approx(3 * (1 + s + s**2 / 3) * math.exp(-s))


def test_covariances_are_positive_definite() -> None:
    rng = np.random.default_rng(1)
    for _ in range(20):
        kernel = Kernel(rng.normal(0, 2, 3), rng.normal(), GROUPS)
        x = features(40, rng)
        assert np.linalg.eigvalsh(kernel(x, x)).min() > -1e-9


def test_the_slope_of_the_correlation_is_its_derivative() -> None:
    r2 = np.array([1e-3, 0.1, 1.0, 9.0])
    numeric = (matern(r2 + 1e-7)[0] - matern(r2 - 1e-7)[0]) / 2e-7
    assert matern(r2)[1] == pytest.approx(numeric, rel=1e-4)
    assert matern(np.zeros(1))[1] == pytest.approx(-5 / 6)


def test_the_gradient_of_the_posterior_is_that_of_finite_differences() -> None:
    rng = np.random.default_rng(2)
    prior, x, t = Prior.of(GROUPS), features(25, rng), rng.standard_normal(25)
    for _ in range(5):
        theta = prior.mean + rng.standard_normal(5)
        _, gradient = negative_log_posterior(theta, prior, x, GROUPS, t)
        for number, step in enumerate(1e-5 * np.eye(5)):
            above, _ = negative_log_posterior(theta + step, prior, x, GROUPS, t)
            below, _ = negative_log_posterior(theta - step, prior, x, GROUPS, t)
            assert gradient[number] == pytest.approx((above - below) / 2e-5, rel=1e-4, abs=1e-5)


def test_the_posterior_of_two_points_is_the_one_computed_by_hand() -> None:
    kernel = Kernel(np.array([0.0]), 0.0, np.array([0]))
    x, new = np.array([[0.0], [0.5]]), np.array([[0.25]])
    process = GaussianProcess.given(kernel, noise=0.1, features=x, targets=np.array([1.0, -0.5]))
    near, far = float(matern(np.array(0.25**2))[0]), float(matern(np.array(0.5**2))[0])
    # [[a, b], [b, a]] has the inverse [[a, -b], [-b, a]] / (a^2 - b^2).
    a, b, k = 1.1 + OFFSET_VARIANCE, far + OFFSET_VARIANCE, near + OFFSET_VARIANCE
    mean = k * (a - b) * (1.0 - 0.5) / (a**2 - b**2)
    variance = 1.0 + OFFSET_VARIANCE - 2 * k**2 * (a - b) / (a**2 - b**2)
    # The covariance with the first point: that before, less what the observations explain.
    before = [1.0 + OFFSET_VARIANCE, b]
    weights = [k * (a - b) / (a**2 - b**2)] * 2
    covariance = k - weights[0] * before[0] - weights[1] * before[1]
    beliefs = process.beliefs(new, x[0])
    assert beliefs.mean[0] == process.expected(new)[0] == pytest.approx(mean)
    assert beliefs.variance[0] == pytest.approx(variance)
    assert beliefs.covariance[0] == pytest.approx(covariance)


def test_imagined_points_keep_the_means_and_shrink_the_variances() -> None:
    rng = np.random.default_rng(3)
    x, pending, new = features(12, rng), features(3, rng), features(30, rng)
    process = fitted(x, np.sin(5 * x[:, 0]))
    imagined = process.imagine(pending)
    before, after = process.beliefs(new, x[0]), imagined.beliefs(new, x[0])
    assert after.mean == pytest.approx(before.mean, abs=1e-6)
    assert np.all(after.variance <= before.variance + 1e-9)
    at_pending = [given.beliefs(pending, x[0]).variance for given in (process, imagined)]
    assert np.all(at_pending[1] < 0.9 * at_pending[0])


def test_a_dimension_that_matters_gets_more_weight_than_one_that_does_not() -> None:
    rng = np.random.default_rng(4)
    x = features(60, rng)
    kernel, _ = fit(x, GROUPS, np.sin(6 * x[:, 0]) + 0.05 * rng.standard_normal(60))
    assert kernel.weights[0] > kernel.weights[1:].max() + 2


def test_noise_is_learned() -> None:
    rng = np.random.default_rng(5)
    x = features(80, rng)
    _, quiet = fit(x, GROUPS, np.sin(3 * x[:, 0]))
    _, noisy = fit(x, GROUPS, np.sin(3 * x[:, 0]) + rng.standard_normal(80))
    assert quiet < 0.01
    assert 0.5 < noisy < 2.0


@pytest.mark.parametrize("count", [1, 2, 50])
def test_equal_points_with_equal_targets_can_be_fitted(count: int) -> None:
    x = np.tile(features(1, np.random.default_rng(6)), (count, 1))
    beliefs = fitted(x, np.zeros(count)).beliefs(x, x[0])
    assert np.all(np.isfinite(beliefs.mean))
    assert np.all(beliefs.variance > 0)
