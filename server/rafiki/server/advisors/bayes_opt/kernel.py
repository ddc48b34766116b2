"""The covariance of the rewards of two points: Matern 5/2, with a weight per dimension.

Letters: N and M points, D dimensions, F features (see `encoding`).

    k(x, x') = exp(a) m(r^2),  m(r^2) = (1 + s + s^2 / 3) exp(-s),  s = sqrt(5) r,
    r^2 = sum over dimensions d of exp(w_d) |x_d - x'_d|^2,

where x_d are the features of dimension d. So exp(-w_d / 2) is a length scale: in a numeric
dimension as part of its whole range; in one of choices, where |x_d - x'_d|^2 is 0 or 1, as what
it costs to choose differently. As r is a Euclidean distance, k is positive definite.

Source: Rasmussen & Williams 2006, "Gaussian Processes for Machine Learning", equation 4.17 with
the automatic relevance determination of section 5.1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rafiki.server.advisors.bayes_opt.dimensions import Floats


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel with its parameters, `[D]` weights among them."""

    weights: Floats
    amplitude: float
    groups: NDArray[np.int64]  # [F] the dimension of every feature

    @property
    def variance(self) -> float:
        """The covariance of a point with itself."""
        return float(np.exp(self.amplitude))

    def scaled(self, features: Floats) -> Floats:
        """Features whose Euclidean distances are r: `[N, F]`."""
        scaled: Floats = features * np.exp(self.weights / 2)[self.groups]
        return scaled

    def __call__(self, a: Floats, b: Floats) -> Floats:
        """The covariances of points with features `[N, F]` and `[M, F]`: `[N, M]`."""
        return self.variance * matern(squared_distances(self.scaled(a), self.scaled(b)))[0]

    def with_slopes(self, features: Floats) -> tuple[Floats, Callable[[Floats], Floats]]:
        """The covariances K of points `[N, F]` with each other, and how to differentiate by them.

        The function takes the derivatives of some number by K, symmetric `[N, N]`, and gives
        those by weights and amplitude: `[D + 1]`.
        """
        scaled = self.scaled(features)
        correlation, slope = matern(squared_distances(scaled, scaled))
        covariance = self.variance * correlation

        def differentiate(pull: Floats) -> Floats:
            # With P = pull * dK / dr^2: of a feature x, the sum over i and j of
            # P_ij (x_i - x_j)^2 is 2 (sum_i x_i^2 sum_j P_ij - x' P x). No [D, N, N] is needed.
            p = pull * self.variance * slope
            per_feature = 2 * (p.sum(axis=1) @ scaled**2 - np.sum(scaled * (p @ scaled), axis=0))
            weights = np.bincount(self.groups, per_feature, minlength=len(self.weights))
            return np.append(weights, np.sum(pull * covariance))

        return covariance, differentiate


def squared_distances(a: Floats, b: Floats) -> Floats:
    """The squared Euclidean distances of rows `[N, F]` and `[M, F]`: `[N, M]`."""
    squares = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1)
    # Rounding may leave less than 0.
    distances: Floats = np.maximum(squares - 2 * (a @ b.T), 0.0)
    return distances


def matern(r2: Floats) -> tuple[Floats, Floats]:
    """The Matern 5/2 correlation at squared distances, and its derivative by these (finite)."""
    s = np.sqrt(5 * r2)
    decay = np.exp(-s)
    return (1 + s + 5 / 3 * r2) * decay, -5 / 6 * (1 + s) * decay
