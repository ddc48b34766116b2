"""Minimisation of a smooth function of a few numbers to a few hundred."""

from collections.abc import Callable

import numpy as np

from rafiki.server.advisors.bayes_opt.dimensions import Floats

# No coordinate changes by more in one step: the arguments are logarithms, their scale is 1.
MAX_STEP = 2.0

# A step must gain this part of what the slope promises (Armijo), or is cut by `CUT`.
SUFFICIENT = 1e-4
CUT = 0.4
MAX_CUTS = 8


def minimise(
    function: Callable[[Floats], tuple[float, Floats]],
    start: Floats,
    steps: int,
    tolerance: float,
) -> Floats:
    """A local minimum, by L-BFGS with backtracking and all steps remembered.

    Args:
        function: Gives value and gradient; a value of infinity where it has none.
        start: Where it has a value.
        steps: At most so many.
        tolerance: A step that gains less is the last.

    Source: Nocedal & Wright 2006, "Numerical Optimization", algorithms 7.4 and 3.1.
    """
    at = start
    value, gradient = function(at)
    memory: list[tuple[Floats, Floats]] = []  # steps, and how they changed the gradient
    for _ in range(steps):
        direction = _direction(gradient, memory)
        slope = float(direction @ gradient)
        for _ in range(MAX_CUTS):
            new = at + direction
            new_value, new_gradient = function(new)
            if new_value <= value + SUFFICIENT * slope:
                break
            direction, slope = CUT * direction, CUT * slope
        else:
            return at
        if direction @ (new_gradient - gradient) > 0:
            memory.append((direction, new_gradient - gradient))
        gain = value - new_value
        at, value, gradient = new, new_value, new_gradient
        if gain < tolerance:
            break
    return at


def _direction(gradient: Floats, memory: list[tuple[Floats, Floats]]) -> Floats:
    """Minus the gradient times an estimate of the inverse Hessian (two-loop recursion)."""
    direction = -gradient
    pulls = []
    for step, change in reversed(memory):
        pull = (step @ direction) / (step @ change)
        pulls.append(pull)
        direction = direction - pull * change
    if memory:
        step, change = memory[-1]
        direction = direction * ((step @ change) / (change @ change))
    for (step, change), pull in zip(memory, reversed(pulls), strict=True):
        direction = direction + (pull - (change @ direction) / (step @ change)) * step
    longest = float(np.abs(direction).max())
    return direction * (MAX_STEP / longest) if longest > MAX_STEP else direction
