"""The two programs of a supernet, each compiled once for all architectures.

Letters as in `rafiki.supernet`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from rafiki.supernet.architecture import Architecture
from rafiki.supernet.cell import search_cell
from rafiki.supernet.layers import patches3, project
from rafiki.supernet.normalization import scale_and_shift
from rafiki.supernet.shape import Shape
from rafiki.supernet.training import MOMENTUM, cross_entropy
from rafiki.supernet.weight_banks import Tensors, gather_active, scatter_active


def _input_names(stage: int) -> list[str]:
    return [f"stage_{stage}/input_{index}" for index in range(3)]


def search_logits(active: Tensors, arch: Architecture, images: Array, shape: Shape) -> Array:
    """Class scores `[B, classes]` of one architecture.

    Args:
        active: The parameters, of the banks "edges" only the active rows `[L, E, P]`.
        arch: Which operations are computed.
        images: `[B, H, W, depth]`, normalised.
        shape: Of the supernet.
    """

    def run_cell(
        carry: tuple[Array, Array, Array], cell: tuple[Array, ...]
    ) -> tuple[tuple[Array, Array, Array], None]:
        first, second, next_first = carry
        kind, edges, outputs, norm = cell
        y = search_cell(choices[kind], loose[kind], first, second, edges, outputs)
        y = scale_and_shift(y, norm)
        return (next_first, y, y), None

    choices, loose = jnp.asarray(arch.choices), jnp.asarray(arch.loose)
    before = last = scale_and_shift(patches3(images) @ active["stem/kernel"], active["stem/norm"])
    for stage, cells in enumerate(shape.stages):
        sources = (before, last, last)[: len(shape.stage_inputs(stage))]
        inputs = [
            scale_and_shift(
                project(source, active[f"{name}/kernel"], shape.stage_height(stage)),
                active[f"{name}/norm"],
            )
            for source, name in zip(sources, _input_names(stage), strict=False)
        ]
        banks = tuple(active[f"stage_{stage}/{name}"] for name in ("edges", "outputs", "norms"))
        carry = (inputs[0], inputs[1], inputs[-1])
        carry, _ = lax.scan(run_cell, carry, (jnp.array(shape.stage_kinds(stage)), *banks))
        before, last = (carry[0] if cells > 1 else last), carry[1]
    pooled = jnp.mean(jax.nn.relu(last), (1, 2))
    return pooled @ active["head/kernel"] + active["head/bias"]


class SearchPrograms(NamedTuple):
    """The two programs of a supernet, each compiled once for all architectures."""

    train_step: Callable[..., tuple[Tensors, Tensors, Array]]
    evaluate: Callable[..., Array]


@functools.cache
def search_programs(shape: Shape, weight_decay: float) -> SearchPrograms:
    """The programs for a shape; all supernets of a process share them."""

    def search_train_step(
        params: Tensors,
        momentum: Tensors,
        arch: Architecture,
        images: Array,
        labels: Array,
        learning_rate: Array,
    ) -> tuple[Tensors, Tensors, Array]:
        """A step of stochastic gradient descent with Nesterov momentum on the active path."""

        def loss_of(active: Tensors) -> Array:
            return cross_entropy(search_logits(active, arch, images, shape), labels)

        active = gather_active(params, arch, shape)
        trace = gather_active(momentum, arch, shape)
        loss, grads = jax.value_and_grad(loss_of)(active)
        for name, grad in grads.items():
            grad = grad + weight_decay * active[name]
            trace[name] = MOMENTUM * trace[name] + grad
            active[name] = active[name] - learning_rate * (grad + MOMENTUM * trace[name])
        params = scatter_active(params, active, arch, shape)
        return params, scatter_active(momentum, trace, arch, shape), loss

    def search_evaluate(params: Tensors, arch: Architecture, images: Array) -> Array:
        return search_logits(gather_active(params, arch, shape), arch, images, shape)

    return SearchPrograms(
        jax.jit(search_train_step, donate_argnums=(0, 1)), jax.jit(search_evaluate)
    )
