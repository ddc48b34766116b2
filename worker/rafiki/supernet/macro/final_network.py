"""The network of one architecture of the macro space, trained from scratch.

Its programs take the architecture as an argument, too, so that they are compiled once for all.
Letters as in `rafiki.supernet.macro`.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafiki.model import Params
from rafiki.supernet.banks import Tensors
from rafiki.supernet.devices import on_devices
from rafiki.supernet.image_data import take_images
from rafiki.supernet.image_supernet import normalised
from rafiki.supernet.inputs import Inputs
from rafiki.supernet.macro.architecture import MacroArchitecture
from rafiki.supernet.macro.operations import by_minibatch, by_running
from rafiki.supernet.macro.space import MacroSpace
from rafiki.supernet.parameters import take_tensor
from rafiki.supernet.programs import computing
from rafiki.supernet.training import cross_entropy, nesterov

DECAY = 0.9  # of the running moments, as in the authors' code


class TrainingState(NamedTuple):
    """What a step of training takes over and returns."""

    params: Tensors
    momentum: Tensors
    running: Tensors


class FinalMacroPrograms(NamedTuple):
    """The programs of the networks of a space."""

    train_step: Callable[..., tuple[TrainingState, Array, Array]]
    evaluate: Callable[..., Array]


@functools.lru_cache(maxsize=8)
def final_macro_programs(space: MacroSpace, weight_decay: float) -> FinalMacroPrograms:
    """The programs for all architectures of a space."""
    optimizer = nesterov(weight_decay)

    def final_train_step(
        state: TrainingState,
        arch: MacroArchitecture,
        images: Array,
        labels: Array,
        learning_rate: Array,
        normalise: tuple[Array, Array],
    ) -> tuple[TrainingState, Array, Array]:
        """Returns the state, the loss and the share of labels that were hit."""
        batch = normalised(images, *normalise)

        def loss_of(params: Tensors) -> tuple[Array, tuple[Array, Tensors]]:
            logits, moments = space.compute(
                computing(params), arch, batch, by_minibatch, state.running
            )
            return cross_entropy(logits, labels), (logits, moments)

        (loss, (logits, moments)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        params, slots = optimizer.update(
            state.params, {"momentum": state.momentum}, grads, learning_rate
        )
        running = {
            name: DECAY * held + (1 - DECAY) * moments[name] for name, held in state.running.items()
        }
        hits = jnp.mean(jnp.argmax(logits, -1) == labels)
        return TrainingState(params, slots["momentum"], running), loss, hits

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

    return FinalMacroPrograms(jax.jit(final_train_step, donate_argnums=0), jax.jit(final_evaluate))


class FinalMacroNetwork:
    """The network of one architecture with its parameters and running moments.

    Tensors of a checkpoint, beside those of `Inputs`: network/{path in MacroSpace} of what the
    architecture uses, moments/{name} means and variances.
    """

    def __init__(
        self, inputs: Inputs, space: MacroSpace, arch: MacroArchitecture, weight_decay: float
    ) -> None:
        self.inputs = inputs
        self.space = space
        self.arch = arch
        self._normalise = (inputs.mean, inputs.deviation)
        self._programs = final_macro_programs(space, weight_decay)
        self._state = TrainingState({}, {}, {})
        self.reset(0)

    def reset(self, seed: int) -> None:
        """Fresh parameters."""
        self._place(
            self.space.init_active(self.arch, seed),
            {name: np.asarray(value) for name, value in self.space.fresh_moments().items()},
        )

    def train_step(
        self, images: Array, labels: np.ndarray, learning_rate: float
    ) -> tuple[Array, Array]:
        """Trains on one minibatch of uint8 images; the loss and the accuracy."""
        self._state, loss, hits = self._programs.train_step(
            self._state, self.arch, images, labels, np.float32(learning_rate), self._normalise
        )
        return loss, hits

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
