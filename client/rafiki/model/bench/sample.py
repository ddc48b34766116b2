"""What the bench feeds a template with: knobs, architectures, data and queries."""

import random
from pathlib import Path

import numpy as np

from rafiki.model.image_classification import load_images, write_images
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

IMAGE_CLASSIFICATION = "IMAGE_CLASSIFICATION"

CLASS_COUNT = 4
IMAGE_SIZE = 8


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


def write_sample_images(path: Path, count: int, seed: int) -> None:
    """Writes `count` grey 8x8 images of four classes: noise, one quarter of it bright."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % CLASS_COUNT
    images = generator.integers(0, 120, (count, IMAGE_SIZE, IMAGE_SIZE))
    half = IMAGE_SIZE // 2
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[row * half : (row + 1) * half, column * half : (column + 1) * half] += 130
    write_images(path, images.astype(np.uint8), labels)


def sample_queries(task: str, path: Path, count: int) -> list[object] | None:
    """Queries made of the first examples of a data set; None for a task unknown here."""
    if task != IMAGE_CLASSIFICATION:
        return None
    queries: list[object] = load_images(path).images[:count].tolist()
    return queries


def _between(generator: random.Random, low: float, high: float, is_exp: bool) -> float:
    if is_exp:
        return low * float((high / low) ** generator.random())
    return low + (high - low) * generator.random()
