"""What a network was made for: the size of its images, its classes, its normalisation.

Letters as in `rafiki.supernet`.
"""

from dataclasses import dataclass

import numpy as np

from rafiki.model import Params
from rafiki.supernet.image_data import Data
from rafiki.supernet.parameters import take_tensor


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
