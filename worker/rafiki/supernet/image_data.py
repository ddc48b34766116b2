"""Data sets of images on the device, and their minibatches.

Letters as in `rafiki.supernet`.
"""

import functools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rafiki.model import load_images
from rafiki.supernet.devices import on_devices, over_batch


@dataclass(frozen=True, eq=False)
class Data:
    """A data set: uint8 images `[n, H, W, depth]` on the device, int32 labels `[n]`.

    `mean` and `deviation` `[depth]` are those of its pixels, which are scaled to [0, 1].
    """

    images: Array
    labels: np.ndarray
    class_count: int
    mean: np.ndarray
    deviation: np.ndarray


def load_data(path: str) -> Data:
    """The data set in a file; the last few that were read are kept."""
    status = os.stat(path)
    return _load_data(os.path.abspath(path), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=3)
def _load_data(path: str, modified_ns: int, size_bytes: int) -> Data:
    data = load_images(path)
    levels = np.arange(256) / 255.0
    pixels = data.images.reshape(-1, data.images.shape[-1])
    counts = np.stack([np.bincount(channel, minlength=256) for channel in pixels.T])
    mean = counts @ levels / len(pixels)
    deviation = np.sqrt(counts @ levels**2 / len(pixels) - mean**2)
    return Data(
        on_devices(data.images),
        data.labels,
        data.class_count,
        mean.astype(np.float32),
        np.maximum(deviation, 1e-3).astype(np.float32),
    )


def forget_data() -> None:
    """Frees the data sets that are kept."""
    _load_data.cache_clear()


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Minibatches in one pass over `count` images."""
    return max(1, count // batch_size)


def minibatches(
    count: int, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)
) -> Iterator[np.ndarray]:
    """Indices `[B]` of this shard's minibatches of `count` images, without end.

    One permutation, given by `seed` and its number, follows the other. What is left over at
    its end is dropped; images that do not fill a minibatch are repeated.
    """
    per_epoch = steps_per_epoch(count, batch_size)
    number, step = shard
    epoch, order = -1, np.zeros(0, np.int64)
    while True:
        if number // per_epoch != epoch:
            epoch = number // per_epoch
            order = np.random.default_rng((seed, epoch)).permutation(count)
        start = number % per_epoch * batch_size
        yield np.resize(order[start : start + batch_size], batch_size).astype(np.int32)
        number += step


def take_images(images: Array, indices: np.ndarray) -> Array:
    """The images `[..., B, H, W, depth]` at `indices` `[..., B]`, the batch over all devices.

    A program of its own: those that take minibatches need not know the size of the data set.
    """
    taken: Array = _taking(indices.shape)(images, indices)
    return taken


@functools.cache
def _taking(size: tuple[int, ...]) -> Callable[[Array, np.ndarray], Array]:
    def take_minibatches(images: Array, indices: Array) -> Array:
        return images[indices]

    return jax.jit(take_minibatches, out_shardings=over_batch(size[-1], len(size) - 1))


@functools.partial(jax.jit, static_argnames="reach")
def augment_minibatch(images: Array, shifts: Array, flips: Array, reach: int) -> Array:
    """The images moved by `shifts` `[B, 2]` in [0, 2 reach], mirrored where `flips` `[B]`.

    What comes in from outside repeats the edge.
    """
    margins = ((0, 0), (reach, reach), (reach, reach), (0, 0))

    def change(padded: Array, by: Array, flip: Array) -> Array:
        moved = lax.dynamic_slice(padded, (by[0], by[1], np.int32(0)), images.shape[1:])
        return jnp.where(flip, moved[:, ::-1], moved)

    return jax.vmap(change)(jnp.pad(images, margins, mode="edge"), shifts, flips)


def draw_moves(
    rng: np.random.Generator, batch_size: int, shift: int, flip: bool
) -> tuple[np.ndarray, np.ndarray]:
    """How `augment_minibatch` is to move each image, by up to `shift` pixels, and mirror half."""
    shifts = rng.integers(2 * shift + 1, size=(batch_size, 2), dtype=np.int32)
    return shifts, rng.random(batch_size) < (0.5 if flip else 0.0)
