"""The network of one architecture as it is trained from scratch, dumped and loaded.

Letters as in `rafiki.supernet`.
"""

import functools
from collections.abc import Callable, Hashable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from rafiki.model import Params
from rafiki.supernet.architecture import Architecture
from rafiki.supernet.fixed_network import FixedNetwork
from rafiki.supernet.inputs import Inputs
from rafiki.supernet.parameters import Initializer, take_tensor
from rafiki.supernet.shape import Shape
from rafiki.supernet.training import MOMENTUM, cross_entropy

State: TypeAlias = nnx.State[Hashable, nnx.Variable[Array]]


class FinalPrograms(NamedTuple):
    """The programs of one architecture's network and fresh parameters for them."""

    train_step: Callable[..., tuple[State, State, optax.OptState, Array, Array]]
    evaluate: Callable[..., Array]
    optimizer: optax.GradientTransformation
    create: Callable[[int], tuple[State, State]]


@functools.lru_cache(maxsize=8)
def final_programs(
    shape: Shape, normal: tuple[object, ...], reduction: tuple[object, ...], weight_decay: float
) -> FinalPrograms:
    """The programs for a shape and the values of both arch knobs."""
    arch = Architecture.of(normal, reduction)
    graph = nnx.graphdef(FixedNetwork(shape, arch, Initializer(0)))
    optimizer = optax.chain(
        optax.add_decayed_weights(weight_decay), optax.trace(MOMENTUM, nesterov=True)
    )

    def create(seed: int) -> tuple[State, State]:
        network = FixedNetwork(shape, arch, Initializer(seed))
        return nnx.state(network, nnx.Param), nnx.state(network, nnx.BatchStat)

    def final_train_step(
        params: State,
        statistics: State,
        trace: optax.OptState,
        images: Array,
        labels: Array,
        learning_rate: Array,
    ) -> tuple[State, State, optax.OptState, Array, Array]:
        """Returns the three states, the loss and the share of labels that were hit."""

        def loss_of(params: State) -> tuple[Array, tuple[Array, State]]:
            network = nnx.merge(graph, params, statistics, copy=True)
            logits = network(images, training=True)
            return cross_entropy(logits, labels), (logits, nnx.state(network, nnx.BatchStat))

        (loss, (logits, new_statistics)), grads = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, trace = optimizer.update(grads, trace, params)
        params = jax.tree.map(lambda value, by: value - learning_rate * by, params, updates)
        hits = jnp.mean(jnp.argmax(logits, -1) == labels)
        return params, new_statistics, trace, loss, hits

    def final_evaluate(params: State, statistics: State, images: Array) -> Array:
        network = nnx.merge(graph, params, statistics, copy=True)
        logits: Array = network(images, training=False)
        return logits

    return FinalPrograms(
        jax.jit(final_train_step, donate_argnums=(0, 1, 2)),
        jax.jit(final_evaluate),
        optimizer,
        create,
    )


class FinalNetwork:
    """The network of one architecture with its parameters and running statistics.

    Tensors of a checkpoint, beside those of `Inputs`: network/{path in FixedNetwork}.
    """

    def __init__(
        self,
        inputs: Inputs,
        shape: Shape,
        arch: tuple[tuple[object, ...], tuple[object, ...]],
        weight_decay: float,
    ) -> None:
        self.inputs = inputs
        self.shape = shape
        self._programs = final_programs(shape, *arch, weight_decay)
        self._params, self._statistics = self._programs.create(0)
        self._trace: optax.OptState = None

    def reset(self, seed: int) -> None:
        """Fresh parameters."""
        self._params, self._statistics = self._programs.create(seed)
        self._trace = self._programs.optimizer.init(self._params)

    def train_step(
        self, images: Array, labels: np.ndarray, learning_rate: float
    ) -> tuple[Array, Array]:
        """Trains on one minibatch; the loss and the accuracy."""
        self._params, self._statistics, self._trace, loss, hits = self._programs.train_step(
            self._params, self._statistics, self._trace, images, labels, np.float32(learning_rate)
        )
        return loss, hits

    def logits(self, images: Array) -> Array:
        """`[B, classes]`, normalised by the running statistics."""
        return self._programs.evaluate(self._params, self._statistics, images)

    def dump(self) -> dict[str, np.ndarray]:
        """Parameters and running statistics, by their place in the network."""
        dumped = self.inputs.dump()
        for state in (self._params, self._statistics):
            for path, variable in nnx.to_flat_state(state):
                dumped["network/" + "/".join(map(str, path))] = np.array(variable[...])
        return dumped

    def load(self, params: Params) -> None:
        """Takes what `dump` gave; the momentum of a training begins anew."""
        self._params, self._statistics = self._programs.create(0)
        for state in (self._params, self._statistics):
            for path, variable in nnx.to_flat_state(state):
                tensor = take_tensor(params, "network/" + "/".join(map(str, path)), variable.shape)
                variable[...] = jnp.array(tensor)
        self._trace = self._programs.optimizer.init(self._params)
