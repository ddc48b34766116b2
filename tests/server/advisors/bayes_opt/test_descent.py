import math

import numpy as np
import pytest

from rafiki.server.advisors.bayes_opt.descent import minimise
from rafiki.server.advisors.bayes_opt.dimensions import Floats

SCALES = np.array([1.0, 10.0, 100.0])


def bowl(at: Floats) -> tuple[float, Floats]:
    """A quadratic with its minimum at (1, 2, 3)."""
    off = at - np.array([1.0, 2.0, 3.0])
    return float(off @ (SCALES * off)) / 2, SCALES * off


def test_the_minimum_of_a_narrow_bowl_is_found_in_a_few_steps() -> None:
    found = minimise(bowl, np.zeros(3), steps=25, tolerance=1e-9)
    assert found == pytest.approx([1.0, 2.0, 3.0], abs=1e-3)


def test_steps_into_where_there_is_no_value_are_cut() -> None:
    def log_barrier(at: Floats) -> tuple[float, Floats]:
        if at[0] <= 0:
            return math.inf, np.zeros(1)
        return float(at[0] - math.log(at[0])), 1 - 1 / at

    found = minimise(log_barrier, np.array([5.0]), steps=25, tolerance=1e-9)
    assert found == pytest.approx([1.0], abs=1e-3)


def test_a_minimum_stays_where_it_is() -> None:
    start = np.array([1.0, 2.0, 3.0])
    assert minimise(bowl, start, steps=25, tolerance=1e-9).tolist() == start.tolist()
