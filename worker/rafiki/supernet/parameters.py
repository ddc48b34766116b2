"""Where parameters come from: a random source or a checkpoint.

Letters as in `rafiki.supernet`.
"""

import math

import numpy as np

from rafiki.model import Params


class Initializer:
    """Fresh parameters from one random source, float32."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def normal(self, fan_in: int, *size: int) -> np.ndarray:
        """He-normal: variance 2 / fan_in."""
        values = self._rng.standard_normal(size, dtype=np.float32)
        return values * np.float32(math.sqrt(2.0 / fan_in))

    def norm(self, channels: int) -> np.ndarray:
        """`[2, C]`: scale 1 and offset 0 of a batch norm."""
        return np.stack([np.ones(channels, np.float32), np.zeros(channels, np.float32)])

    def separable(self, size: int, channels: int) -> np.ndarray:
        """A packed separable convolution."""
        halves = [
            part.reshape(-1)
            for _ in range(2)
            for part in (
                self.normal(size * size, size, size, channels),
                self.normal(channels, channels, channels),
                self.norm(channels),
            )
        ]
        return np.concatenate(halves)


def take_tensor(params: Params, path: str, size: tuple[int, ...]) -> np.ndarray:
    """The tensor at a path. Raises ValueError if it is missing or of another size."""
    if path not in params:
        raise ValueError(f"the parameters lack {path}; a model with other knobs dumped them")
    tensor = np.asarray(params[path])
    if tensor.shape != size:
        raise ValueError(f"{path} is {tensor.shape}, not {size}; the knobs or data differ")
    return tensor
