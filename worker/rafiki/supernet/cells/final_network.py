"""The network of one architecture as it is trained from scratch, dumped and loaded.

Letters as in `rafiki.supernet.cells`.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafiki.model import Params
from rafiki.supernet.banks import Tensors
from rafiki.supernet.cells.architecture import Architecture
from rafiki.supernet.cells.auxiliary import PREFIX
from rafiki.supernet.cells.fixed_network import FixedNetwork
from rafiki.supernet.cells.recipe import Noise, Recipe, augmented, cut_out, draw_noise
from rafiki.supernet.cells.shape import Shape
from rafiki.supernet.devices import on_devices, replicated
from rafiki.supernet.image_data import Data, take_images
from rafiki.supernet.image_supernet import normalised
from rafiki.supernet.inputs import Inputs
from rafiki.supernet.parameters import take_tensor
from rafiki.supernet.programs import MOST_STEPS, Calls, computing, each, filled, pick
from rafiki.supernet.training import Slots, cross_entropy, nesterov

# Of the running statistics, as in `batch_norm` of `src/cifar10/image_ops.py`.
STATISTICS_DECAY = 0.9


class FinalWeights(NamedTuple):
    """Weights, their momentum and running statistics; the program that trains takes them over."""

    params: Tensors
    slots: Slots
    statistics: Tensors


class FinalPrograms(NamedTuple):
    """The two programs, each compiled once for all architectures of a shape."""

    train: Callable[..., tuple[FinalWeights, Array]]
    evaluate: Callable[..., Array]


@functools.cache
def final_programs(shape: Shape, recipe: Recipe) -> FinalPrograms:
    """The programs of a shape; all networks of a process share them."""
    network = FixedNetwork(shape, recipe.auxiliary_weight > 0)
    optimizer = nesterov(recipe.weight_decay)

    def prepared(images: Array, noise: Noise, normalise: tuple[Array, Array]) -> Array:
        batch = normalised(augmented(recipe, images, noise), *normalise)
        return batch if noise.holes is None else cut_out(batch, noise.holes, recipe.cutout)

    def step(
        weights: FinalWeights,
        arch: Architecture,
        rate: Array,
        images: Array,
        labels: Array,
        noise: Noise,
    ) -> tuple[FinalWeights, Array]:
        def loss_of(params: Tensors) -> tuple[Array, tuple[Array, Tensors]]:
            logits, auxiliary, statistics = network.train_logits(
                computing(params), arch, images, noise.masks, noise.dropout
            )
            loss = cross_entropy(logits, labels)
            hits = jnp.mean(jnp.argmax(logits, -1) == labels)
            report = jnp.stack([loss, hits.astype(loss.dtype)])
            if auxiliary is not None:
                loss += recipe.auxiliary_weight * cross_entropy(auxiliary, labels)
            return loss, (report, statistics)

        params, slots, running = weights
        grads, (report, statistics) = jax.grad(loss_of, has_aux=True)(params)
        params, slots = optimizer.update(params, slots, grads, rate)
        running = {
            name: STATISTICS_DECAY * value + (1.0 - STATISTICS_DECAY) * statistics[name]
            for name, value in running.items()
        }
        return FinalWeights(params, slots, running), report

    def final_train_steps(
        weights: FinalWeights,
        arch: Architecture,
        rates: Array,
        count: Array,
        images: Array,
        labels: Array,
        noise: Noise,
        normalise: tuple[Array, Array],
    ) -> tuple[FinalWeights, Array]:
        """Trains `count` minibatches of `[MOST_STEPS, B, ...]`.

        Returns loss and share of labels hit of each, `[MOST_STEPS, 2]`.
        """

        def train(weights: FinalWeights, number: Array) -> tuple[FinalWeights, Array]:
            of_batch = pick(noise, number)
            batch = prepared(images[number], of_batch, normalise)
            return step(weights, arch, rates[number], batch, labels[number], of_batch)

        return each(train, weights, count, MOST_STEPS)

    def final_evaluate(
        params: Tensors,
        statistics: Tensors,
        arch: Architecture,
        images: Array,
        normalise: tuple[Array, Array],
    ) -> Array:
        """Class scores `[B, classes]`."""
        batch = normalised(images, *normalise)
        logits = network.logits(computing(params), statistics, arch, batch)
        return logits.astype(jnp.float32)

    # Said, not left to the compiler: weights that came back in parts would be compiled for again.
    return FinalPrograms(
        jax.jit(final_train_steps, donate_argnums=0, out_shardings=replicated()),
        jax.jit(final_evaluate, out_shardings=replicated()),
    )


class FinalNetwork:
    """The network of one architecture with its weights and running statistics.

    Tensors of a checkpoint, beside those of `Inputs`:
        network/{path}: See `FixedNetwork.tensors`.
    """

    def __init__(self, inputs: Inputs, shape: Shape, arch: Architecture, recipe: Recipe) -> None:
        """Without values, until `reset` or `load`."""
        self.inputs = inputs
        self.shape = shape
        self._arch = arch
        self.recipe = recipe
        self._network = FixedNetwork(shape, recipe.auxiliary_weight > 0)
        self._programs = final_programs(shape, recipe)
        self._weights = FinalWeights({}, {}, {})
        self._calls = Calls()

    def reset(self, seed: int) -> None:
        """Fresh weights."""
        self._place(self._network.init(self._arch, seed), self._network.init_statistics())

    def train(
        self, data: Data, batches: Iterator[np.ndarray], rates: Sequence[float], seed: int
    ) -> Iterator[np.ndarray]:
        """Trains a minibatch of `batches` per learning rate, several at a time.

        Args:
            data: What the indices in `batches` are of.
            batches: Indices `[B]` of every minibatch.
            rates: Learning rates of all minibatches of the training.
            seed: What the noise of the recipe is drawn from.

        Yields:
            Loss and share of labels hit `[n, 2]` of the n minibatches trained since.
        """
        rng = np.random.default_rng(seed)
        for part in self._calls.cut(len(rates)):
            indices = np.stack([next(batches) for _ in rates[part]])
            noise = [
                draw_noise(
                    self.recipe, self.shape, self._arch, rng, len(of_batch), step / len(rates)
                )
                for step, of_batch in enumerate(indices, part.start + 1)
            ]
            yield self._train_part(data, indices, rates[part], noise)

    def logits(self, images: Array, indices: np.ndarray) -> np.ndarray:
        """Class scores `[B, classes]` of the images at `indices` `[B]`, of uint8 `[n, ...]`."""
        weights = self._weights
        params = {k: v for k, v in weights.params.items() if not k.startswith(PREFIX)}
        logits = self._programs.evaluate(
            params,
            weights.statistics,
            self._arch,
            take_images(images, indices),
            (self.inputs.mean, self.inputs.deviation),
        )
        return np.asarray(logits)

    def dump(self) -> dict[str, np.ndarray]:
        """Weights and running statistics."""
        weights, _, statistics = self._weights
        tensors = self._network.tensors(self._arch, weights, statistics)
        return self.inputs.dump() | {f"network/{path}": value for path, value in tensors.items()}

    def load(self, params: Params) -> None:
        """Takes what `dump` gave, to evaluate it; a training begins with `reset`.

        Raises:
            ValueError: A tensor is missing or of another size.
        """

        def take(path: str, size: tuple[int, ...]) -> np.ndarray:
            return take_tensor(params, f"network/{path}", size)

        self._place(*self._network.from_tensors(self._arch, take))

    def _place(self, weights: dict[str, np.ndarray], statistics: dict[str, np.ndarray]) -> None:
        self._weights = FinalWeights(
            {name: on_devices(value) for name, value in weights.items()},
            {"momentum": {name: on_devices(np.zeros_like(v)) for name, v in weights.items()}},
            {name: on_devices(value) for name, value in statistics.items()},
        )

    def _train_part(
        self, data: Data, indices: np.ndarray, rates: Sequence[float], noise: Sequence[Noise]
    ) -> np.ndarray:
        count = len(indices)
        numbers = filled(count, MOST_STEPS)
        self._weights, reports = self._programs.train(
            self._weights,
            self._arch,
            np.array(rates, np.float32)[numbers],
            np.int32(count),
            take_images(data.images, indices[numbers]),
            data.labels[indices[numbers]],
            jax.tree.map(lambda *of: np.stack(of), *(noise[number] for number in numbers)),
            (self.inputs.mean, self.inputs.deviation),
        )
        return np.asarray(reports)[:count]
