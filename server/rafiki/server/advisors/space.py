"""The positions of all arch knobs of a config, in declared order, as one sequence."""

import math
import random
from collections.abc import Sequence

from rafiki.model.knobs import KnobConfig, arch_knobs
from rafiki.resources import Archs

# One index per position, over all arch knobs.
Choices = tuple[int, ...]


class ArchSpace:
    """All architectures of a knob config; `sizes` holds the choices per position."""

    def __init__(self, knob_config: KnobConfig) -> None:
        self._lengths = {name: len(knob.items) for name, knob in arch_knobs(knob_config).items()}
        self.sizes: tuple[int, ...] = tuple(
            len(position) for knob in arch_knobs(knob_config).values() for position in knob.items
        )
        self.count = math.prod(self.sizes)

    def archs(self, choices: Sequence[int]) -> Archs:
        """The choices by arch knob."""
        archs: dict[str, tuple[int, ...]] = {}
        start = 0
        for name, length in self._lengths.items():
            archs[name] = tuple(int(index) for index in choices[start : start + length])
            start += length
        return archs

    def choices(self, archs: Archs) -> Choices:
        """The inverse of `archs`."""
        return tuple(index for name in self._lengths for index in archs[name])

    def draw(self, rng: random.Random) -> Choices:
        """An architecture drawn uniformly."""
        return tuple(int(rng.random() * size) for size in self.sizes)

    def index(self, choices: Sequence[int]) -> int:
        """The number of an architecture in [0, count), in lexicographic order."""
        index = 0
        for size, choice in zip(self.sizes, choices, strict=True):
            index = index * size + choice
        return index

    def at(self, index: int) -> Choices:
        """The inverse of `index`."""
        choices = []
        for size in reversed(self.sizes):
            index, choice = divmod(index, size)
            choices.append(choice)
        return tuple(reversed(choices))

    def draw_distinct(
        self, count: int, rng: random.Random, without: Sequence[Choices] = ()
    ) -> list[Choices]:
        """`count` distinct uniform architectures, or as many as there are.

        Args:
            count: How many.
            rng: Is consumed.
            without: Architectures that are not to be among them, all distinct.
        """
        seen = set(without)
        count = min(count, self.count - len(seen))
        drawn: list[Choices] = []
        while len(drawn) < count:
            choices = self.draw(rng)
            if choices not in seen:
                seen.add(choices)
                drawn.append(choices)
        return drawn
