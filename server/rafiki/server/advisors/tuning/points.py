"""Points as arrays, and back: what a snapshot of many trials is made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rafiki.model.knobs import (
    CategoricalKnob,
    FixedKnob,
    FloatKnob,
    IntegerKnob,
    KnobConfig,
    Scalar,
)
from rafiki.server.advisors.space import ArchSpace, Choices

Arrays = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Point:
    """One setting: every knob but arch and policy knobs, and one index per arch position."""

    knobs: Mapping[str, Scalar]
    choices: Choices = ()


class PointCodec:
    """Turns points of one space into a few arrays, a column for every knob that varies."""

    def __init__(self, knob_config: KnobConfig) -> None:
        self._knobs = {
            name: knob
            for name, knob in knob_config.items()
            if isinstance(knob, FixedKnob | CategoricalKnob | IntegerKnob | FloatKnob)
        }
        self._positions = len(ArchSpace(knob_config).sizes)

    def dump(self, points: Sequence[Point]) -> dict[str, NDArray[np.generic]]:
        """The points as arrays, each with one row per point."""
        # An arch position has at most 1000 choices, a categorical knob as many values.
        choices = np.array([point.choices for point in points], np.uint16)
        arrays: dict[str, NDArray[np.generic]] = {
            "choices": choices.reshape(len(points), self._positions)
        }
        for name, knob in self._knobs.items():
            values = [point.knobs[name] for point in points]
            match knob:
                case FixedKnob():
                    pass
                case CategoricalKnob(values=known):
                    index = {value: number for number, value in enumerate(known)}
                    arrays[f"knob/{name}"] = np.array([index[value] for value in values], np.uint16)
                case IntegerKnob():
                    arrays[f"knob/{name}"] = np.array(values, np.int64)
                case FloatKnob():
                    arrays[f"knob/{name}"] = np.array(values, np.float64)
        return arrays

    def load(self, arrays: Arrays) -> list[Point]:
        """The inverse of `dump`."""
        choices = [tuple(row) for row in arrays["choices"].tolist()]
        columns: dict[str, list[Scalar]] = {}
        for name, knob in self._knobs.items():
            if isinstance(knob, FixedKnob):
                columns[name] = [knob.value] * len(choices)
                continue
            column = arrays[f"knob/{name}"].tolist()
            if isinstance(knob, CategoricalKnob):
                column = [knob.values[index] for index in column]
            columns[name] = column
        return [
            Point({name: column[row] for name, column in columns.items()}, chosen)
            for row, chosen in enumerate(choices)
        ]


def below(prefix: str, arrays: Arrays) -> dict[str, NDArray[np.generic]]:
    """The arrays whose names start with `prefix`, without it."""
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def under(prefix: str, arrays: Arrays) -> dict[str, NDArray[np.generic]]:
    """The inverse of `below`: the arrays with `prefix` before their names."""
    return {prefix + name: array for name, array in arrays.items()}
