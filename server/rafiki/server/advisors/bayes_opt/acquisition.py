"""How much a point promises: what trying it is expected to change in the result of the study.

The result of a study is the point with the best observed score, luck included: the incumbent i,
observed as t. Another point x takes its place if its own observation y = f(x) + noise is
above t; the study then gains f(x) - f(i), or loses it. The expected gain is

    E[(f(x) - f(i)) 1(y > t)] = (m(x) - m(i)) Phi(u) + (v(x) - c(x, i)) phi(u) / s,
    s^2 = v(x) + noise,  u = (m(x) - t) / s,

where m, v and c are mean, variance and covariance of f given all observations, phi and Phi the
standard normal density and distribution. Without noise it is the expected improvement of Jones,
Schonlau & Welch 1998, "Efficient Global Optimization of Expensive Black-Box Functions",
equation 15. Its logarithm tells points apart where it underflows, as in Ament et al. 2023,
"Unexpected Improvements to Expected Improvement for Bayesian Optimization" (arXiv 2310.20708).

Letters: M points.
"""

import math

import numpy as np

from rafiki.server.advisors.bayes_opt.dimensions import Floats
from rafiki.server.advisors.bayes_opt.process import Beliefs

# Beyond so many standard deviations, Phi is replaced by its asymptotic series (below), and is 1
# (above). Gains without noise cancel the first term, so three are needed.
ASYMPTOTIC = 25.0

# The least gain, over the density, that counts as one.
TINY = 1e-300

# Comes before the logarithm for points that are no gain, below that of any gain.
NO_GAIN = -1e9


def log_expected_gain(beliefs: Beliefs, target: float, mean: float, noise: float) -> Floats:
    """The logarithm of the expected gain: `[M]`, finite.

    Where the incumbent owes its place to luck, what would take its place may well be worse than
    it is, and the gain is negative. Such points come after all others, by their probability of
    being better than the incumbent.

    Args:
        beliefs: Of the points, and their covariances with the incumbent.
        target: What was observed of the incumbent.
        mean: What is expected of it.
        noise: The variance of observations.
    """
    deviation = np.sqrt(beliefs.variance + noise)
    u = np.minimum((beliefs.mean - target) / deviation, ASYMPTOTIC)
    log_density, ratio = _log_density(u), _mills_ratio(u)
    # The gain over phi(u).
    shift = beliefs.mean - mean
    gain = shift * ratio + (beliefs.variance - beliefs.covariance) / deviation
    # Underflow is no gain either.
    return np.where(
        gain > TINY,
        log_density + np.log(np.maximum(gain, TINY)),
        NO_GAIN + shift / np.sqrt(beliefs.variance),
    )


def _log_density(z: Floats) -> Floats:
    """log phi(z)."""
    log_density: Floats = -(z**2) / 2 - math.log(2 * math.pi) / 2
    return log_density


def _mills_ratio(z: Floats) -> Floats:
    """Phi(z) / phi(z), for z up to `ASYMPTOTIC`."""
    near = np.maximum(z, -ASYMPTOTIC)
    # NumPy has no erf; of a thousand numbers math.erfc takes a tenth of a millisecond.
    distribution = np.array([math.erfc(-x / math.sqrt(2)) / 2 for x in near.tolist()])
    inverse = 1 / np.maximum(-z, ASYMPTOTIC)
    far = inverse * (1 - inverse**2 + 3 * inverse**4)
    return np.where(z > -ASYMPTOTIC, distribution / np.exp(_log_density(near)), far)
