"""The layers of a stage, whatever their architecture.

Letters as in `rafiki.supernet.macro`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from rafiki.supernet.choice import backward_branches
from rafiki.supernet.macro.operations import Normalise, operation_branches
from rafiki.supernet.pointwise import pointwise_convolution


class StageChoices(NamedTuple):
    """What the layers of a stage have chosen: int32 operations `[n]`, sources `[n, M]`, counts."""

    operations: Array
    sources: Array
    counts: Array


class StageWeights(NamedTuple):
    """The weights that the layers of a stage use.

    Attributes:
        operations: `[n, P]` packed operations.
        own: `[n, C, C]` what joins the operation.
        skips: `[n, M, C, C]` what joins the states, in the order of the sources.
        norms: `[n, 2, C]` after the join.
    """

    operations: Array
    own: Array
    skips: Array
    norms: Array


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def run_stage(
    normalise: Normalise,
    choices: StageChoices,
    entering: Array,
    weights: StageWeights,
    running: Array,
) -> tuple[Array, Array]:
    """The states after a stage, and the moments of its norms.

    The derivative is written out: it keeps the states and what is between the parts of a layer,
    and follows only the skips that were taken. No gradient flows through the moments.

    Args:
        normalise: How to normalise.
        choices: Of its layers.
        entering: `[E, B, H, W, C]` the states that enter.
        weights: Of its layers.
        running: `[n, 3, 2, C]` running moments: two of the operation, one of the join.

    Returns:
        `[E + n, B, H, W, C]` and `[n, 3, 2, C]`.
    """
    return _run_stage_forward(normalise, choices, entering, weights, running)[0]


def _product(x: Array, matrix: Array) -> Array:
    return pointwise_convolution(jax.nn.relu(x), matrix)


def _at(array: Array, index: Array) -> Array:
    taken: Array = lax.dynamic_index_in_dim(array, index, keepdims=False)
    return taken


def _run_stage_forward(
    normalise: Normalise,
    choices: StageChoices,
    entering: Array,
    weights: StageWeights,
    running: Array,
) -> tuple[tuple[Array, Array], tuple[object, ...]]:
    before, layers = len(entering), len(running)

    def layer(number: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        states, outputs, joins, moments = carry
        output, of_operation = lax.switch(
            choices.operations[number],
            operation_branches(normalise),
            _at(states, before - 1 + number),
            weights.operations[number],
            running[number, :2],
        )

        def add_skip(place: Array, total: Array) -> Array:
            source = _at(states, choices.sources[number, place])
            return total + _product(source, weights.skips[number, place])

        join = _product(output, weights.own[number])
        join = lax.fori_loop(0, choices.counts[number], add_skip, join)
        state, of_join = normalise(join, weights.norms[number], running[number, 2])
        return (
            states.at[before + number].set(state),
            outputs.at[number].set(output),
            joins.at[number].set(join),
            moments.at[number].set(jnp.concatenate([of_operation, of_join[None]])),
        )

    image = entering.shape[1:]
    states = jnp.zeros((before + layers, *image), entering.dtype).at[:before].set(entering)
    parts = jnp.zeros((layers, *image), entering.dtype)
    states, outputs, joins, moments = lax.fori_loop(
        0, layers, layer, (states, parts, parts, jnp.zeros_like(running))
    )
    return (states, moments), (choices, states, outputs, joins, weights, running)


def _run_stage_backward(
    normalise: Normalise, saved: tuple[object, ...], grads: tuple[Array, Array]
) -> tuple[None, Array, StageWeights, Array]:
    choices, states, outputs, joins, weights, running = saved
    assert isinstance(choices, StageChoices) and isinstance(weights, StageWeights)
    assert isinstance(states, Array) and isinstance(running, Array)
    assert isinstance(outputs, Array) and isinstance(joins, Array)
    layers = len(running)
    before = len(states) - layers
    backward = backward_branches(operation_branches(normalise))

    def layer(back: Array, carry: tuple[Array, StageWeights]) -> tuple[Array, StageWeights]:
        grad_states, found = carry
        number = layers - 1 - back

        def norm(join: Array, norm: Array) -> Array:
            return normalise(join, norm, running[number, 2])[0]

        grad_join, grad_norm = jax.vjp(norm, joins[number], weights.norms[number])[1](
            _at(grad_states, before + number)
        )
        grad_output, grad_own = jax.vjp(_product, outputs[number], weights.own[number])[1](
            grad_join
        )

        def leave_skip(place: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            source = choices.sources[number, place]
            grad_state, grad_skip = jax.vjp(
                _product, _at(states, source), weights.skips[number, place]
            )[1](grad_join)
            return carry[0].at[source].add(grad_state), carry[1].at[number, place].set(grad_skip)

        grad_states, grad_skips = lax.fori_loop(
            0, choices.counts[number], leave_skip, (grad_states, found.skips)
        )
        source = before - 1 + number
        grad_x, grad_packed, _ = lax.switch(
            choices.operations[number],
            backward,
            (_at(states, source), weights.operations[number], running[number, :2]),
            (grad_output, jnp.zeros_like(running[number, :2])),
        )
        return grad_states.at[source].add(grad_x), StageWeights(
            found.operations.at[number].set(grad_packed),
            found.own.at[number].set(grad_own),
            grad_skips,
            found.norms.at[number].set(grad_norm),
        )

    zeros = jax.tree.map(jnp.zeros_like, weights)
    grad_states, grad_weights = lax.fori_loop(0, layers, layer, (grads[0], zeros))
    return None, grad_states[:before], grad_weights, jnp.zeros_like(running)


run_stage.defvjp(_run_stage_forward, _run_stage_backward)
