"""Programs of a supernet: architectures are data, so each is compiled once for all of them."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rafiki.supernet.banks import Tensors, gather_active, scatter_active
from rafiki.supernet.devices import compute_dtype
from rafiki.supernet.space import SearchSpace
from rafiki.supernet.training import Optimizer, Slots

# Minibatches, and candidates, that one call of a program takes at most.
MOST_STEPS = 16
MOST_CANDIDATES = 10
# A call is to take so long, so that training can be stopped soon.
CALL_S = 0.5

T = TypeVar("T")
Arch = TypeVar("Arch")
Arrays = TypeVar("Arrays", bound=tuple[np.ndarray, ...])


class Weights(NamedTuple):
    """Shared weights and their optimiser states; a program that trains takes them over."""

    params: Tensors
    slots: Slots


def search_step(
    space: SearchSpace[Arch],
    loss: Callable[..., tuple[Array, T]],
    optimizer: Optimizer,
) -> Callable[..., tuple[Weights, Array, T]]:
    """The step that trains one architecture on one minibatch: (weights, loss, rest).

    Args:
        space: Which weights are active.
        loss: From the active weights, the architecture and further arguments to the loss and
            whatever else is wanted of it, in a pair. The weights have the dtype that the
            device computes in.
        optimizer: Makes updates of gradients.

    Returns:
        A function of the weights, the architecture, the learning rate and the further
        arguments of `loss`. It touches the active rows only.
    """

    def step(
        weights: Weights, arch: Arch, learning_rate: Array, *inputs: object
    ) -> tuple[Weights, Array, T]:
        rows = space.rows(arch)
        active = gather_active(weights.params, rows)
        states = {slot: gather_active(held, rows) for slot, held in weights.slots.items()}

        def loss_of(active: Tensors) -> tuple[Array, T]:
            return loss(computing(active), arch, *inputs)

        (value, rest), grads = jax.value_and_grad(loss_of, has_aux=True)(active)
        active, states = optimizer.update(active, states, grads, learning_rate)
        slots = {
            slot: scatter_active(held, states[slot], rows) for slot, held in weights.slots.items()
        }
        return Weights(scatter_active(weights.params, active, rows), slots), value, rest

    return step


def each(
    function: Callable[[T, Array], tuple[T, Array]], carry: T, count: Array, most: int
) -> tuple[T, Array]:
    """Calls a function for the numbers 0 to `count` - 1, one after the other, in one program.

    Args:
        function: From what is carried on and the number to the next such and a result.
        carry: What is carried on at first.
        count: int32 scalar; known at run time only, so that it is not compiled for.
        most: The most that `count` will be.

    Returns:
        What was carried on at last, and all results `[most, ...]`, zeros where not called.
    """
    result = jax.eval_shape(lambda carry: function(carry, jnp.int32(0))[1], carry)
    results = jnp.zeros((most, *result.shape), result.dtype)

    def body(number: Array, state: tuple[T, Array]) -> tuple[T, Array]:
        carry, result = function(state[0], number)
        return carry, state[1].at[number].set(result)

    after: tuple[T, Array] = lax.fori_loop(jnp.int32(0), count, body, (carry, results))
    return after


class Calls:
    """Cuts trainings into calls of a program: of fewer minibatches after one that took long."""

    def __init__(self) -> None:
        self.steps = 1

    def cut(self, total: int) -> Iterator[slice]:
        """Which of `total` minibatches each call is for.

        What passes until the next one is asked for is the time that a call takes.
        """
        done = 0
        while done < total:
            part = slice(done, min(done + self.steps, total))
            began_s = time.monotonic()
            yield part
            call_s = time.monotonic() - began_s
            if call_s < CALL_S / 2:
                self.steps = min(2 * self.steps, MOST_STEPS)
            elif call_s > CALL_S:
                self.steps = max(self.steps // 2, 1)
            done = part.stop


def filled(count: int, most: int) -> np.ndarray:
    """The numbers 0 to `count` - 1, the last of them repeated until they are `most`.

    All calls of a program have the same sizes; what is over is not computed.
    """
    return np.minimum(np.arange(most), count - 1)


def stack_archs(archs: Sequence[Arrays], most: int) -> Arrays:
    """Architectures as one, with a first axis of `most`; the last is repeated to fill it."""
    chosen = [archs[number] for number in filled(len(archs), most)]
    kind = type(archs[0])
    # A NamedTuple takes its fields one by one.
    return kind(*(np.stack(field) for field in zip(*chosen, strict=True)))


def pick(stacked: T, number: Array) -> T:
    """One of the trees whose arrays were stacked along their first axis."""
    picked: T = jax.tree.map(lambda array: array[number], stacked)
    return picked


def computing(tensors: Tensors) -> Tensors:
    """Weights in the dtype that the device computes in; float64 stays as it is."""
    dtype = compute_dtype()
    return {
        name: tensor.astype(dtype) if tensor.dtype == jnp.float32 else tensor
        for name, tensor in tensors.items()
    }
