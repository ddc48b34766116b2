"""What a search space must say of itself to have shared weights."""

from collections.abc import Mapping
from typing import Protocol, TypeVar

import numpy as np
from jax import Array

from rafiki.supernet.banks import Bank, Rows, Tensors

Arch = TypeVar("Arch", contravariant=True)


class SearchSpace(Protocol[Arch]):
    """A search space of a certain size; equal ones are equal keys, as of a frozen dataclass.

    `Arch` is one architecture: a NamedTuple of int32 NumPy arrays, which are of the same
    shapes for all architectures. In programs they are traced arrays.
    """

    def __hash__(self) -> int: ...

    def init(self, seed: int) -> dict[str, np.ndarray]:
        """Fresh weights, float32, by name."""

    def banks(self) -> Mapping[str, Bank]:
        """Which of the weights are banks; all others belong to every architecture."""

    def rows(self, arch: Arch) -> Rows:
        """The active rows of every bank, at any time the same number of them."""


class ImageSpace(SearchSpace[Arch], Protocol[Arch]):
    """A search space of networks that classify images."""

    def logits(self, active: Tensors, arch: Arch, images: Array) -> Array:
        """Class scores `[B, classes]` of one architecture.

        Args:
            active: What `gather_active` took.
            arch: The architecture.
            images: `[B, H, W, depth]`, normalised, in the dtype of `active`.
        """
