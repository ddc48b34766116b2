"""A supernet that classifies images: any search space of such networks with shared weights.

Letters as in `rafiki.supernet`.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafiki.model import Params
from rafiki.supernet.banks import Tensors, gather_active
from rafiki.supernet.devices import replicated
from rafiki.supernet.image_data import Data, take_images
from rafiki.supernet.inputs import Inputs
from rafiki.supernet.programs import (
    MOST_CANDIDATES,
    MOST_STEPS,
    Calls,
    Weights,
    computing,
    each,
    filled,
    pick,
    search_step,
    stack_archs,
)
from rafiki.supernet.shared_weights import SharedWeights
from rafiki.supernet.space import ImageSpace
from rafiki.supernet.training import cross_entropy, nesterov

Arch = TypeVar("Arch", bound=tuple[np.ndarray, ...])


class ImagePrograms(NamedTuple):
    """The two programs of a supernet, each compiled once for all architectures."""

    train: Callable[..., tuple[Weights, Array]]
    evaluate: Callable[..., Array]


@functools.cache
def image_programs(space: ImageSpace[Arch], weight_decay: float) -> ImagePrograms:
    """The programs of a search space; all supernets of a process share them."""

    def loss(active: Tensors, arch: Arch, images: Array, labels: Array) -> tuple[Array, None]:
        return cross_entropy(space.logits(active, arch, images), labels), None

    step = search_step(space, loss, nesterov(weight_decay))

    def search_train_steps(
        weights: Weights,
        archs: Arch,
        rates: Array,
        count: Array,
        images: Array,
        labels: Array,
        normalise: tuple[Array, Array],
    ) -> tuple[Weights, Array]:
        """Trains `count` minibatches of `[MOST_STEPS, B, ...]`; the losses `[MOST_STEPS]`."""

        def train(weights: Weights, number: Array) -> tuple[Weights, Array]:
            batch = normalised(images[number], *normalise)
            weights, loss, _ = step(
                weights, pick(archs, number), rates[number], batch, labels[number]
            )
            return weights, loss

        return each(train, weights, count, MOST_STEPS)

    def search_evaluate(
        params: Tensors,
        archs: Arch,
        count: Array,
        images: Array,
        normalise: tuple[Array, Array],
    ) -> Array:
        """Class scores `[MOST_CANDIDATES, B, classes]` of `count` architectures."""
        batch = normalised(images, *normalise)

        def score(_: None, number: Array) -> tuple[None, Array]:
            arch = pick(archs, number)
            active = computing(gather_active(params, space.rows(arch)))
            logits = space.logits(active, arch, batch)
            return None, logits.astype(jnp.promote_types(logits.dtype, jnp.float32))

        return each(score, None, count, MOST_CANDIDATES)[1]

    # Said, not left to the compiler: weights that came back in parts would be compiled for again.
    return ImagePrograms(
        jax.jit(search_train_steps, donate_argnums=0, out_shardings=replicated()),
        jax.jit(search_evaluate, out_shardings=replicated()),
    )


def normalised(images: Array, mean: Array, deviation: Array) -> Array:
    """uint8 images with the training data's mean and deviation, in the dtype of computing."""
    scaled = (images.astype(mean.dtype) / 255.0 - mean) / deviation
    return computing({"images": scaled})["images"]


class ImageSupernet(Generic[Arch]):
    """Shared weights that classify images.

    Tensors of a checkpoint: those of `Inputs` and of `SharedWeights`.
    """

    def __init__(self, inputs: Inputs, space: ImageSpace[Arch], weight_decay: float) -> None:
        self.inputs = inputs
        self.weights = SharedWeights(space, ("momentum",))
        self._programs = image_programs(space, weight_decay)
        self._calls = Calls()

    @property
    def steps(self) -> int:
        """Minibatches that the weights have been trained on."""
        return self.weights.steps

    def reset(self, seed: int) -> None:
        """Fresh weights."""
        self.weights.reset(seed)

    def dump(self) -> dict[str, np.ndarray]:
        """The tensors of a checkpoint."""
        return {**self.inputs.dump(), **self.weights.dump()}

    def load(self, params: Params) -> None:
        """Takes what `dump` gave."""
        self.weights.load(params)

    def train(
        self,
        data: Data,
        batches: Iterator[np.ndarray],
        archs: Sequence[Arch],
        rates: Sequence[float],
        is_stopped: Callable[[float], bool],
    ) -> list[float]:
        """Trains minibatch k of `batches` with `archs[k]` and the learning rate `rates[k]`.

        Args:
            data: What the indices in `batches` are of.
            batches: Indices `[B]` of every minibatch.
            archs: Architectures; there are as many minibatches.
            rates: Learning rates.
            is_stopped: Told the share that is done, now and then; whether to stop there.

        Returns:
            The losses of the minibatches that were trained.
        """
        losses: list[float] = []
        for part in self._calls.cut(len(archs)):
            indices = np.stack([next(batches) for _ in archs[part]])
            losses += self._train_part(data, indices, archs[part], rates[part])
            if is_stopped(len(losses) / len(archs)):
                break
        return losses

    def logits(self, archs: Sequence[Arch], images: Array, indices: np.ndarray) -> np.ndarray:
        """`[len(archs), B, classes]`, normalised by the statistics of the minibatch.

        Args:
            archs: Architectures.
            images: uint8 `[n, H, W, depth]`.
            indices: `[B]`, of the minibatch.
        """
        batch = take_images(images, indices)
        found = []
        for start in range(0, len(archs), MOST_CANDIDATES):
            some = archs[start : start + MOST_CANDIDATES]
            scores = self._programs.evaluate(
                self.weights.current.params,
                stack_archs(some, MOST_CANDIDATES),
                np.int32(len(some)),
                batch,
                (self.inputs.mean, self.inputs.deviation),
            )
            found.append(np.asarray(scores)[: len(some)])
        return np.concatenate(found)

    def _train_part(
        self, data: Data, indices: np.ndarray, archs: Sequence[Arch], rates: Sequence[float]
    ) -> list[float]:
        count = len(indices)
        indices = indices[filled(count, MOST_STEPS)]
        self.weights.current, losses = self._programs.train(
            self.weights.current,
            stack_archs(archs, MOST_STEPS),
            np.resize(np.array(rates, np.float32), MOST_STEPS),
            np.int32(count),
            take_images(data.images, indices),
            data.labels[indices],
            (self.inputs.mean, self.inputs.deviation),
        )
        self.weights.steps += count
        return [float(loss) for loss in np.asarray(losses)[:count]]
