"""A Gaussian process: what is known of the rewards of all points from those of some.

Letters: N observed and M other points, D dimensions, F features (see `encoding`).

Targets are t_i = f(x_i) + noise; f has covariance k (see `kernel`) plus a constant, which all
rewards share. Hyperparameters are learned by maximising their posterior (MAP).

Source: Rasmussen & Williams 2006, "Gaussian Processes for Machine Learning", algorithm 2.1 and
equations 2.43 and 5.9.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rafiki.server.advisors.bayes_opt.descent import minimise
from rafiki.server.advisors.bayes_opt.dimensions import Floats
from rafiki.server.advisors.bayes_opt.kernel import Kernel

# The variance of the constant: the process does not fall back to the mean of what was tried,
# which a search pulls upwards, where nothing was. In units of the targets' variance.
OFFSET_VARIANCE = 1.0

# The least variance of the noise: keeps covariances well conditioned where points repeat.
NOISE_FLOOR = 1e-5

# The least variance believed in: rounding may leave less than 0.
LEAST_VARIANCE = 1e-12

# Steps of `minimise`, and the gain in log posterior that is worth another.
FIT_STEPS = 25
FIT_TOLERANCE = 0.01

Groups = NDArray[np.int64]


class Prior(NamedTuple):
    """Independent normal priors of (weights, amplitude, noise), all logarithms: `[D + 2]`."""

    mean: Floats
    deviation: Floats

    @classmethod
    def of(cls, groups: Groups) -> "Prior":
        """Weak priors for standardised targets, given the dimension of every feature: `[F]`.

        The middle length scale is 0.6 sqrt(D) of the range of a numeric dimension, sqrt(D) of
        the distance of two choices, with a factor of e as the standard deviation: growing with
        D, so that random points stay correlated in high dimensions (Hvarfner et al. 2024,
        "Vanilla Bayesian Optimization Performs Great in High Dimensions", arXiv 2402.02229).
        """
        widths = np.bincount(groups)
        weights = np.where(widths > 1, 0.0, 1.0) - math.log(len(widths))
        mean = np.append(weights, [0.0, -3.0])
        deviation = np.array([2.0] * len(widths) + [1.0, 2.0])
        return cls(mean, deviation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Beliefs:
    """What is known of the rewards of points, without noise: `[M]` each."""

    mean: Floats
    variance: Floats  # above 0
    covariance: Floats  # with the reward of a point of reference


@dataclass(frozen=True, slots=True)
class GaussianProcess:
    """The process given N observations; made by `given` or `imagine`."""

    kernel: Kernel
    noise: float  # variance
    features: Floats  # [N, F]
    targets: Floats  # [N]
    inverse_root: Floats  # [N, N] the inverse of the Cholesky factor of the targets' covariance
    pulls: Floats  # [N] the inverse covariance times the targets

    @classmethod
    def given(
        cls, kernel: Kernel, noise: float, features: Floats, targets: Floats
    ) -> "GaussianProcess":
        """The process with these parameters, given the targets of points."""
        inverse_root, pulls = _solve(kernel(features, features), noise, targets)
        return cls(kernel, noise, features, targets, inverse_root, pulls)

    def expected(self, features: Floats) -> Floats:
        """The means of points `[M, F]`: `[M]`."""
        mean: Floats = (self.kernel(features, self.features) + OFFSET_VARIANCE) @ self.pulls
        return mean

    def beliefs(self, features: Floats, reference: Floats) -> Beliefs:
        """What is known of points `[M, F]`, in relation to another `[F]`."""
        prior = self.kernel(features, np.vstack([self.features, reference])) + OFFSET_VARIANCE
        covariance, beside = prior[:, :-1], prior[:, -1]
        explained = covariance @ self.inverse_root.T
        known = self.kernel(reference[None], self.features)[0] + OFFSET_VARIANCE
        variance = self.kernel.variance + OFFSET_VARIANCE - np.sum(explained**2, axis=1)
        return Beliefs(
            mean=covariance @ self.pulls,
            variance=np.maximum(variance, LEAST_VARIANCE),
            covariance=beside - explained @ (self.inverse_root @ known),
        )

    def imagine(self, features: Floats) -> "GaussianProcess":
        """The process as if points `[M, F]` had turned out as expected ("kriging believer").

        Their means stay, their variances shrink: what is being tried attracts less.

        Source: Ginsbourger, Le Riche & Carraro 2010, "Kriging Is Well-Suited to Parallelize
        Optimization", section 4.2.
        """
        if not len(features):
            return self
        return GaussianProcess.given(
            self.kernel,
            self.noise,
            np.vstack([self.features, features]),
            np.concatenate([self.targets, self.expected(features)]),
        )


def fit(features: Floats, groups: Groups, targets: Floats) -> tuple[Kernel, float]:
    """The most probable kernel and noise variance, given at least one observation.

    Args:
        features: `[N, F]`.
        groups: The dimension of every feature: `[F]`.
        targets: `[N]`.
    """
    prior = Prior.of(groups)
    found = minimise(
        lambda theta: negative_log_posterior(theta, prior, features, groups, targets),
        start=prior.mean,
        steps=FIT_STEPS,
        tolerance=FIT_TOLERANCE,
    )
    return _unpack(found, groups)


def negative_log_posterior(
    theta: Floats, prior: Prior, features: Floats, groups: Groups, targets: Floats
) -> tuple[float, Floats]:
    """Minus the log posterior density of hyperparameters `theta` `[D + 2]`, and its gradient.

    Up to a constant; infinity where the covariance is numerically singular.
    """
    kernel, noise = _unpack(theta, groups)
    covariance, differentiate = kernel.with_slopes(features)
    try:
        inverse_root, pulls = _solve(covariance, noise, targets)
    except np.linalg.LinAlgError:
        return math.inf, np.zeros_like(theta)
    z = (theta - prior.mean) / prior.deviation
    # The diagonal of the inverse root is that of the root, inverted.
    log_determinant = -2 * np.sum(np.log(np.diag(inverse_root)))
    value = (targets @ pulls + log_determinant + z @ z) / 2
    # The derivative of the log likelihood by the covariance is half of this (equation 5.9).
    pull = np.outer(pulls, pulls) - inverse_root.T @ inverse_root
    slopes = np.append(differentiate(pull), (noise - NOISE_FLOOR) * np.trace(pull))
    return float(value), z / prior.deviation - slopes / 2


def _solve(covariance: Floats, noise: float, targets: Floats) -> tuple[Floats, Floats]:
    """The inverse Cholesky factor of the covariance of targets, and its inverse times them."""
    noisy = covariance + OFFSET_VARIANCE + noise * np.eye(len(targets))
    # NumPy solves no triangular systems; for a few hundred points inverting is as quick.
    inverse_root = np.linalg.inv(np.linalg.cholesky(noisy))
    return inverse_root, inverse_root.T @ (inverse_root @ targets)


def _unpack(theta: Floats, groups: Groups) -> tuple[Kernel, float]:
    kernel = Kernel(theta[:-2], float(theta[-2]), groups)
    return kernel, NOISE_FLOOR + math.exp(theta[-1])
