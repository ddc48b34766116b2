"""A network of cells for one architecture, written out plainly from the tensors of a checkpoint."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rafiki.model import KnobValue
from rafiki.model.knobs import arch_values
from rafiki.supernet import OPERATIONS
from rafiki.supernet.cells import Architecture, cell_knob

Cells = dict[str, list[object]]
Tensors = dict[str, jax.Array]
CELL = cell_knob([KnobValue(name) for name in OPERATIONS])


def random_cells(seed: int) -> Cells:
    """The values of both cells, drawn at random."""
    rng = np.random.default_rng(seed)
    return {
        name: list(arch_values(CELL, [int(rng.integers(len(item))) for item in CELL.items]))
        for name in ("normal_cell", "reduction_cell")
    }


def make_arch(cells: Cells) -> Architecture:
    """The same as an architecture."""
    return Architecture.of(cells["normal_cell"], cells["reduction_cell"])


def static_norm(x: jax.Array, norm: jax.Array) -> jax.Array:
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / jnp.sqrt(variance + 1e-5) * norm[0] + norm[1]


def static_convolution(x: jax.Array, kernel: jax.Array, groups: int = 1) -> jax.Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=groups
    )


def static_windows(
    x: jax.Array, start: float, combine: Callable[[jax.Array, jax.Array], jax.Array]
) -> jax.Array:
    y: jax.Array = lax.reduce_window(x, start, combine, (1, 3, 3, 1), (1, 1, 1, 1), "SAME")
    return y


def static_operation(name: str, x: jax.Array, packed: jax.Array | None) -> jax.Array:
    channels = x.shape[-1]
    if name == "identity":
        return x
    if name == "maxpool3":
        return static_windows(x, -jnp.inf, lax.max)
    if name == "avgpool3":
        return static_windows(x, 0.0, lax.add) / static_windows(jnp.ones_like(x), 0.0, lax.add)
    assert packed is not None
    size = int(name[-1])
    parts = [size * size * channels, channels * channels, channels, channels]
    pieces = jnp.split(packed, np.cumsum(parts + parts)[:-1])
    for half in (pieces[:4], pieces[4:]):
        depthwise = half[0].reshape(size, size, 1, channels)
        x = static_convolution(jax.nn.relu(x), depthwise, groups=channels)
        x = x @ half[1].reshape(channels, channels)
        x = static_norm(x, jnp.stack(half[2:]))
    return x


def static_cell(
    tensors: Tensors, path: str, values: list[object], states: list[jax.Array]
) -> jax.Array:
    read = set()
    for node in range(2, 7):
        x, y, over_x, over_y = values[4 * node - 8 : 4 * node - 4]
        read |= {x, y}
        total = jnp.zeros_like(states[0])
        for side, source, name in (("x", x, over_x), ("y", y, over_y)):
            packed = tensors.get(f"{path}/node_{node}/{side}/from_{source}/{name}")
            total += static_operation(str(name), states[int(str(source))], packed)
        states = [*states, total]
    loose = [state for state in range(7) if state not in read]
    ends = jnp.concatenate([states[state] for state in loose], axis=-1)
    kernel = jnp.concatenate([tensors[f"{path}/output/from_{state}"] for state in loose])
    return jax.nn.relu(ends) @ kernel


def static_projection(tensors: Tensors, path: str, x: jax.Array, halve: bool) -> jax.Array:
    x, kernel = jax.nn.relu(x), tensors[f"{path}/kernel"]
    if halve:
        even, odd = jnp.split(kernel, 2, axis=1)
        x = jnp.concatenate([x[:, ::2, ::2] @ even, x[:, 1::2, 1::2] @ odd], axis=-1)
    else:
        x = x @ kernel
    return static_norm(x, tensors[f"{path}/norm"])


def static_logits(tensors: Tensors, cells: Cells, images: jax.Array) -> jax.Array:
    """Three cells, normal, reduction, normal, from the tensors of a checkpoint."""
    stem = tensors["stem/kernel"].reshape(3, 3, 1, -1)
    x0 = static_norm(static_convolution(images, stem), tensors["stem/norm"])
    normal, reduction = cells["normal_cell"], cells["reduction_cell"]

    def enter(stage: int, index: int, x: jax.Array) -> jax.Array:
        return static_projection(tensors, f"stage_{stage}/input_{index}", x, halve=stage == 1)

    def cell(
        stage: int, number: int, values: list[object], first: jax.Array, second: jax.Array
    ) -> jax.Array:
        y = static_cell(tensors, f"stage_{stage}/cell_{number}", values, [first, second])
        return static_norm(y, tensors[f"stage_{stage}/norms"][number])

    x1 = cell(0, 0, normal, enter(0, 0, x0), enter(0, 1, x0))
    x2 = cell(1, 0, reduction, enter(1, 0, x0), enter(1, 1, x1))
    x3 = cell(1, 1, normal, enter(1, 2, x1), x2)
    return jax.nn.relu(x3).mean((1, 2)) @ tensors["head/kernel"] + tensors["head/bias"]
