"""The network of one architecture of the macro space, trained from scratch.

Its programs take the architecture as an argument, too, so that they are compiled once for all.
Letters as in `rafiki.supernet.macro`.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafiki.model import Params
from rafiki.supernet.banks import Tensors
from rafiki.supernet.devices import on_devices, replicated
from rafiki.supernet.image_data import Data, augment_minibatch, draw_moves, take_images
from rafiki.supernet.image_supernet import normalised
from rafiki.supernet.inputs import Inputs
from rafiki.supernet.macro.architecture import MacroArchitecture
from rafiki.supernet.macro.operations import by_minibatch, by_running
from rafiki.supernet.macro.space import MacroSpace
from rafiki.supernet.parameters import take_tensor
from rafiki.supernet.programs import MOST_STEPS, Calls, computing, each, filled
from rafiki.supernet.training import cross_entropy, nesterov

DECAY = 0.9  # of the running moments, as in the authors' code


class TrainingState(NamedTuple):
    """What the program that trains takes over and returns."""

    params: Tensors
    momentum: Tensors
    running: Tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class MacroRecipe:
    """How a network is trained from scratch.

    Attributes:
        weight_decay: Times a weight is added to its gradient.
        shift: Images are moved by up to so many pixels.
        flip: Whether half of them are mirrored.
    """

    weight_decay: float
    shift: int = 0
    flip: bool = False


class FinalMacroPrograms(NamedTuple):
    """The programs of the networks of a space."""

    train: Callable[..., tuple[TrainingState, Array]]
    evaluate: Callable[..., Array]


@functools.lru_cache(maxsize=8)
def final_macro_programs(space: MacroSpace, recipe: MacroRecipe) -> FinalMacroPrograms:
    """The programs for all architectures of a space."""
    optimizer = nesterov(recipe.weight_decay)

    def step(
        state: TrainingState, arch: MacroArchitecture, rate: Array, batch: Array, labels: Array
    ) -> tuple[TrainingState, Array]:

        def loss_of(params: Tensors) -> tuple[Array, tuple[Array, Tensors]]:
            logits, moments = space.compute(
                computing(params), arch, batch, by_minibatch, state.running
            )
            return cross_entropy(logits, labels), (logits, moments)

        (loss, (logits, moments)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        params, slots = optimizer.update(state.params, {"momentum": state.momentum}, grads, rate)
        running = {
            name: DECAY * held + (1 - DECAY) * moments[name] for name, held in state.running.items()
        }
        hits = jnp.mean(jnp.argmax(logits, -1) == labels)
        report = jnp.stack([loss, hits.astype(loss.dtype)])
        return TrainingState(params, slots["momentum"], running), report

    def final_train_steps(
        state: TrainingState,
        arch: MacroArchitecture,
        rates: Array,
        count: Array,
        images: Array,
        labels: Array,
        moves: tuple[Array, Array],
        normalise: tuple[Array, Array],
    ) -> tuple[TrainingState, Array]:
        """Trains `count` minibatches of `[MOST_STEPS, B, ...]`.

        Returns loss and share of labels hit of each, `[MOST_STEPS, 2]`.
        """

        def train(state: TrainingState, number: Array) -> tuple[TrainingState, Array]:
            moved = images[number]
            if recipe.shift or recipe.flip:
                shifts, flips = moves
                moved = augment_minibatch(moved, shifts[number], flips[number], recipe.shift)
            batch = normalised(moved, *normalise)
            return step(state, arch, rates[number], batch, labels[number])

        return each(train, state, count, MOST_STEPS)

    def final_evaluate(
        params: Tensors,
        running: Tensors,
        arch: MacroArchitecture,
        images: Array,
        normalise: tuple[Array, Array],
    ) -> Array:
        batch = normalised(images, *normalise)
        logits = space.compute(computing(params), arch, batch, by_running, running)[0]
        return logits.astype(jnp.float32)

    # Said, not left to the compiler: weights that came back in parts would be compiled for again.
    return FinalMacroPrograms(
        jax.jit(final_train_steps, donate_argnums=0, out_shardings=replicated()),
        jax.jit(final_evaluate, out_shardings=replicated()),
    )


class FinalMacroNetwork:
    """The network of one architecture with its parameters and running moments.

    Tensors of a checkpoint, beside those of `Inputs`: network/{path in MacroSpace} of what the
    architecture uses, moments/{name} means and variances.
    """

    def __init__(
        self, inputs: Inputs, space: MacroSpace, arch: MacroArchitecture, recipe: MacroRecipe
    ) -> None:
        self.inputs = inputs
        self.space = space
        self.arch = arch
        self._normalise = (inputs.mean, inputs.deviation)
        self._recipe = recipe
        self._programs = final_macro_programs(space, recipe)
        self._calls = Calls()
        self._state = TrainingState({}, {}, {})
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Fresh parameters."""
        self._place(
            self.space.init_active(self.arch, seed),
            {name: np.asarray(value) for name, value in self.space.fresh_moments().items()},
        )

    def train(
        self, data: Data, batches: Iterator[np.ndarray], rates: Sequence[float], seed: int
    ) -> Iterator[np.ndarray]:
        """Trains a minibatch of `batches` per learning rate, several at a time.

        Args:
            data: What the indices in `batches` are of.
            batches: Indices `[B]` of every minibatch.
            rates: Learning rates of all minibatches of the training.
            seed: What the moves of images are drawn from.

        Yields:
            Loss and share of labels hit `[n, 2]` of the n minibatches trained since.
        """
        rng, recipe = np.random.default_rng(seed), self._recipe
        for part in self._calls.cut(len(rates)):
            indices = np.stack([next(batches) for _ in rates[part]])
            moves = [draw_moves(rng, len(of), recipe.shift, recipe.flip) for of in indices]
            numbers = filled(len(indices), MOST_STEPS)
            self._state, reports = self._programs.train(
                self._state,
                self.arch,
                np.array(rates[part], np.float32)[numbers],
                np.int32(len(indices)),
                take_images(data.images, indices[numbers]),
                data.labels[indices[numbers]],
                tuple(np.stack(of)[numbers] for of in zip(*moves, strict=True)),
                self._normalise,
            )
            yield np.asarray(reports)[: len(indices)]

    def logits(self, images: Array, indices: np.ndarray) -> np.ndarray:
        """`[B, classes]`, normalised by the running moments.

        Args:
            images: uint8 `[n, H, W, depth]`.
            indices: `[B]`, of the minibatch.
        """
        params, _, running = self._state
        batch = take_images(images, indices)
        return np.asarray(
            self._programs.evaluate(params, running, self.arch, batch, self._normalise)
        )

    def dump(self) -> dict[str, np.ndarray]:
        """What the architecture uses, and the running moments."""
        params = {name: np.array(value) for name, value in self._state.params.items()}
        dumped = self.inputs.dump()
        dumped |= {f"network/{path}": part.copy() for path, part in self._parts(params)}
        dumped |= {f"moments/{name}": np.array(v) for name, v in self._state.running.items()}
        return dumped

    def load(self, params: Params) -> None:
        """Takes what `dump` gave; the momentum of a training begins anew."""
        found = self.space.init_active(self.arch, 0)
        for path, part in self._parts(found):
            part[...] = take_tensor(params, f"network/{path}", part.shape)
        running = {
            name: take_tensor(params, f"moments/{name}", fresh.shape)
            for name, fresh in self.space.fresh_moments().items()
        }
        self._place(found, running)

    def _parts(self, params: Mapping[str, np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
        """The tensors of a checkpoint in `params`: views, which can be filled."""
        for name, place, row in self.space.active_rows(self.arch):
            yield row.path, params[name][place][: row.length]
        for name in params.keys() - self.space.banks().keys():
            yield name, params[name][...]

    def _place(self, params: Mapping[str, np.ndarray], running: Mapping[str, np.ndarray]) -> None:
        self._state = TrainingState(
            {name: on_devices(value) for name, value in params.items()},
            {name: on_devices(np.zeros_like(value)) for name, value in params.items()},
            {name: on_devices(value) for name, value in running.items()},
        )
