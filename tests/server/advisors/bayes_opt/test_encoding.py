import math

import numpy as np
import pytest

from rafiki.model.knobs import (
    ArchKnob,
    CategoricalKnob,
    FixedKnob,
    FloatKnob,
    IntegerKnob,
    Knob,
    Policy,
    PolicyKnob,
)
from rafiki.server.advisors.bayes_opt.candidates import drawn, enumerated
from rafiki.server.advisors.bayes_opt.encoding import Encoding
from rafiki.server.advisors.tuning.points import Point

INT64_MAX = 2**63 - 1


def coordinate(knob: Knob, value: int | float | str) -> float:
    return float(Encoding({"k": knob}).coordinates([Point({"k": value})])[0, 0])


def test_a_float_lies_where_it_is_in_its_range() -> None:
    assert coordinate(FloatKnob(-2.0, 6.0), 0.0) == pytest.approx(0.25)


def test_a_float_on_a_log_scale_lies_where_its_logarithm_is() -> None:
    assert coordinate(FloatKnob(1e-4, 1.0, is_exp=True), 1e-3) == pytest.approx(0.25)


def test_an_integer_is_the_middle_of_its_cell() -> None:
    knob = IntegerKnob(1, 4)
    assert [coordinate(knob, n) for n in (1, 2, 3, 4)] == pytest.approx(
        [0.125, 0.375, 0.625, 0.875]
    )


def test_an_integer_on_a_log_scale_lies_between_the_logarithms_of_its_cells() -> None:
    low, high = math.log(0.5), math.log(16.5)
    expected = (math.log(4) - low) / (high - low)
    assert coordinate(IntegerKnob(1, 16, is_exp=True), 4) == pytest.approx(expected)


def test_a_categorical_value_is_its_index() -> None:
    assert coordinate(CategoricalKnob(["a", "b", "c"]), "c") == 2


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        (FloatKnob(-1.7e308, 1.7e308), -1e308),
        (FloatKnob(1e-300, 1e300, is_exp=True), 1e-300),
        (FloatKnob(1e-300, 1e300, is_exp=True), 1e300),
        (IntegerKnob(-(2**63), INT64_MAX), INT64_MAX),
        (IntegerKnob(-(2**63), INT64_MAX), -(2**63)),
        (IntegerKnob(1, INT64_MAX, is_exp=True), INT64_MAX),
        (IntegerKnob(1, 1000, is_exp=True), 1),
        (IntegerKnob(1, 1000, is_exp=True), 777),
        (IntegerKnob(-5, 5), -5),
        (CategoricalKnob([True, False]), False),
        (CategoricalKnob([0.5, 0.25]), 0.25),
    ],
)
def test_a_point_comes_back_from_its_coordinates(knob: Knob, value: int | float) -> None:
    encoding = Encoding({"k": knob})
    decoded = encoding.point(encoding.coordinates([Point({"k": value})])[0]).knobs["k"]
    assert decoded == pytest.approx(value, rel=1e-9)
    assert type(decoded) is type(value)


def test_what_has_one_value_is_no_dimension_but_comes_back() -> None:
    encoding = Encoding(
        {
            "fixed": FixedKnob(7),
            "only": CategoricalKnob(["x"]),
            "cells": ArchKnob([["a"], ["a", "b"], ["c"]]),
            "stop": PolicyKnob(Policy.EARLY_STOP),
            "same": IntegerKnob(3, 3),
            "rate": FloatKnob(0.0, 1.0),
        }
    )
    point = Point({"fixed": 7, "only": "x", "same": 3, "rate": 0.5}, (0, 1, 0))
    coordinates = encoding.coordinates([point])
    assert coordinates.tolist() == [[0.5, 1.0]]
    assert encoding.point(coordinates[0]) == point


def test_features_of_different_choices_are_at_squared_distance_1() -> None:
    encoding = Encoding({"k": CategoricalKnob(["a", "b", "c"]), "x": FloatKnob(0.0, 1.0)})
    a, b, c = encoding.features(np.array([[0.0, 0.5], [1.0, 0.5], [2.0, 0.75]]))
    assert np.sum((a - b) ** 2) == pytest.approx(1.0)
    assert np.sum((a - c) ** 2) == pytest.approx(1.0 + 0.25**2)
    assert encoding.groups.tolist() == [0, 0, 0, 1]


def test_draws_of_a_wide_log_integer_are_uniform_in_the_logarithm() -> None:
    encoding = Encoding({"k": IntegerKnob(1, 10**6, is_exp=True)})
    rows = drawn(encoding, 2000, np.random.default_rng(0))
    values = np.array([encoding.point(row).knobs["k"] for row in rows])
    assert np.mean(values < 1000) == pytest.approx(0.5, abs=0.06)


def test_enumeration_gives_every_point_of_a_space_once() -> None:
    encoding = Encoding(
        {"n": IntegerKnob(2, 4, is_exp=True), "c": CategoricalKnob(["a", "b"]), "f": FixedKnob(1)}
    )
    points = [encoding.point(row) for row in enumerated(encoding)]
    values = [(point.knobs["n"], point.knobs["c"]) for point in points]
    assert sorted(values) == [(n, c) for n in (2, 3, 4) for c in ("a", "b")]
