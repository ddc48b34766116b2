"""Points as arrays, and what is remembered of those tried."""

import random

import numpy as np
import pytest
from tests.server.advisors.tuning_studies import EARLY_STOP, LONG_ARCH, SMALL, SMALL_ARCH, WIDE

from rafiki.model.knobs import CategoricalKnob, FixedKnob, FloatKnob, IntegerKnob, Knob
from rafiki.server.advisors.tuning.history import History, Point, Scored
from rafiki.server.advisors.tuning.points import PointCodec

ALL: dict[str, Knob] = {
    "text": FixedKnob("x"),
    "flag": CategoricalKnob([True, False]),
    "ratio": CategoricalKnob([0.5, 2.0]),
    "wide": IntegerKnob(-(2**63), 2**63 - 1),
    "rate": FloatKnob(-1.7e308, 1.7e308),
}


@pytest.mark.parametrize("knobs", [ALL | LONG_ARCH | EARLY_STOP, ALL, SMALL_ARCH, {}])
@pytest.mark.parametrize("count", [0, 1, 50])
def test_points_come_back_from_arrays_as_they_were(knobs: dict[str, Knob], count: int) -> None:
    history, codec = History(knobs), PointCodec(knobs)
    drawn = [history.grid.draw(1, (), random.Random(n)) for n in range(count)]
    points = [Point(values, archs[0]) for values, archs in drawn]
    arrays = codec.dump(points)
    assert all(array.dtype != np.object_ for array in arrays.values())
    loaded = codec.load(arrays)
    assert loaded == points
    types = [[type(value) for value in point.knobs.values()] for point in points]
    assert [[type(value) for value in point.knobs.values()] for point in loaded] == types


@pytest.mark.parametrize("knobs", [SMALL, WIDE | LONG_ARCH])
def test_a_history_comes_back_with_all_that_is_taken(knobs: dict[str, Knob]) -> None:
    history = History(knobs)
    points = []
    for number in range(8):
        values, archs = history.grid.draw(1, history.taken_numbers, random.Random(number))
        points.append(Point(values, archs[0]))
        history.take(points[-1])
    history.scored = [Scored(point, n / 7, n) for n, point in enumerate(points[:3])]
    history.failed, history.controls = points[3:5], points[5:6]
    history.running = {9: points[6:8]}
    loaded = History(knobs)
    loaded.load(history.dump(), history.running)
    assert loaded.scored == history.scored and loaded.failed == history.failed
    assert loaded.controls == history.controls and loaded.pending == points[6:8]
    assert all(loaded.is_taken(point) for point in points)
    assert loaded.free == history.free


def test_a_point_is_recognised_whatever_the_order_of_its_knobs() -> None:
    history = History(WIDE)
    history.take(Point({"rate": 0.5, "units": 3, "kind": "a"}))
    assert history.is_taken(Point({"kind": "a", "units": 3, "rate": 0.5}))
    assert not history.is_taken(Point({"kind": "b", "units": 3, "rate": 0.5}))


def test_a_point_released_is_free_again() -> None:
    history = History(SMALL_ARCH)
    point = Point({"depth": 3}, (0, 1, 0))
    history.take(point)
    assert history.free == 11 and history.is_taken(point)
    history.release(point)
    assert history.free == 12 and not history.is_taken(point)
