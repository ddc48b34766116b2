"""The points of a space as numbers, to draw them without repeats."""

import random
from collections.abc import Container, Mapping

from rafiki.model.knobs import (
    CategoricalKnob,
    FixedKnob,
    FloatKnob,
    IntegerKnob,
    KnobConfig,
    Scalar,
)
from rafiki.server.advisors.sampling import draw_scalars
from rafiki.server.advisors.space import ArchSpace, Choices

# Beyond this many points draws do not repeat by chance, and none is remembered.
COUNTABLE_POINTS = 2**63

# Draws that may hit points that are taken, until the next free one is used instead.
REDRAWS = 64

_Finite = FixedKnob | CategoricalKnob | IntegerKnob | FloatKnob


class Grid:
    """The points of a knob config: scalars (settings of the other knobs) by architectures.

    A point has a number in [0, points), where `points` is None for a space that is
    infinite or as good as. The number of a point is that of its scalars times the number
    of architectures plus that of its architecture.
    """

    def __init__(self, knob_config: KnobConfig) -> None:
        self._knob_config = knob_config
        self.archs = ArchSpace(knob_config)
        self._scalars: dict[str, _Finite] = {
            name: knob for name, knob in knob_config.items() if isinstance(knob, _Finite)
        }
        self.names = tuple(self._scalars)  # of the knobs that have a scalar, in declared order
        points = self.archs.count
        for knob in self._scalars.values():
            points *= _size(knob) or COUNTABLE_POINTS
        self.points = points if points < COUNTABLE_POINTS else None

    def draw_knobs(self, rng: random.Random) -> dict[str, Scalar]:
        """A uniform value for every knob but arch and policy knobs."""
        return draw_scalars(self._knob_config, rng)

    def number(self, knobs: Mapping[str, Scalar], choices: Choices) -> int:
        """The number of a point of a countable grid."""
        number = 0
        for name, knob in self._scalars.items():
            number = number * (_size(knob) or 1) + _index(knob, knobs[name])
        return number * self.archs.count + self.archs.index(choices)

    def at(self, number: int) -> tuple[dict[str, Scalar], Choices]:
        """The inverse of `number`."""
        number, arch = divmod(number, self.archs.count)
        values: dict[str, Scalar] = {}
        for name, knob in reversed(self._scalars.items()):
            number, index = divmod(number, _size(knob) or 1)
            values[name] = _value(knob, index)
        return {name: values[name] for name in self._scalars}, self.archs.at(arch)

    def draw(
        self, count: int, taken: Container[int], rng: random.Random
    ) -> tuple[dict[str, Scalar], list[Choices]]:
        """Scalars with up to `count` architectures, all points distinct and not in `taken`.

        At least one point must be free, else this does not return. Draws are uniform as
        long as they find free points; in a space nearly used up, the free point next in
        number to a draw is used. There are fewer than `count` only where no more points
        with these scalars are free.
        """
        knobs, choices = self.draw_knobs(rng), self.archs.draw(rng)
        if self.points is None:
            return knobs, [choices, *(self.archs.draw(rng) for _ in range(count - 1))]
        for _ in range(REDRAWS):
            if self.number(knobs, choices) not in taken:
                break
            knobs, choices = self.draw_knobs(rng), self.archs.draw(rng)
        number = self.number(knobs, choices)
        while number in taken:
            number = (number + 1) % self.points
        knobs, choices = self.at(number)
        drawn = {number: choices}
        while len(drawn) < count:
            if (number := self._draw_beside(number, taken, drawn, rng)) < 0:
                break
            drawn[number] = self.at(number)[1]
        return knobs, list(drawn.values())

    def _draw_beside(
        self, number: int, taken: Container[int], drawn: Container[int], rng: random.Random
    ) -> int:
        """A free point with the scalars of point `number`; -1 if there is none."""
        archs = self.archs.count
        base = number - number % archs
        for _ in range(REDRAWS):
            number = base + self.archs.index(self.archs.draw(rng))
            if number not in taken and number not in drawn:
                return number
        for offset in range(archs):
            candidate = base + (number - base + offset) % archs
            if candidate not in taken and candidate not in drawn:
                return candidate
        return -1


def _size(knob: _Finite) -> int | None:
    """How many values `knob` has; None for a continuum."""
    match knob:
        case FixedKnob():
            return 1
        case CategoricalKnob(values=values):
            return len(values)
        case IntegerKnob(min=low, max=high):
            return high - low + 1
        case FloatKnob(min=low, max=high):
            return 1 if low == high else None


def _index(knob: _Finite, value: Scalar) -> int:
    match knob:
        case CategoricalKnob(values=values):
            return values.index(value)
        case IntegerKnob(min=low):
            return int(value) - low
        case _:
            return 0


def _value(knob: _Finite, index: int) -> Scalar:
    match knob:
        case FixedKnob(value=value):
            return value
        case CategoricalKnob(values=values):
            return values[index]
        case IntegerKnob(min=low):
            return low + index
        case FloatKnob(min=only):
            return only
