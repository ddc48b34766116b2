"""The points of a space as rows of coordinates, and as features for a kernel.

Letters: N points, D dimensions (the knobs and arch positions that have more than one value),
F features.
"""

from collections.abc import Sequence

import numpy as np

from rafiki.model.knobs import CategoricalKnob, FixedKnob, FloatKnob, IntegerKnob, KnobConfig
from rafiki.server.advisors.bayes_opt.dimensions import Choice, Dimension, Floats, Numeric
from rafiki.server.advisors.space import ArchSpace
from rafiki.server.advisors.tuning.points import Point

# The most numbers in one array of features: 8 MB.
FEATURE_ELEMENTS = 2**20


class Encoding:
    """The dimensions of a space, knobs before arch positions; `groups` `[F]` has each feature's."""

    def __init__(self, knob_config: KnobConfig) -> None:
        self._knobs: dict[str, Numeric | Choice | FixedKnob] = {}
        for name, knob in knob_config.items():
            match knob:
                case FixedKnob():
                    self._knobs[name] = knob
                case CategoricalKnob(values=values):
                    many = len(values) > 1
                    self._knobs[name] = Choice(values) if many else FixedKnob(values[0])
                case IntegerKnob(min=low, max=high) | FloatKnob(min=low, max=high):
                    self._knobs[name] = Numeric(knob) if low < high else FixedKnob(low)
                case _:
                    pass
        self._names = [n for n, knob in self._knobs.items() if not isinstance(knob, FixedKnob)]
        sizes = ArchSpace(knob_config).sizes
        self._length = len(sizes)
        self._positions = [position for position, size in enumerate(sizes) if size > 1]
        self.dimensions: list[Dimension] = [
            knob for knob in self._knobs.values() if not isinstance(knob, FixedKnob)
        ]
        self.dimensions += [Choice(range(sizes[position])) for position in self._positions]
        widths = [dim.size if isinstance(dim, Choice) else 1 for dim in self.dimensions]
        self.groups = np.repeat(np.arange(len(widths)), widths)

    def affordable(self, rows: int) -> int:
        """`rows`, or as many, at least 8, as have an array of features of bearable size."""
        return min(rows, max(8, FEATURE_ELEMENTS // max(1, len(self.groups))))

    def coordinates(self, points: Sequence[Point]) -> Floats:
        """The coordinates of points: `[N, D]`."""
        columns = [[point.knobs[name] for point in points] for name in self._names]
        columns += [[point.choices[position] for point in points] for position in self._positions]
        rows = np.empty((len(points), len(self.dimensions)))
        for number, (dimension, column) in enumerate(zip(self.dimensions, columns, strict=True)):
            rows[:, number] = dimension.coordinates(column)
        return rows

    def point(self, coordinates: Floats) -> Point:
        """The point at coordinates `[D]`."""
        values = [
            dimension.value(coordinate)
            for dimension, coordinate in zip(self.dimensions, coordinates.tolist(), strict=True)
        ]
        varying = dict(zip(self._names, values, strict=False))
        knobs = {
            name: knob.value if isinstance(knob, FixedKnob) else varying[name]
            for name, knob in self._knobs.items()
        }
        choices = [0] * self._length
        for position, choice in zip(self._positions, values[len(self._names) :], strict=True):
            choices[position] = int(choice)
        return Point(knobs, tuple(choices))

    def features(self, coordinates: Floats) -> Floats:
        """The features of rows of coordinates: `[N, F]`."""
        return np.hstack(
            [
                dimension.features(column)
                for dimension, column in zip(self.dimensions, coordinates.T, strict=True)
            ]
        )
