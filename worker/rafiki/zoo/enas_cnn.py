"""ENAS for image classification: the cell search space with one shared-weight supernet.

"Efficient Neural Architecture Search via Parameter Sharing" (arXiv 1802.03268), section 2.4
and the authors' micro search code. A template is uploaded as one file, hence its length.

Try it without a server (about a minute):

    rafiki model test worker/rafiki/zoo/enas_cnn.py

On scikit-learn's digits (1,150 training images of 8x8), one core: the search programs compile
in 18 s; a minibatch of 32 trains in 13 ms and one of 64 is scored in 6 ms. After 30 rounds
random architectures score 0.83 on average with shared weights, from 0.33 to 0.92. The network
of one architecture is trained from scratch in 35 to 90 s, compilation included, the longer
the more convolutions it has, and reaches a test accuracy of 0.98 to 0.99.

Letters: B minibatch, H, W height and width, C channels, N = 5 nodes of a cell, S = N + 2
states of a cell (its two inputs and its nodes), E = 2 N edges (operations) of a cell, L
cells of a stage, R = 2 * 40 rows of weights per cell: every (node, side, earlier state) for
each of the two separable convolutions, P floats of a packed 5x5 separable convolution.

An architecture is a few int32 arrays and an argument of the search programs, which are
compiled once for all architectures.

Departures from the authors' code: weight decay and momentum act on the active path only; a
reduction cell gets the outputs of the two cells before it, both halved, rather than one of
them twice; image sides are halved only down to 4 pixels; the search model has neither
drop-path nor an auxiliary head.
"""

import functools
import math
import os
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import lax

from rafiki.model import (
    ArchKnob,
    BaseModel,
    Candidate,
    FixedKnob,
    KnobConfig,
    KnobValue,
    NodeRef,
    Params,
    PolicyKnob,
    load_images,
    logger,
    query_images,
)

OPERATIONS = ("sepconv3", "sepconv5", "avgpool3", "maxpool3", "identity")
KERNEL_SIZES = (3, 5)  # of the operations that have weights, which come first
NODES = 5
STATES = NODES + 2
EDGES = 2 * NODES
SIDES = ("x", "y")
NORM_EPSILON = 1e-5
MOMENTUM = 0.9
MIN_SIDE = 4
MAX_TENSORS = 4000
STEPS_PER_REPORT = 4  # of progress

Array: TypeAlias = jax.Array
Tensors: TypeAlias = dict[str, Array]
State: TypeAlias = nnx.State[Hashable, nnx.Variable[Array]]

# A slot is an edge with one of its possible sources; it has a row of weights per operation
# with weights. _EDGE_SLOTS `[E]` is the slot of every edge with source 0.
_EDGE_SOURCES = np.repeat(np.arange(2, STATES), 2)
_EDGE_SLOTS = np.concatenate([[0], np.cumsum(_EDGE_SOURCES)[:-1]])
SLOTS = int(_EDGE_SOURCES.sum())
ROWS = SLOTS * len(KERNEL_SIZES)


def _shifted_products(x: Array, kernel: Array) -> Array:
    size, (_, height, width, _) = kernel.shape[0], x.shape
    pad = size // 2
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    return sum(
        (
            padded[:, i : i + height, j : j + width] * kernel[i, j]
            for i in range(size)
            for j in range(size)
        ),
        start=jnp.zeros_like(x),
    )


@jax.custom_vjp
def _depthwise_cpu(x: Array, kernel: Array) -> Array:
    """A depthwise convolution as shifted products: XLA's own is 15 to 50 times slower."""
    return _shifted_products(x, kernel)


def _depthwise_forward(x: Array, kernel: Array) -> tuple[Array, tuple[Array, Array]]:
    return _shifted_products(x, kernel), (x, kernel)


