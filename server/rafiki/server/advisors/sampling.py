"""Uniform draws from knobs, each in its own scale."""

import math
import random

from rafiki.model.knobs import (
    CategoricalKnob,
    FixedKnob,
    FloatKnob,
    IntegerKnob,
    KnobConfig,
    Scalar,
)


def fixed_values(knob_config: KnobConfig) -> dict[str, Scalar]:
    """The value of every fixed knob, by name."""
    return {name: knob.value for name, knob in knob_config.items() if isinstance(knob, FixedKnob)}


def draw_integer(knob: IntegerKnob, rng: random.Random) -> int:
    """Uniform over the integers of `knob`; if `is_exp`, log-uniform.

    On a log scale the integer n stands for the interval [n - 1/2, n + 1/2], so that both
    ends of a wide range get the weight that their neighbours suggest.
    """
    if not knob.is_exp:
        return rng.randint(knob.min, knob.max)
    low, high = math.log(knob.min - 0.5), math.log(knob.max + 0.5)
    return min(max(round(math.exp(rng.uniform(low, high))), knob.min), knob.max)


def draw_float(knob: FloatKnob, rng: random.Random) -> float:
    """Uniform in [min, max]; if `is_exp`, uniform in the logarithm."""
    if knob.min == knob.max:
        return knob.min
    if not knob.is_exp:
        # The difference of two finite bounds may be infinite; half of each is not.
        half = rng.uniform(knob.min / 2, knob.max / 2)
        return min(max(half * 2, knob.min), knob.max)
    value = math.exp(rng.uniform(math.log(knob.min), math.log(knob.max)))
    return min(max(value, knob.min), knob.max)


def draw_scalars(knob_config: KnobConfig, rng: random.Random) -> dict[str, Scalar]:
    """A value for every fixed, categorical, integer and float knob, drawn in declared order."""
    values: dict[str, Scalar] = {}
    for name, knob in knob_config.items():
        match knob:
            case FixedKnob():
                values[name] = knob.value
            case CategoricalKnob():
                values[name] = rng.choice(knob.values)
            case IntegerKnob():
                values[name] = draw_integer(knob, rng)
            case FloatKnob():
                values[name] = draw_float(knob, rng)
            case _:
                pass
    return values
