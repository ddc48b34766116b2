"""One knob or arch position as a number: its coordinate.

A numeric value's coordinate is where it lies in [0, 1] in the scale of its knob; a choice's is
its index. Dimensions have at least two values.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rafiki.model.knobs import FloatKnob, IntegerKnob, Scalar

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Numeric:
    """An integer or float knob.

    An integer n stands for [n - 1/2, n + 1/2], as in `sampling.draw_integer`, and its
    coordinate is that of n: so uniform coordinates, snapped, are uniform draws.
    """

    knob: IntegerKnob | FloatKnob

    @property
    def size(self) -> float:
        """How many values there are."""
        if isinstance(self.knob, FloatKnob):
            return math.inf
        return self.knob.max - self.knob.min + 1

    def _bounds(self) -> tuple[float, float]:
        """What the coordinates 0 and 1 stand for, in the knob's scale."""
        margin = 0.5 if isinstance(self.knob, IntegerKnob) else 0.0
        low, high = self.knob.min - margin, self.knob.max + margin
        return (math.log(low), math.log(high)) if self.knob.is_exp else (low, high)

    def _place(self, values: Floats) -> Floats:
        low, high = self._bounds()
        scaled = np.log(values) if self.knob.is_exp else values
        # Of halves: the difference of two finite floats may be infinite.
        return np.clip((scaled / 2 - low / 2) / (high / 2 - low / 2), 0.0, 1.0)

    def _values(self, coordinates: Floats) -> Floats:
        low, high = self._bounds()
        scaled = low * (1 - coordinates) + high * coordinates
        values = np.exp(scaled) if self.knob.is_exp else scaled
        if isinstance(self.knob, IntegerKnob):
            values = np.rint(values)
        return np.clip(values, float(self.knob.min), float(self.knob.max))

    def coordinates(self, values: Sequence[Scalar]) -> Floats:
        """The coordinates of values: `[N]`."""
        return self._place(np.array(values, np.float64))

    def value(self, coordinate: float) -> Scalar:
        """The value nearest to a coordinate."""
        value = float(self._values(np.array(coordinate)))
        if isinstance(self.knob, FloatKnob):
            return value
        # Floats hold no integer beyond 2**53 exactly, and may be beyond the bound.
        return min(max(round(value), self.knob.min), self.knob.max)

    def snap(self, coordinates: Floats) -> Floats:
        """The nearest coordinates that values have."""
        coordinates = np.clip(coordinates, 0.0, 1.0)
        if isinstance(self.knob, FloatKnob):
            return coordinates
        return self._place(self._values(coordinates))

    def draw(self, uniform: Floats) -> Floats:
        """The coordinates of random values, from uniform numbers in [0, 1)."""
        return self.snap(uniform)

    def levels(self) -> Floats:
        """The coordinates of all values of an integer knob, in order."""
        return self._place(np.arange(self.knob.min, self.knob.max + 1, dtype=np.float64))

    def features(self, coordinates: Floats) -> Floats:
        """The coordinates as a column: `[N, 1]`."""
        return coordinates[:, None]


@dataclass(frozen=True, slots=True)
class Choice:
    """A categorical knob, or an arch position, whose values are its indices."""

    values: Sequence[Scalar]
    _index: dict[Scalar, int] = field(init=False)

    def __post_init__(self) -> None:
        index = {value: number for number, value in enumerate(self.values)}
        object.__setattr__(self, "_index", index)

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    def coordinates(self, values: Sequence[Scalar]) -> Floats:
        """The coordinates of values: `[N]`."""
        return np.array([self._index[value] for value in values], np.float64)

    def value(self, coordinate: float) -> Scalar:
        """The value at a coordinate."""
        return self.values[int(coordinate)]

    def draw(self, uniform: Floats) -> Floats:
        """The coordinates of random values, from uniform numbers in [0, 1)."""
        return np.floor(uniform * self.size)

    def levels(self) -> Floats:
        """The coordinates of all values, in order."""
        return np.arange(self.size, dtype=np.float64)

    def features(self, coordinates: Floats) -> Floats:
        """One-hot rows over sqrt(2), of which different ones are at distance 1: `[N, size]`."""
        features: Floats = np.equal(coordinates[:, None], self.levels()) / math.sqrt(2)
        return features


Dimension: TypeAlias = Numeric | Choice
