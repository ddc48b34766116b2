"""What the bench feeds a template with: knobs and architectures."""

import random

from rafiki.model.knobs import (
    ArchKnob,
    CategoricalKnob,
    FixedKnob,
    FloatKnob,
    IntegerKnob,
    KnobConfig,
    Policy,
    Scalar,
    arch_knobs,
    arch_values,
    model_arguments,
)


def random_arguments(
    config: KnobConfig, seed: int, policies: frozenset[Policy]
) -> dict[str, object]:
    """Keyword arguments to construct a template with, drawn from `seed`.

    Float and integer knobs on a log scale are drawn uniformly in the logarithm.
    """
    generator = random.Random(seed)
    knobs: dict[str, Scalar] = {}
    archs: dict[str, list[int]] = {}
    for name, knob in config.items():
        match knob:
            case FixedKnob():
                knobs[name] = knob.value
            case CategoricalKnob():
                knobs[name] = generator.choice(knob.values)
            case IntegerKnob():
                number = _between(generator, knob.min, knob.max, knob.is_exp)
                knobs[name] = min(max(round(number), knob.min), knob.max)
            case FloatKnob():
                number = _between(generator, knob.min, knob.max, knob.is_exp)
                knobs[name] = min(max(number, knob.min), knob.max)
            case ArchKnob():
                archs[name] = [generator.randrange(len(position)) for position in knob.items]
    return model_arguments(config, knobs, archs, policies)


def random_candidates(config: KnobConfig, seed: int, count: int) -> list[dict[str, list[Scalar]]]:
    """`count` random architectures, as a template receives them."""
    generator = random.Random(seed)
    return [
        {
            name: arch_values(knob, [generator.randrange(len(items)) for items in knob.items])
            for name, knob in arch_knobs(config).items()
        }
        for _ in range(count)
    ]


def _between(generator: random.Random, low: float, high: float, is_exp: bool) -> float:
    if is_exp:
        return low * float((high / low) ** generator.random())
    return low + (high - low) * generator.random()
