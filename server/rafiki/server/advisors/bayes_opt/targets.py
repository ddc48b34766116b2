"""Rewards as targets that a Gaussian process with normal noise can model."""

from statistics import NormalDist

import numpy as np

from rafiki.server.advisors.bayes_opt.dimensions import Floats


def targets(rewards: Floats) -> Floats:
    """The rewards in the same order, with mean 0 and variance 1, bad ones drawn near: `[N]`.

    Rewards below the median are replaced by the normal scores of their ranks: how much worse a
    crashed or diverged training is than a poor one says nothing about where the best are, but
    would stretch the scale until good ones look equal. Those above keep their distances, in
    units of their root mean square. All 0 if no two rewards differ.

    Source: the half-rank warping of Song et al. 2024, "The Vizier Gaussian Process Bandit
    Algorithm" (arXiv 2408.11527), section 3.2, without its other warpings.
    """
    halves = rewards / 2  # whose differences are finite
    above = halves - np.median(halves)
    good = above >= 0
    excess = np.maximum(above, 0.0)
    if highest := excess.max():
        excess /= highest
        excess /= np.sqrt(np.mean(excess[good] ** 2))
    warped = np.where(good, excess, _normal_scores(rewards))
    centred: Floats = warped - warped.mean()
    deviation = np.sqrt(np.mean(centred**2))
    return centred / deviation if deviation > 0 else np.zeros(len(rewards))


def _normal_scores(values: Floats) -> Floats:
    """The normal quantiles of the ranks, equal values sharing their mean rank."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts + 1) / 2  # from 0
    quantile = NormalDist().inv_cdf
    scores = [quantile((rank + 0.5) / len(values)) for rank in ranks.tolist()]
    return np.array(scores)[inverse]