def _depthwise_backward(saved: tuple[Array, Array], grad: Array) -> tuple[Array, Array]:
    x, kernel = saved
    size = kernel.shape[0]
    pad = size // 2
    padded = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))

    def tap(index: Array) -> Array:
        window = lax.dynamic_slice(padded, (0, index // size, index % size, 0), x.shape)
        return jnp.sum(jnp.sum(window * grad, (0, 1)), 0)

    # A loop: unrolled, XLA computes every tap from memory of its own, many times slower.
    grad_kernel = lax.map(tap, jnp.arange(size * size)).reshape(kernel.shape)
    return _shifted_products(grad, kernel[::-1, ::-1]), grad_kernel


_depthwise_cpu.defvjp(_depthwise_forward, _depthwise_backward)


def depthwise(x: Array, kernel: Array) -> Array:
    """Convolves every channel of x `[B, H, W, C]` with its own kernel of `[k, k, C]`, SAME."""
    if jax.default_backend() == "cpu":
        return _depthwise_cpu(x, kernel)
    return lax.conv_general_dilated(
        x,
        kernel[:, :, None],
        window_strides=(1, 1),
        padding="SAME",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


@jax.custom_vjp
def batch_norm(x: Array, scale: Array, offset: Array) -> tuple[Array, Array, Array]:
    """Normalises x `[B, H, W, C]` by the statistics of the batch.

    Returns:
        The normalised x, the mean and the variance `[C]`; no gradient flows through the
        latter two.
    """
    return _batch_norm_forward(x, scale, offset)[0]


def _batch_norm_forward(
    x: Array, scale: Array, offset: Array
) -> tuple[tuple[Array, Array, Array], tuple[Array, ...]]:
    mean = jnp.mean(x, (0, 1, 2))
    centred = x - mean
    variance = jnp.mean(jnp.square(centred), (0, 1, 2))
    inverse = lax.rsqrt(variance + NORM_EPSILON)
    return (centred * (inverse * scale) + offset, mean, variance), (x, mean, inverse, scale)


def _batch_norm_backward(
    saved: tuple[Array, ...], grads: tuple[Array, Array, Array]
) -> tuple[Array, Array, Array]:
    x, mean, inverse, scale = saved
    grad = grads[0]
    unit = (x - mean) * inverse
    grad_offset = jnp.sum(grad, (0, 1, 2))
    grad_scale = jnp.sum(grad * unit, (0, 1, 2))
    count = x.size // x.shape[-1]
    grad_x = (scale * inverse) * (grad - grad_offset / count - unit * (grad_scale / count))
    return grad_x, grad_scale, grad_offset


batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def packed_size(size: int, channels: int) -> int:
    """Floats of a packed separable convolution with kernels of `size` x `size`.

    Two times in a row: depthwise kernel `[size, size, C]`, pointwise kernel `[C, C]`, scale
    and offset `[C]` of the batch norm.
    """
    return 2 * (size * size * channels + channels * channels + 2 * channels)


def separable_convolution(size: int) -> Callable[[Array, Array], Array]:
    """An operation: two times ReLU, separable convolution, batch norm."""

    def operation(x: Array, packed: Array) -> Array:
        channels = x.shape[-1]
        parts = (size * size * channels, channels * channels, channels, channels)
        at = 0
        for _ in range(2):
            kernel, pointwise, scale, offset = (
                packed[start : start + part]
                for start, part in zip(
                    (at, at + parts[0], at + parts[0] + parts[1], at + sum(parts[:3])),
                    parts,
                    strict=True,
                )
            )
            at += sum(parts)
            x = depthwise(jax.nn.relu(x), kernel.reshape(size, size, channels))
            x = batch_norm(x @ pointwise.reshape(channels, channels), scale, offset)[0]
        return x

    return operation


def _pool3(x: Array, combine: Callable[[Array, Array], Array], fill: float) -> Array:
    """Combines 3x3 windows of x `[B, H, W, C]`, SAME, one side after the other."""
    for axis in (1, 2):
        pads = [(1, 1) if k == axis else (0, 0) for k in range(4)]
        padded = jnp.pad(x, pads, constant_values=fill)
        length = x.shape[axis]
        first, second, third = (
            lax.slice_in_dim(padded, k, k + length, axis=axis) for k in range(3)
        )
        x = combine(combine(first, second), third)
    return x


def average_pool(x: Array) -> Array:
    """The mean of 3x3 windows; pixels outside the image do not count."""
    rows, columns = (
        1 + np.minimum(np.arange(k), 1) + np.minimum(np.arange(k)[::-1], 1) for k in x.shape[1:3]
    )
    counts = np.outer(rows, columns)[:, :, None].astype(np.float32)
    return _pool3(x, jnp.add, 0.0) * (1.0 / counts)


def max_pool(x: Array) -> Array:
    """The maximum of 3x3 windows."""
    return _pool3(x, jnp.maximum, -jnp.inf)


def identity(x: Array) -> Array:
    """x itself."""
    return x


def _without_weights(operation: Callable[[Array], Array]) -> Callable[[Array, Array], Array]:
    return lambda x, packed: operation(x)


UNWEIGHTED = (average_pool, max_pool, identity)

# The branches of the switches, in the order of OPERATIONS.
BRANCHES = (
    *(separable_convolution(size) for size in KERNEL_SIZES),
    *(_without_weights(operation) for operation in UNWEIGHTED),
)


def _backward_branch(
    branch: Callable[[Array, Array], Array],
) -> Callable[[Array, Array, Array], tuple[Array, ...]]:
    def backward(x: Array, packed: Array, grad: Array) -> tuple[Array, ...]:
        return tuple(jax.vjp(branch, x, packed)[1](grad))

    return backward


BACKWARD_BRANCHES = tuple(_backward_branch(branch) for branch in BRANCHES)


class Architecture(NamedTuple):
    """One architecture as int32 arrays; what follows from `choices` is made on the host.

    Attributes:
        choices: `[2, N, 4]` of the normal and the reduction cell: per node, two earlier states
            and two operations.
        rows: `[2, E]` the row of a cell's weights for every edge; R where there are none.
        loose: `[2, S]` the state itself where no node reads it, otherwise S. The inputs of a
            cell count as well, as in the authors' code.
    """

    choices: np.ndarray
    rows: np.ndarray
    loose: np.ndarray


def architecture(normal: Sequence[object], reduction: Sequence[object]) -> Architecture:
    """An architecture from the values of the arch knobs.

    Args:
        normal: Per node, two earlier states and two names of operations, in one list.
        reduction: Likewise.

    Raises:
        ValueError: There are too few or too many values, or one is no choice of its position.
    """
    choices = np.zeros((2, NODES, 4), np.int32)
    for kind, values in enumerate((normal, reduction)):
        if len(values) != 4 * NODES:
            raise ValueError(f"a cell takes {4 * NODES} values, not {len(values)}")
        for position, value in enumerate(values):
            node, part = divmod(position, 4)
            allowed: Sequence[object] = range(node + 2) if part < 2 else OPERATIONS
            if value not in allowed:
                raise ValueError(f"position {position} of a cell cannot be {value!r}")
            choices[kind, node, part] = allowed.index(value)
    sources = choices[:, :, :2].reshape(2, EDGES)
    operations = choices[:, :, 2:].reshape(2, EDGES)
    rows = (_EDGE_SLOTS + sources) * len(KERNEL_SIZES) + operations
    rows = np.where(operations < len(KERNEL_SIZES), rows, ROWS).astype(np.int32)
    read = np.stack([np.isin(np.arange(STATES), of_kind) for of_kind in sources])
    loose = np.where(read, STATES, np.arange(STATES)).astype(np.int32)
    return Architecture(choices, rows, loose)


@jax.custom_vjp
def search_cell(
    choices: Array, loose: Array, first: Array, second: Array, edges: Array, outputs: Array
) -> Array:
    """The sum over the loose ends of a cell, each ReLUed and multiplied by its own matrix.

    That is the 1x1 convolution of their concatenation. The derivative is written out: it
    keeps the states alone and recomputes inside the branch that was taken. Differentiating
    `lax.switch` would keep what every branch could need.

    Args:
        choices: `[N, 4]` of one kind of cell.
        loose: `[S]` likewise.
        first: `[B, H, W, C]`, the output of the cell before the last.
        second: `[B, H, W, C]`, the output of the last cell.
        edges: `[E, P]` packed weights of the active operations.
        outputs: `[S, C, C]` a matrix per state.
    """
    return _search_cell_forward(choices, loose, first, second, edges, outputs)[0]


def _search_cell_forward(
    choices: Array, loose: Array, first: Array, second: Array, edges: Array, outputs: Array
) -> tuple[Array, tuple[Array, ...]]:
    def enter_edge(number: Array, states: Array) -> Array:
        node, side = number // 2, number % 2
        x = lax.dynamic_index_in_dim(states, choices[node, side], keepdims=False)
        y = lax.switch(choices[node, side + 2], BRANCHES, x, edges[number])
        return states.at[node + 2].add(y)

    def add_state(index: Array, total: Array) -> Array:
        def add(total: Array) -> Array:
            return total + jax.nn.relu(states[index]) @ outputs[index]

        after: Array = lax.cond(loose[index] < STATES, add, lambda total: total, total)
        return after

    states = jnp.zeros((STATES, *first.shape), first.dtype).at[0].set(first).at[1].set(second)
    states = lax.fori_loop(0, EDGES, enter_edge, states)
    total = lax.fori_loop(0, STATES, add_state, jnp.zeros_like(first))
    return total, (choices, loose, states, edges, outputs)


def _search_cell_backward(
    saved: tuple[Array, ...], grad: Array
) -> tuple[None, None, Array, Array, Array, Array]:
    choices, loose, states, edges, outputs = saved

    def leave_state(index: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        def product(state: Array, matrix: Array) -> Array:
            return jax.nn.relu(state) @ matrix

        def leave(carry: tuple[Array, Array]) -> tuple[Array, Array]:
            grad_state, grad_output = jax.vjp(product, states[index], outputs[index])[1](grad)
            return carry[0].at[index].set(grad_state), carry[1].at[index].set(grad_output)

        after: tuple[Array, Array] = lax.cond(
            loose[index] < STATES, leave, lambda carry: carry, carry
        )
        return after

    def leave_edge(back: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        number = EDGES - 1 - back
        node, side = number // 2, number % 2
        source = choices[node, side]
        grad_x, grad_edge = lax.switch(
            choices[node, side + 2],
            BACKWARD_BRANCHES,
            lax.dynamic_index_in_dim(states, source, keepdims=False),
            edges[number],
            carry[0][node + 2],
        )
        return carry[0].at[source].add(grad_x), carry[1].at[number].set(grad_edge)

    zeros = (jnp.zeros_like(states), jnp.zeros_like(outputs))
    grad_states, grad_outputs = lax.fori_loop(0, STATES, leave_state, zeros)
    grad_states, grad_edges = lax.fori_loop(
        0, EDGES, leave_edge, (grad_states, jnp.zeros_like(edges))
    )
    return None, None, grad_states[0], grad_states[1], grad_edges, grad_outputs


search_cell.defvjp(_search_cell_forward, _search_cell_backward)


@dataclass(frozen=True)
class Shape:
    """What decides the shape of a network, and so which programs are compiled.

    `stages` is the number of cells of every stage. The first cell of every stage but the
    first is a reduction cell: it halves the image and doubles the channels.
    """

    height: int
    width: int
    depth: int
    classes: int
    channels: int
    stages: tuple[int, ...]

    def stage_channels(self, stage: int) -> int:
        """Channels of the cells of a stage."""
        return self.channels << stage

    def stage_height(self, stage: int) -> int:
        """Pixels."""
        return -(-self.height // (1 << stage))

    def stage_kinds(self, stage: int) -> tuple[int, ...]:
        """The kind of every cell of a stage: 0 normal, 1 reduction."""
        return (min(stage, 1), *(0,) * (self.stages[stage] - 1))

    def stage_inputs(self, stage: int) -> tuple[int, ...]:
        """Channels that enter the projections of a stage.

        They make the two inputs of its first cell and, if there is one, the first input of
        its second cell.
        """
        stem = 3 * self.channels
        last = stem if stage == 0 else self.stage_channels(stage - 1)
        before = stem if stage == 1 and self.stages[0] == 1 else last
        return (before, last, last)[: 1 + min(self.stages[stage], 2)]


class Initializer:
    """Fresh parameters from one random source, float32."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def normal(self, fan_in: int, *size: int) -> np.ndarray:
        """He-normal: variance 2 / fan_in."""
        values = self._rng.standard_normal(size, dtype=np.float32)
        return values * np.float32(math.sqrt(2.0 / fan_in))

    def norm(self, channels: int) -> np.ndarray:
        """`[2, C]`: scale 1 and offset 0 of a batch norm."""
        return np.stack([np.ones(channels, np.float32), np.zeros(channels, np.float32)])

    def separable(self, size: int, channels: int) -> np.ndarray:
        """A packed separable convolution."""
        halves = [
            part.reshape(-1)
            for _ in range(2)
            for part in (
                self.normal(size * size, size, size, channels),
                self.normal(channels, channels, channels),
                self.norm(channels),
            )
        ]
        return np.concatenate(halves)


def init_search_params(shape: Shape, seed: int) -> dict[str, np.ndarray]:
    """Fresh weights of a supernet: the banks of all cells and what all architectures share."""
    init = Initializer(seed)
    stem = 3 * shape.channels
    params = {
        "stem/kernel": init.normal(9 * shape.depth, 9 * shape.depth, stem),
        "stem/norm": init.norm(stem),
    }
    for stage, cells in enumerate(shape.stages):
        channels = shape.stage_channels(stage)
        for index, entering in enumerate(shape.stage_inputs(stage)):
            params[f"stage_{stage}/input_{index}/kernel"] = init.normal(
                entering, entering, channels
            )
            params[f"stage_{stage}/input_{index}/norm"] = init.norm(channels)
        edges = np.zeros((cells, ROWS, packed_size(KERNEL_SIZES[-1], channels)), np.float32)
        for cell in range(cells):
            for row in range(ROWS):
                packed = init.separable(KERNEL_SIZES[row % len(KERNEL_SIZES)], channels)
                edges[cell, row, : packed.size] = packed
        params[f"stage_{stage}/edges"] = edges
        params[f"stage_{stage}/outputs"] = init.normal(channels, cells, STATES, channels, channels)
        params[f"stage_{stage}/norms"] = np.stack([init.norm(channels)] * cells)
    params["head/kernel"] = init.normal(2 * channels, channels, shape.classes)
    params["head/bias"] = np.zeros(shape.classes, np.float32)
    return params


@functools.cache
def search_sizes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """The size of every array of a supernet."""
    return {name: value.shape for name, value in init_search_params(shape, 0).items()}


def scale_and_shift(x: Array, norm: Array) -> Array:
    """Batch norm with `norm` `[2, C]`: scale and offset."""
    return batch_norm(x, norm[0], norm[1])[0]


def patches3(x: Array) -> Array:
    """The 3x3 neighbourhood of every pixel, `[B, H, W, 9 C]`."""
    _, height, width, _ = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifts = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifts, axis=-1)


def project(x: Array, kernel: Array, height: int) -> Array:
    """ReLU, then a 1x1 convolution by kernel `[C, C2]`; halves x unless it has `height`.

    Halving is the authors' factorised reduction: one half of the new channels comes from the
    even pixels, the other from the odd ones.
    """
    x = jax.nn.relu(x)
    if x.shape[1] == height:
        return x @ kernel
    half = kernel.shape[-1] // 2
    odd = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1::2, 1::2]
    return jnp.concatenate([x[:, ::2, ::2] @ kernel[:, :half], odd @ kernel[:, half:]], axis=-1)


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


def _input_names(stage: int) -> list[str]:
    return [f"stage_{stage}/input_{index}" for index in range(3)]


def _is_bank(name: str) -> bool:
    return name.endswith(("/edges", "/outputs"))


def _stage_of(name: str) -> int:
    return int(name.split("/")[0].removeprefix("stage_"))


def active_rows(name: str, arch: Architecture, shape: Shape) -> tuple[np.ndarray | Array, ...]:
    """Where in a bank `[L, rows, ...]` the active rows are; past the end for what has none."""
    kinds = np.array(shape.stage_kinds(_stage_of(name)))
    rows = arch.rows if name.endswith("/edges") else arch.loose
    return np.arange(len(kinds))[:, None], rows[kinds]


def gather_active(tensors: Tensors, arch: Architecture, shape: Shape) -> Tensors:
    """What an architecture uses: the active rows of the banks (0 where none), all the rest."""
    return {
        name: tensor.at[active_rows(name, arch, shape)].get(mode="fill", fill_value=0)
        if _is_bank(name)
        else tensor
        for name, tensor in tensors.items()
    }


def scatter_active(tensors: Tensors, active: Tensors, arch: Architecture, shape: Shape) -> Tensors:
    """The parameters with the active ones put back; all others keep every bit."""
    return {
        name: tensor.at[active_rows(name, arch, shape)].set(active[name], mode="drop")
        if _is_bank(name)
        else active[name]
        for name, tensor in tensors.items()
    }


def cross_entropy(logits: Array, labels: Array) -> Array:
    """The mean over a minibatch."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


class SearchPrograms(NamedTuple):
    """The two programs of a supernet, each compiled once for all architectures."""

    train_step: Callable[..., tuple[Tensors, Tensors, Array]]
    evaluate: Callable[..., Array]


@functools.cache
def search_programs(shape: Shape, weight_decay: float) -> SearchPrograms:
    """The programs for a shape; instances of the template in one process share them."""

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


class Norm(nnx.Module):
    """Batch norm with running statistics, momentum 0.9."""

    def __init__(self, channels: int) -> None:
        self.scale = nnx.Param(jnp.ones(channels))
        self.offset = nnx.Param(jnp.zeros(channels))
        self.mean = nnx.BatchStat(jnp.zeros(channels))
        self.variance = nnx.BatchStat(jnp.ones(channels))

    def __call__(self, x: Array, training: bool) -> Array:
        if not training:
            inverse = self.scale[...] * lax.rsqrt(self.variance[...] + NORM_EPSILON)
            return x * inverse + (self.offset[...] - self.mean[...] * inverse)
        y, mean, variance = batch_norm(x, self.scale[...], self.offset[...])
        self.mean[...] = 0.9 * self.mean[...] + 0.1 * mean
        self.variance[...] = 0.9 * self.variance[...] + 0.1 * variance
        return y


class SeparableConvolution(nnx.Module):
    """ReLU, depthwise convolution, pointwise convolution, batch norm."""

    def __init__(self, size: int, channels: int, init: Initializer) -> None:
        self.kernel = nnx.Param(jnp.asarray(init.normal(size * size, size, size, channels)))
        self.pointwise = nnx.Param(jnp.asarray(init.normal(channels, channels, channels)))
        self.norm = Norm(channels)

    def __call__(self, x: Array, training: bool) -> Array:
        x = depthwise(jax.nn.relu(x), self.kernel[...])
        return self.norm(x @ self.pointwise[...], training)


class Projection(nnx.Module):
    """ReLU, 1x1 convolution (halving the image where `height` says so), batch norm."""

    def __init__(self, entering: int, channels: int, height: int, init: Initializer) -> None:
        self.kernel = nnx.Param(jnp.asarray(init.normal(entering, entering, channels)))
        self.norm = Norm(channels)
        self.height = height

    def __call__(self, x: Array, training: bool) -> Array:
        return self.norm(project(x, self.kernel[...], self.height), training)


class FixedCell(nnx.Module):
    """The active operations of one kind of cell, and nothing else."""

    def __init__(self, choices: np.ndarray, channels: int, init: Initializer) -> None:
        self.choices = tuple(tuple(int(value) for value in node) for node in choices)
        read = {source for node in self.choices for source in node[:2]}
        self.loose = tuple(state for state in range(STATES) if state not in read)
        self.operations = nnx.List(
            nnx.List(
                SeparableConvolution(KERNEL_SIZES[operation], channels, init) for _ in range(2)
            )
            if operation < len(KERNEL_SIZES)
            else nnx.List()
            for node in self.choices
            for operation in node[2:]
        )
        width = len(self.loose) * channels
        self.output = nnx.Param(jnp.asarray(init.normal(width, width, channels)))
        self.norm = Norm(channels)

    def __call__(self, first: Array, second: Array, training: bool) -> Array:
        states = [first, second]
        for node, choice in enumerate(self.choices):
            total = jnp.zeros_like(first)
            for side in range(2):
                y = states[choice[side]]
                operation = choice[side + 2]
                if operation < len(KERNEL_SIZES):
                    for convolution in self.operations[2 * node + side]:
                        y = convolution(y, training)
                else:
                    y = UNWEIGHTED[operation - len(KERNEL_SIZES)](y)
                total = total + y
            states.append(total)
        ends = jnp.concatenate([states[state] for state in self.loose], axis=-1)
        return self.norm(jax.nn.relu(ends) @ self.output[...], training)


class FixedNetwork(nnx.Module):
    """Cells of one architecture stacked as in the supernet, with weights of their own."""

    def __init__(self, shape: Shape, arch: Architecture, init: Initializer) -> None:
        stem = 3 * shape.channels
        self.stem = nnx.Param(jnp.asarray(init.normal(9 * shape.depth, 9 * shape.depth, stem)))
        self.stem_norm = Norm(stem)
        self.stages: nnx.List[nnx.List[FixedCell]] = nnx.List()
        self.inputs: nnx.List[nnx.List[Projection]] = nnx.List()
        for stage in range(len(shape.stages)):
            channels, height = shape.stage_channels(stage), shape.stage_height(stage)
            self.inputs.append(
                nnx.List(
                    Projection(entering, channels, height, init)
                    for entering in shape.stage_inputs(stage)
                )
            )
            self.stages.append(
                nnx.List(
                    FixedCell(arch.choices[kind], channels, init)
                    for kind in shape.stage_kinds(stage)
                )
            )
        self.head = nnx.Param(jnp.asarray(init.normal(2 * channels, channels, shape.classes)))
        self.bias = nnx.Param(jnp.zeros(shape.classes))

    def __call__(self, images: Array, training: bool) -> Array:
        before = last = self.stem_norm(patches3(images) @ self.stem[...], training)
        for inputs, cells in zip(self.inputs, self.stages, strict=True):
            sources = [before, last, last][: len(inputs)]
            entering = [make(x, training) for make, x in zip(inputs, sources, strict=True)]
            first, second, next_first = entering[0], entering[1], entering[-1]
            for cell in cells:
                y = cell(first, second, training)
                first, second, next_first = next_first, y, y
            before, last = (first if len(cells) > 1 else last), second
        return jnp.mean(jax.nn.relu(last), (1, 2)) @ self.head[...] + self.bias[...]


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
    arch = architecture(normal, reduction)
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
        jnp.asarray(data.images),
        data.labels,
        data.class_count,
        mean.astype(np.float32),
        np.maximum(deviation, 1e-3).astype(np.float32),
    )


@dataclass(frozen=True, eq=False)
class Inputs:
    """What a network was made for, and how its pixels are normalised: by the training data."""

    size: tuple[int, int, int]
    classes: int
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, data: Data) -> "Inputs":
        """Those of training data."""
        height, width, depth = data.images.shape[1:]
        return cls((height, width, depth), data.class_count, data.mean, data.deviation)

    @classmethod
    def load(cls, params: Params) -> "Inputs":
        """Those that `dump` wrote."""
        height, width, depth, classes = (int(n) for n in take(params, "input/shape", (4,)))
        mean, deviation = (take(params, f"input/{k}", (depth,)) for k in ("mean", "deviation"))
        return cls((height, width, depth), classes, mean, deviation)

    def dump(self) -> dict[str, np.ndarray]:
        """The tensors under `input/`."""
        shape = np.array([*self.size, self.classes], np.int32)
        return {"input/shape": shape, "input/mean": self.mean, "input/deviation": self.deviation}

    def check(self, size: tuple[int, ...]) -> None:
        """Raises ValueError unless images `[H, W, depth]` fit the network."""
        if size != self.size:
            raise ValueError(f"images are {size}, the network was trained on {self.size}")

    def shape(self, channels: int, cells: int) -> Shape:
        """A network with `cells` normal cells per stage and reduction cells between stages.

        There are three stages where the sides can be halved twice without falling below 4
        pixels, otherwise two.
        """
        side = min(self.size[:2])
        if side < 2 * MIN_SIDE:
            raise ValueError(f"images must be at least {2 * MIN_SIDE} pixels wide and high")
        stages = (cells, cells + 1, cells + 1)[: 3 if side >= 4 * MIN_SIDE else 2]
        return Shape(*self.size, self.classes, channels, stages)


def take(params: Params, path: str, size: tuple[int, ...]) -> np.ndarray:
    """The tensor at a path. Raises ValueError if it is missing or of another size."""
    if path not in params:
        raise ValueError(f"the parameters lack {path}; a model with other knobs dumped them")
    tensor = np.asarray(params[path])
    if tensor.shape != size:
        raise ValueError(f"{path} is {tensor.shape}, not {size}; the knobs or data differ")
    return tensor


@jax.jit
def take_minibatch(images: Array, indices: Array, mean: Array, deviation: Array) -> Array:
    """The images `[B, H, W, depth]` at `indices` `[B]`, normalised."""
    return (images[indices].astype(jnp.float32) / 255.0 - mean) / deviation


@functools.partial(jax.jit, static_argnames="reach")
def augment_minibatch(images: Array, shifts: Array, flips: Array, reach: int) -> Array:
    """The images moved by `shifts` `[B, 2]` in [0, 2 reach], mirrored where `flips` `[B]`.

    What comes in from outside repeats the edge.
    """
    margins = ((0, 0), (reach, reach), (reach, reach), (0, 0))

    def change(padded: Array, by: Array, flip: Array) -> Array:
        moved = lax.dynamic_slice(padded, (by[0], by[1], 0), images.shape[1:])
        return jnp.where(flip, moved[:, ::-1], moved)

    return jax.vmap(change)(jnp.pad(images, margins, mode="edge"), shifts, flips)


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


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Minibatches in one pass over `count` images."""
    return max(1, count // batch_size)


def _row_names() -> list[str]:
    return [
        f"node_{edge // 2 + 2}/{SIDES[edge % 2]}/from_{source}/{operation}"
        for edge in range(EDGES)
        for source in range(_EDGE_SOURCES[edge])
        for operation in OPERATIONS[: len(KERNEL_SIZES)]
    ]


ROW_NAMES = _row_names()


def bank_paths(name: str, cells: int) -> list[list[str]]:
    """Per cell and row of a bank, the path of its tensor in a checkpoint."""
    stage = name.split("/")[0]
    rows = ROW_NAMES if name.endswith("/edges") else [f"output/from_{k}" for k in range(STATES)]
    return [[f"{stage}/cell_{cell}/{row}" for row in rows] for cell in range(cells)]


class Supernet:
    """Shared weights, their momentum, and the number of minibatches that they have seen."""

    def __init__(self, inputs: Inputs, shape: Shape, weight_decay: float) -> None:
        tensors = 2 * sum(shape.stages) * (ROWS + STATES) + 100
        if tensors > MAX_TENSORS:
            raise ValueError(f"{sum(shape.stages)} cells make over {MAX_TENSORS} tensors")
        self.inputs = inputs
        self.shape = shape
        self.steps = 0
        self.programs = search_programs(shape, weight_decay)
        self._params: Tensors = {}
        self._momentum: Tensors = {}

    def reset(self, seed: int) -> None:
        """Fresh weights."""
        params = init_search_params(self.shape, seed)
        self._params = {name: jnp.asarray(value) for name, value in params.items()}
        self._momentum = {name: jnp.zeros_like(value) for name, value in params.items()}
        self.steps = 0

    def train_step(
        self, arch: Architecture, images: Array, labels: np.ndarray, learning_rate: float
    ) -> Array:
        """Trains one architecture on one minibatch; the loss."""
        self._params, self._momentum, loss = self.programs.train_step(
            self._params, self._momentum, arch, images, labels, np.float32(learning_rate)
        )
        self.steps += 1
        return loss

    def logits(self, arch: Architecture, images: Array) -> Array:
        """`[B, classes]` of one architecture, normalised by the statistics of the minibatch."""
        return self.programs.evaluate(self._params, arch, images)

    def updates(self, archs: Sequence[Architecture]) -> dict[str, int]:
        """How often a step with each of `archs` updates every tensor that it does update."""
        counts = {}
        for name, tensor in self._params.items():
            if not _is_bank(name):
                counts[name] = len(archs)
                continue
            rows = np.zeros((tensor.shape[0], tensor.shape[1] + 1), np.int64)
            for arch in archs:
                rows[active_rows(name, arch, self.shape)] += 1
            for paths, of_cell in zip(bank_paths(name, len(rows)), rows, strict=True):
                counts |= zip(paths, of_cell[:-1].tolist(), strict=True)
        counts |= {f"optimizer/momentum/{path}": count for path, count in counts.items()}
        counts["optimizer/steps"] = len(archs)
        return {path: count for path, count in counts.items() if count}

    def dump(self) -> dict[str, np.ndarray]:
        """One packed tensor per (cell, node, side, source, operation), and all the others."""
        dumped = {**self.inputs.dump(), "optimizer/steps": np.array(self.steps, np.int64)}
        for prefix, tensors in (("", self._params), ("optimizer/momentum/", self._momentum)):
            for name, tensor in tensors.items():
                # A copy: the program that trains next may take the memory over.
                values = np.array(tensor)
                if not _is_bank(name):
                    dumped[prefix + name] = values
                    continue
                for cell, paths in enumerate(bank_paths(name, len(values))):
                    for row, path in enumerate(paths):
                        size = self._row_size(name, row)
                        dumped[prefix + path] = values[cell, row, :size]
        return dumped

    def load(self, params: Params) -> None:
        """Takes what `dump` gave; without momentum it begins at zero."""
        self._params = self._load_tensors(params, "")
        if "optimizer/steps" in params:
            self._momentum = self._load_tensors(params, "optimizer/momentum/")
            self.steps = int(take(params, "optimizer/steps", ()))
        else:
            self._momentum = {name: jnp.zeros_like(value) for name, value in self._params.items()}
            self.steps = 0

    def _row_size(self, name: str, row: int) -> int:
        """The leading length of a row of a bank: all but the padding."""
        channels = self.shape.stage_channels(_stage_of(name))
        if name.endswith("/edges"):
            return packed_size(KERNEL_SIZES[row % len(KERNEL_SIZES)], channels)
        return channels

    def _load_tensors(self, params: Params, prefix: str) -> Tensors:
        tensors = {}
        for name, size in search_sizes(self.shape).items():
            if not _is_bank(name):
                tensors[name] = jnp.array(take(params, prefix + name, size))
                continue
            bank = np.zeros(size, np.float32)
            for cell, paths in enumerate(bank_paths(name, len(bank))):
                for row, path in enumerate(paths):
                    length = self._row_size(name, row)
                    row_size = (length, *size[3:])
                    bank[cell, row, :length] = take(params, prefix + path, row_size)
            tensors[name] = jnp.array(bank)
        return tensors


class FinalNetwork:
    """The network of one architecture with its parameters and running statistics."""

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
                tensor = take(params, "network/" + "/".join(map(str, path)), variable.shape)
                variable[...] = jnp.array(tensor)
        self._trace = self._programs.optimizer.init(self._params)


def _cell_knob(operations: Sequence[KnobValue]) -> ArchKnob:
    """Node by node: two earlier states, then two operations."""
    items: list[Sequence[KnobValue | NodeRef]] = []
    nodes = []
    for node in range(2, STATES):
        states = [NodeRef(state) for state in range(node)]
        items += [states, states, operations, operations]
        nodes += [node] * 4
    return ArchKnob(items, nodes)


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """The knobs of `EnasCnn`, with their types."""

    normal_cell: Sequence[object]
    reduction_cell: Sequence[object]
    cells: int
    downscaled_cells: int
    channels: int
    batch_size: int
    evaluation_batch_size: int
    epochs: int
    early_stop_epochs: int
    learning_rate: float
    search_learning_rate: float
    restart_epochs: int
    weight_decay: float
    search_weight_decay: float
    shift: int
    flip: bool
    share_params: bool
    early_stop: bool
    skip_train: bool
    quick_eval: bool
    downscale: bool


class EnasCnn(BaseModel):
    """A convolutional network of normal and reduction cells, for images of 8x8 and more.

    With SHARE_PARAMS it is a supernet that holds the weights of all architectures, without
    it the network of one architecture, trained from scratch. What a supernet scores ranks
    architectures; it is far below what the same architecture reaches once it was trained.

    Knobs:
        normal_cell, reduction_cell: The architecture. Node by node, two earlier states (0 and
            1 are the inputs of the cell) and two operations.
        cells, downscaled_cells: Normal cells per stage, without and with DOWNSCALE. A
            reduction cell comes between two stages.
        channels: Of the first stage; each further one has twice as many.
        batch_size: Of training.
        evaluation_batch_size: Of evaluation: what QUICK_EVAL scores on.
        epochs, early_stop_epochs: Passes over the training data, without and with EARLY_STOP.
        learning_rate: At the start of a training from scratch; falls to a hundredth in half
            a cosine.
        search_learning_rate, restart_epochs: The same of a supernet, which restarts after so
            many rounds, then after twice as many, and so on.
        weight_decay, search_weight_decay: Times a parameter is added to its gradient.
        shift: A training from scratch moves images by up to so many pixels.
        flip: Whether it mirrors half of them.
        share_params, early_stop, skip_train, quick_eval, downscale: The policies.

    Parameters of both:
        input/shape: int32 `[4]`: height, width, depth, classes.
        input/mean, input/deviation: float32 `[depth]` of the training pixels in [0, 1].

    Parameters of a supernet, s counting stages, c the cells of a stage, i inputs, k and m the
    states of a cell:
        stem/kernel `[9 depth, C]`, stem/norm `[2, C]`: A 3x3 convolution. A norm is scale and
            offset.
        stage_{s}/input_{i}/kernel, stage_{s}/input_{i}/norm: The projections that enter.
        stage_{s}/cell_{c}/node_{k}/{x or y}/from_{m}/{operation}: `packed_size` floats.
        stage_{s}/cell_{c}/output/from_{k}: `[C, C]`, of loose ends.
        stage_{s}/norms: `[cells, 2, C]` after the outputs.
        head/kernel, head/bias: From the last channels to classes.
        optimizer/steps: int64, the minibatches trained.
        optimizer/momentum/{path}: Of each of the above but input/.

    Parameters of a network trained from scratch: network/{path in FixedNetwork}.
    """

    task = "IMAGE_CLASSIFICATION"
    dependencies: ClassVar[Mapping[str, str]] = {
        "flax": "0.12.8",
        "jax": "0.10.2",
        "optax": "0.2.8",
    }

    @staticmethod
    def get_knob_config() -> KnobConfig:
        operations = [KnobValue(name) for name in OPERATIONS]
        return {
            "normal_cell": _cell_knob(operations),
            "reduction_cell": _cell_knob(operations),
            "cells": FixedKnob(2),
            "downscaled_cells": FixedKnob(1),
            "channels": FixedKnob(16),
            "batch_size": FixedKnob(32),
            "evaluation_batch_size": FixedKnob(64),
            "epochs": FixedKnob(30),
            "early_stop_epochs": FixedKnob(1),
            "learning_rate": FixedKnob(0.1),
            "search_learning_rate": FixedKnob(0.2),
            "restart_epochs": FixedKnob(10),
            "weight_decay": FixedKnob(1e-3),
            "search_weight_decay": FixedKnob(1e-4),
            "shift": FixedKnob(1),
            "flip": FixedKnob(False),
            "share_params": PolicyKnob("SHARE_PARAMS"),
            "early_stop": PolicyKnob("EARLY_STOP"),
            "skip_train": PolicyKnob("SKIP_TRAIN"),
            "quick_eval": PolicyKnob("QUICK_EVAL"),
            "downscale": PolicyKnob("DOWNSCALE"),
        }

    def __init__(self, **knobs: object) -> None:
        super().__init__(**knobs)
        # Knobs come as objects; `Knobs` names every one of them, so a wrong name fails here.
        self._knobs = Knobs(**knobs)  # type: ignore[arg-type]
        self._arch_values = (tuple(self._knobs.normal_cell), tuple(self._knobs.reduction_cell))
        self._arch = architecture(*self._arch_values)
        self._network: Supernet | FinalNetwork | None = None

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        knobs = self._knobs
        data = load_data(dataset_path)
        epochs = knobs.early_stop_epochs if knobs.early_stop else knobs.epochs
        if knobs.share_params:
            supernet = self._supernet_to_train(data, shared_params, self.seed)
            per_epoch = steps_per_epoch(len(data.labels), knobs.batch_size)
            archs = [self._arch] * (epochs * per_epoch)
            begin = supernet.steps / per_epoch
            self._train_supernet(supernet, data, archs, self.seed, (0, 1), begin, begin + epochs)
        else:
            network = self._final_network(Inputs.of(data))
            network.reset(self.seed)
            self._network = network
            self._train_final(network, data, epochs)

    def evaluate(self, dataset_path: str) -> float:
        return self._accuracies(load_data(dataset_path), [self._arch], self.seed)[0]

    def predict(self, queries: list[object]) -> list[object]:
        """Class probabilities per query."""
        network = self._held()
        images = query_images(queries)
        network.inputs.check(images.shape[1:])
        order = np.arange(len(images))
        logits = self._logits(network, jnp.asarray(images), order, self._arch)
        probabilities = np.asarray(jax.nn.softmax(logits, axis=-1))
        return [[float(share) for share in row] for row in probabilities]

    def dump_parameters(self) -> dict[str, np.ndarray]:
        return self._held().dump()

    def load_parameters(self, params: Params) -> None:
        inputs = Inputs.load(params)
        network = (
            self._supernet(inputs) if self._knobs.share_params else self._final_network(inputs)
        )
        network.load(params)
        self._network = network

    def train_candidates(
        self,
        dataset_path: str,
        candidates: Sequence[Candidate],
        *,
        shared_params: Params | None,
        shard: tuple[int, int],
        data_seed: int,
        round: int,
    ) -> dict[str, object]:
        data = load_data(dataset_path)
        # Shards that begin with fresh weights must begin with the same.
        supernet = self._supernet_to_train(data, shared_params, data_seed)
        archs = [_candidate_architecture(candidate) for candidate in candidates]
        metrics = self._train_supernet(
            supernet, data, archs, data_seed, shard, max(round - 1, 0), max(round, 1)
        )
        return {
            "steps_per_epoch": steps_per_epoch(len(data.labels), self._knobs.batch_size),
            **metrics,
        }

    def evaluate_candidates(
        self, dataset_path: str, candidates: Sequence[Candidate], *, seed: int
    ) -> list[float]:
        if not self._knobs.share_params:
            raise ValueError("candidates share weights: the policy SHARE_PARAMS must be on")
        archs = [_candidate_architecture(candidate) for candidate in candidates]
        return self._accuracies(load_data(dataset_path), archs, seed)

    def destroy(self) -> None:
        self._network = None

    @classmethod
    def teardown(cls) -> None:
        search_programs.cache_clear()
        final_programs.cache_clear()
        _load_data.cache_clear()

    def _held(self) -> Supernet | FinalNetwork:
        if self._network is None:
            raise ValueError("the model was neither trained nor loaded")
        return self._network

    def _shape(self, inputs: Inputs) -> Shape:
        knobs = self._knobs
        cells = knobs.downscaled_cells if knobs.downscale else knobs.cells
        return inputs.shape(knobs.channels, cells)

    def _supernet(self, inputs: Inputs) -> Supernet:
        return Supernet(inputs, self._shape(inputs), self._knobs.search_weight_decay)

    def _final_network(self, inputs: Inputs) -> FinalNetwork:
        return FinalNetwork(
            inputs, self._shape(inputs), self._arch_values, self._knobs.weight_decay
        )

    def _supernet_to_train(
        self, data: Data, shared_params: Params | None, fresh_seed: int
    ) -> Supernet:
        if not self._knobs.share_params:
            raise ValueError("candidates share weights: the policy SHARE_PARAMS must be on")
        inputs = Inputs.of(data) if shared_params is None else Inputs.load(shared_params)
        inputs.check(data.images.shape[1:])
        if data.class_count > inputs.classes:
            raise ValueError(f"{data.class_count} classes, the weights are for {inputs.classes}")
        supernet = self._supernet(inputs)
        if shared_params is None:
            supernet.reset(fresh_seed)
        else:
            supernet.load(shared_params)
        self._network = supernet
        return supernet

    def _train_supernet(
        self,
        supernet: Supernet,
        data: Data,
        archs: Sequence[Architecture],
        data_seed: int,
        shard: tuple[int, int],
        begin: float,
        end: float,
    ) -> dict[str, object]:
        """Trains minibatch k with archs[k], while the schedule goes from epoch begin to end."""
        batches = minibatches(len(data.labels), self._knobs.batch_size, data_seed, shard)
        losses = []
        for step, (arch, indices) in enumerate(zip(archs, batches, strict=False)):
            epoch = begin + (end - begin) * step / len(archs)
            images = _take(data.images, indices, supernet.inputs)
            rate = self._search_rate(epoch)
            losses.append(supernet.train_step(arch, images, data.labels[indices], rate))
            if _report(step, len(archs), losses[-1]):
                break
        loss = float(np.mean([float(loss) for loss in losses])) if losses else 0.0
        return {"updates": supernet.updates(archs[: len(losses)]), "loss": loss}

    def _train_final(self, network: FinalNetwork, data: Data, epochs: int) -> None:
        knobs = self._knobs
        logger.define_plot("Loss", ["loss"], "epoch")
        logger.define_plot("Training accuracy", ["accuracy"], "epoch")
        per_epoch = steps_per_epoch(len(data.labels), knobs.batch_size)
        total = epochs * per_epoch
        rng = np.random.default_rng(self.seed)
        reports = []
        batches = minibatches(len(data.labels), knobs.batch_size, self.seed)
        for step, indices in zip(range(total), batches, strict=False):
            images = self._training_images(data, network.inputs, indices, rng)
            rate = _cosine(step / total, knobs.learning_rate)
            loss, hits = network.train_step(images, data.labels[indices], rate)
            reports.append((loss, hits))
            if (step + 1) % per_epoch == 0:
                epoch = (step + 1) // per_epoch
                means = np.mean([[float(x) for x in report] for report in reports], 0)
                logger.log(step=epoch, epoch=epoch, loss=means[0], accuracy=means[1])
                reports = []
            if _report(step, total, loss):
                break

    def _training_images(
        self, data: Data, inputs: Inputs, indices: np.ndarray, rng: np.random.Generator
    ) -> Array:
        """A normalised minibatch, shifted and mirrored by chance."""
        knobs = self._knobs
        images = _take(data.images, indices, inputs)
        shifts = rng.integers(2 * knobs.shift + 1, size=(len(indices), 2), dtype=np.int32)
        flips = rng.random(len(indices)) < (0.5 if knobs.flip else 0.0)
        augmented: Array = augment_minibatch(images, shifts, flips, knobs.shift)
        return augmented

    def _search_rate(self, epoch: float) -> float:
        """Cosine with restarts, each period twice as long (SGDR, arXiv 1608.03983)."""
        period = float(self._knobs.restart_epochs)
        while epoch >= period:
            epoch, period = epoch - period, 2 * period
        return _cosine(epoch / period, self._knobs.search_learning_rate)

    def _logits(
        self,
        network: Supernet | FinalNetwork,
        images: Array,
        order: np.ndarray,
        arch: Architecture,
    ) -> np.ndarray:
        """Class scores `[n, classes]` of the images in `order` `[n]`.

        All minibatches have the full size: the last is filled up from the beginning.
        """
        size = self._knobs.evaluation_batch_size
        padded = np.resize(order, -(-len(order) // size) * size).astype(np.int32)
        logits = []
        for indices in padded.reshape(-1, size):
            batch = _take(images, indices, network.inputs)
            if isinstance(network, Supernet):
                logits.append(network.logits(arch, batch))
            else:
                logits.append(network.logits(batch))
        return np.concatenate([np.asarray(part) for part in logits])[: len(order)]

    def _accuracies(self, data: Data, archs: Sequence[Architecture], seed: int) -> list[float]:
        """The share of labels hit by each architecture, on the same images for all of them."""
        network = self._held()
        network.inputs.check(data.images.shape[1:])
        # A fixed shuffle for all of the data: a supernet normalises by the minibatch, which
        # images in order of their classes would distort.
        order = np.random.default_rng(seed if self._knobs.quick_eval else 0).permutation(
            len(data.labels)
        )
        if self._knobs.quick_eval:
            order = order[: self._knobs.evaluation_batch_size]
        return [
            _accuracy(self._logits(network, data.images, order, arch), data.labels[order])
            for arch in archs
        ]


def _accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of labels hit; NaN, which is no score, if the network has diverged."""
    if not np.isfinite(logits).all():
        return math.nan
    return float(np.mean(np.argmax(logits, axis=-1) == labels))


def _candidate_architecture(candidate: Candidate) -> Architecture:
    return architecture(candidate["normal_cell"], candidate["reduction_cell"])


def _report(step: int, total: int, loss: Array) -> bool:
    """Reports progress now and then, once the step is done; whether to stop."""
    done = step + 1
    if done % STEPS_PER_REPORT and done < total:
        return False
    float(loss)  # Steps run ahead of the program; progress must not.
    return logger.progress(done / total)


def _take(images: Array, indices: np.ndarray, inputs: Inputs) -> Array:
    taken: Array = take_minibatch(images, indices, inputs.mean, inputs.deviation)
    return taken


def _cosine(share: float, rate: float) -> float:
    """From `rate` to a hundredth of it in half a cosine, as `share` goes from 0 to 1."""
    return rate * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * share)))
