"""BAYES_OPT: proposes the point of which a model of the rewards expects the most."""

import random

import numpy as np

from rafiki.model.knobs import KnobConfig
from rafiki.resources import BayesOptOptions
from rafiki.server.advisors.bayes_opt.acquisition import log_expected_gain
from rafiki.server.advisors.bayes_opt.candidates import ranked_candidates
from rafiki.server.advisors.bayes_opt.dimensions import Floats
from rafiki.server.advisors.bayes_opt.encoding import Encoding
from rafiki.server.advisors.bayes_opt.observations import observations, representatives
from rafiki.server.advisors.bayes_opt.process import GaussianProcess, fit
from rafiki.server.advisors.tuning.history import History
from rafiki.server.advisors.tuning.points import Point
from rafiki.server.advisors.tuning.random import draw_free
from rafiki.server.advisors.tuning.sampler import Sampler

# The model holds about so many points, and its hyperparameters are learned from so many of
# these: the cost of a proposal grows with their cubes, the second some twenty times over.
OBSERVATIONS = 200
LEARNED_FROM = 100


class BayesOptSampler(Sampler):
    """Fits a Gaussian process to what was tried and maximises the expected gain.

    It keeps nothing between proposals. The first `initial_trials` points are uniform draws.
    """

    def __init__(self, knob_config: KnobConfig, options: BayesOptOptions) -> None:
        self._encoding = Encoding(knob_config)
        self._initial_trials = options.initial_trials

    def propose(self, history: History, count: int, seed: int) -> list[Point]:
        tried = len(history.scored) + len(history.failed) + len(history.pending)
        if tried >= self._initial_trials and len(history.scored) >= 2:
            for row in self._ranked(history, np.random.default_rng(seed)):
                point = self._encoding.point(row)
                if not history.is_taken(point):
                    return [point]
        return draw_free(history, 1, random.Random(seed))

    def _ranked(self, history: History, rng: np.random.Generator) -> Floats:
        """Candidates, the most promising first: `[M, D]`."""
        encoding = self._encoding
        observed = observations(history, encoding.affordable(OBSERVATIONS))
        rows = encoding.coordinates(observed.points)
        features, targets = encoding.features(rows), observed.targets
        sample = representatives(targets, LEARNED_FROM)
        kernel, noise = fit(features[sample], encoding.groups, targets[sample])
        process = GaussianProcess.given(kernel, noise, features, targets)
        means = process.expected(features)
        incumbent = int(np.argmax(targets))
        pending = encoding.coordinates(history.pending[-encoding.affordable(OBSERVATIONS) :])
        imagined = process.imagine(encoding.features(pending))

        def acquisition(candidates: Floats) -> Floats:
            return log_expected_gain(
                imagined.beliefs(encoding.features(candidates), features[incumbent]),
                target=float(targets[incumbent]),
                mean=float(means[incumbent]),
                noise=noise,
            )

        known = np.vstack([rows, pending])
        parents = rows[np.argsort(-means, kind="stable")]
        return ranked_candidates(encoding, acquisition, known, parents, rng)
