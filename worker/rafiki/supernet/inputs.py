"""What a network was made for: the size of its images, its classes, its normalisation.

Letters as in `rafiki.supernet`.
"""

from dataclasses import dataclass

import numpy as np
from jax import Array

from rafiki.model import Params
from rafiki.supernet.image_data import Data, take_minibatch
from rafiki.supernet.parameters import take_tensor
from rafiki.supernet.shape import Shape

MIN_SIDE = 4


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a network was made for, and how its pixels are normalised: by the training data.

    Tensors of a checkpoint:
        input/shape: int32 `[4]`: height, width, depth, classes.
        input/mean, input/deviation: float32 `[depth]` of the training pixels in [0, 1].
    """

    size: tuple[int, int, int]
    classes: int
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, data: Data) -> "Inputs":
        """Those of training data."""
        height, width, depth = data.images.shape[1:]
        return cls((height, width, depth), data.class_count, data.mean, data.deviation)

    @classmethod
    def load(cls, params: Params) -> "Inputs":
        """Those that `dump` wrote."""
        height, width, depth, classes = (int(n) for n in take_tensor(params, "input/shape", (4,)))
        mean, deviation = (
            take_tensor(params, f"input/{k}", (depth,)) for k in ("mean", "deviation")
        )
        return cls((height, width, depth), classes, mean, deviation)

    def dump(self) -> dict[str, np.ndarray]:
        """The tensors under `input/`."""
        shape = np.array([*self.size, self.classes], np.int32)
        return {"input/shape": shape, "input/mean": self.mean, "input/deviation": self.deviation}

    def check(self, size: tuple[int, ...]) -> None:
        """Raises ValueError unless images `[H, W, depth]` fit the network."""
        if size != self.size:
            raise ValueError(f"images are {size}, the network was trained on {self.size}")

    def minibatch(self, images: Array, indices: np.ndarray) -> Array:
        """The images `[B, H, W, depth]` at `indices` `[B]`, float32 and normalised."""
        taken: Array = take_minibatch(images, indices, self.mean, self.deviation)
        return taken

    def shape(self, channels: int, cells: int) -> Shape:
        """A network with `cells` normal cells per stage and reduction cells between stages.

        There are three stages where the sides can be halved twice without falling below 4
        pixels, otherwise two.
        """
        side = min(self.size[:2])
        if side < 2 * MIN_SIDE:
            raise ValueError(f"images must be at least {2 * MIN_SIDE} pixels wide and high")
        stages = (cells, cells + 1, cells + 1)[: 3 if side >= 4 * MIN_SIDE else 2]
        return Shape(*self.size, self.classes, channels, stages)
