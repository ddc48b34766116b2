"""EVOLUTION: regularised (ageing) evolution over any knobs.

Real et al. 2019, "Regularized Evolution for Image Classifier Architecture Search", section 3
and algorithm 1: the population are the youngest trials; a parent is the best of a sample of
it; its child differs in one place; the oldest dies, whatever its score.

What is ours: a population that holds for asynchronous workers (the last trials to *end*), no
point is tried twice, and numeric knobs move by a Gaussian step on their scale as real-valued
genes do in evolution strategies (Schwefel 1981), where categories are drawn afresh.
"""

import math
import random
from collections.abc import Mapping, Sequence

from rafiki.model.knobs import CategoricalKnob, FloatKnob, IntegerKnob, KnobConfig, Scalar
from rafiki.resources import EvolutionOptions
from rafiki.server.advisors.space import ArchSpace
from rafiki.server.advisors.tuning.history import History, Scored
from rafiki.server.advisors.tuning.points import Point
from rafiki.server.advisors.tuning.random import draw_free
from rafiki.server.advisors.tuning.sampler import Sampler

# Standard deviation of a numeric step, as a share of the knob's range on its scale.
STEP = 0.2

# Children drawn that are taken already, before one more place is changed.
ATTEMPTS = 16

# A gene: the name of a knob, or the number of an arch position.
_Gene = str | int
_Tunable = CategoricalKnob | IntegerKnob | FloatKnob


class EvolutionSampler(Sampler):
    """Proposes children of good recent points; random ones until there is a population."""

    def __init__(self, knob_config: KnobConfig, options: EvolutionOptions) -> None:
        self._options = options
        self._mutation = Mutation(knob_config)

    def propose(self, history: History, count: int, seed: int) -> list[Point]:
        rng = random.Random(seed)
        parent = self._parent(history, rng)
        if parent is None:
            return draw_free(history, 1, rng)
        child = self._mutation.free_child(history, parent.point, rng)
        return [child] if child is not None else draw_free(history, 1, rng)

    def basis(self, history: History, seed: int) -> Mapping[str, float]:
        parent = self._parent(history, random.Random(seed))
        if parent is None:
            return {}
        return {"parent_trial": float(parent.trial)}

    def _parent(self, history: History, rng: random.Random) -> Scored | None:
        """The best of a sample of the population; None while that is still filling.

        Running trials fill it too, once there are enough scores for a sample: with W workers, the
        W - 1 proposals after the first so many would be random otherwise.
        """
        options = self._options
        entered = len(history.scored) + len(history.pending)
        if len(history.scored) < options.sample_size or entered < options.population_size:
            return None
        population = history.scored[-options.population_size :]
        sample = rng.sample(population, min(options.sample_size, len(population)))
        return max(sample, key=lambda member: member.reward)


class Mutation:
    """Makes points that differ from another in as few places as leave them free."""

    def __init__(self, knob_config: KnobConfig) -> None:
        self._sizes = ArchSpace(knob_config).sizes
        self._knobs: dict[str, _Tunable] = {
            name: knob
            for name, knob in knob_config.items()
            if isinstance(knob, _Tunable) and _varies(knob)
        }
        positions = (number for number, size in enumerate(self._sizes) if size > 1)
        self._genes: list[_Gene] = [*self._knobs, *positions]

    def free_child(self, history: History, parent: Point, rng: random.Random) -> Point | None:
        """A point that is not taken, one place from `parent` if possible; None if hard to find."""
        for changes in range(1, len(self._genes) + 1):
            for _ in range(ATTEMPTS):
                child = self._child(parent, rng.sample(self._genes, changes), rng)
                if not history.is_taken(child):
                    return child
        return None

    def _child(self, parent: Point, genes: Sequence[_Gene], rng: random.Random) -> Point:
        knobs, choices = dict(parent.knobs), list(parent.choices)
        for gene in genes:
            if isinstance(gene, str):
                knobs[gene] = move(self._knobs[gene], knobs[gene], rng)
            else:
                choices[gene] = _another(choices[gene], self._sizes[gene], rng)
        return Point(knobs, tuple(choices))


def move(
    knob: CategoricalKnob | IntegerKnob | FloatKnob, value: Scalar, rng: random.Random
) -> Scalar:
    """Another value of a knob that has several: a category drawn afresh, a number near by."""
    match knob:
        case CategoricalKnob(values=values):
            return values[_another(values.index(value), len(values), rng)]
        case IntegerKnob(min=low, max=high, is_exp=is_exp):
            moved = _step(float(value), low - 0.5, high + 0.5, is_exp, rng)
            rounded = min(max(round(moved), low), high)
            if rounded != value:
                return rounded
            up = rng.random() < 0.5
            return rounded + 1 if rounded == low or (up and rounded < high) else rounded - 1
        case FloatKnob(min=low, max=high, is_exp=is_exp):
            return min(max(_step(float(value), low, high, is_exp, rng), low), high)


def _step(value: float, low: float, high: float, is_exp: bool, rng: random.Random) -> float:
    """A Gaussian step on the scale of the interval, reflected at its ends."""
    if is_exp:
        return math.exp(_step(math.log(value), math.log(low), math.log(high), False, rng))
    # The difference of two finite bounds may be infinite; that of their halves is not.
    span = high / 2 - low / 2
    place = (value / 2 - low / 2) / span + rng.gauss(0.0, STEP)
    place = abs(place) % 2.0
    return 2 * (low / 2 + span * (2.0 - place if place > 1.0 else place))


def _another(index: int, size: int, rng: random.Random) -> int:
    other = rng.randrange(size - 1)
    return other + (other >= index)


def _varies(knob: _Tunable) -> bool:
    match knob:
        case CategoricalKnob(values=values):
            return len(values) > 1
        case IntegerKnob(min=low, max=high) | FloatKnob(min=low, max=high):
            return low < high
