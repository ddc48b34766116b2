"""RANDOM: uniform draws, each in its knob's scale, without repeats in a countable space."""

import random

from rafiki.server.advisors.tuning.history import History
from rafiki.server.advisors.tuning.points import Point
from rafiki.server.advisors.tuning.sampler import Sampler


class RandomSampler(Sampler):
    """Draws free points, whatever became of those before."""

    learns = False

    def propose(self, history: History, count: int, seed: int) -> list[Point]:
        return draw_free(history, count, random.Random(seed))


def draw_free(history: History, count: int, rng: random.Random) -> list[Point]:
    """Up to `count` uniform points that are not taken, at least one, all with equal knobs.

    Of a space that is not countable draws do not repeat but by chance.

    Args:
        history: What is taken; the space must not be exhausted.
        count: How many, at most.
        rng: Is consumed.
    """
    knobs, drawn = history.grid.draw(count, history.taken_numbers, rng)
    return [Point(knobs, choices) for choices in drawn]
