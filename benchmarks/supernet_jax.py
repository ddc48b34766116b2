"""Supernets of cells in JAX: ours, one compiled per architecture, and one that selects.

Letters as in `rafiki.supernet.cells`.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from benchmarks.supernet_contender import Choices, Contender, Setting, Work, timed
from jax import Array, lax

from rafiki.supernet import (
    MOST_CANDIDATES,
    MOST_STEPS,
    ImageSpace,
    Rows,
    Tensors,
    cross_entropy,
    image_programs,
    nesterov,
    normalised,
    scale_and_shift,
    stack_archs,
)
from rafiki.supernet.cells import Architecture, CellSpace, Shape
from rafiki.supernet.cells.architecture import EDGES, STATES
from rafiki.supernet.layers import patches3, project
from rafiki.supernet.operations import BRANCHES, KERNEL_SIZES, packed_size
from rafiki.supernet.programs import Weights

MEAN, DEVIATION = np.full(1, 0.5, np.float32), np.full(1, 0.25, np.float32)

# From a stage, the number of a cell there, its kind and its two inputs to its output.
Cell: TypeAlias = Callable[[int, int, int, Array, Array], Array]


def make_contender(name: str, setting: Setting) -> Contender:
    """One of "dynamic", "static" and "select"."""
    shape = Shape(*setting.size, setting.classes, setting.channels, setting.stages)
    if name == "static":
        return StaticContender(shape, setting)
    space = CellSpace(shape) if name == "dynamic" else SelectSpace(shape)
    return ProgramsContender(space, setting)


class ProgramsContender:
    """A search space with the programs of every supernet: `image_programs`."""

    def __init__(self, space: ImageSpace[Architecture], setting: Setting) -> None:
        self.setting = setting
        self.params, self.images, self.labels = load(setting)
        self.programs = image_programs(space, setting.weight_decay)
        self.compiled: tuple[jax.stages.Compiled, jax.stages.Compiled] | None = None

    def prepare(self, arch: Choices) -> Work:
        """Compiles for the first architecture alone."""
        work = ProgramsWork(self, architecture(arch))
        if self.compiled is None:
            evaluate, work.compile_s[:1] = compiled(self.programs.evaluate, work.evaluate_inputs)
            train, work.compile_s[1:] = compiled(self.programs.train, work.train_inputs)
            self.compiled = evaluate, train
        work.programs = self.compiled
        return work


class ProgramsWork:
    """One architecture in programs for any: an argument of them."""

    programs: tuple[jax.stages.Compiled, jax.stages.Compiled]

    def __init__(self, contender: ProgramsContender, arch: Architecture) -> None:
        setting, zeros = contender.setting, jax.tree.map(jnp.zeros_like, contender.params)
        self.compile_s: list[tuple[float, float]] = []
        self.weights = Weights(jax.tree.map(jnp.array, contender.params), {"momentum": zeros})
        self.evaluate_inputs = (
            contender.params,
            stack_archs([arch], MOST_CANDIDATES),
            np.int32(1),
            contender.images,
            (MEAN, DEVIATION),
        )
        self.rest = (
            stack_archs([arch], MOST_STEPS),
            np.full(MOST_STEPS, setting.learning_rate, np.float32),
            np.int32(1),
            jnp.stack([contender.images] * MOST_STEPS),
            np.stack([contender.labels] * MOST_STEPS),
            (MEAN, DEVIATION),
        )

    @property
    def train_inputs(self) -> tuple[object, ...]:
        """What the program of training takes next."""
        return (self.weights, *self.rest)

    def evaluate(self) -> np.ndarray:
        return np.asarray(self.programs[0](*self.evaluate_inputs)[0])

    def train(self) -> float:
        self.weights, losses = self.programs[1](*self.train_inputs)
        return float(np.asarray(losses)[0])


class StaticContender:
    """A program of its own for every architecture, with the weights that it uses."""

    def __init__(self, shape: Shape, setting: Setting) -> None:
        self.shape, self.setting = shape, setting
        self.params, self.images, self.labels = load(setting)

    def prepare(self, arch: Choices) -> Work:
        """Compiles; what was compiled before is forgotten."""
        jax.clear_caches()  # type: ignore[no-untyped-call]
        return StaticWork(self, architecture(arch))


class StaticWork:
    """One architecture, written out and differentiated by JAX alone."""

    def __init__(self, contender: StaticContender, arch: Architecture) -> None:
        setting = contender.setting
        network = StaticNetwork(contender.shape, arch)
        optimizer = nesterov(setting.weight_decay)

        def evaluate(active: Tensors, images: Array) -> Array:
            return network.logits(
                active, normalised(images, jnp.asarray(MEAN), jnp.asarray(DEVIATION))
            )

        def train(
            active: Tensors, momentum: Tensors, rate: Array, images: Array, labels: Array
        ) -> tuple[Tensors, Tensors, Array]:
            def loss(active: Tensors) -> Array:
                return cross_entropy(evaluate(active, images), labels)

            value, grads = jax.value_and_grad(loss)(active)
            active, slots = optimizer.update(active, {"momentum": momentum}, grads, rate)
            return active, slots["momentum"], value

        self.images, self.labels = contender.images, contender.labels
        self.rate = np.float32(setting.learning_rate)
        self.params = network.active(contender.params)
        self.trained = jax.tree.map(jnp.array, self.params)
        self.momentum = jax.tree.map(jnp.zeros_like, self.params)
        self.compile_s: list[tuple[float, float]] = []
        self.evaluating, self.compile_s[:1] = compiled(
            jax.jit(evaluate), (self.params, self.images)
        )
        self.training, self.compile_s[1:] = compiled(
            jax.jit(train, donate_argnums=(0, 1)), self.train_inputs
        )

    @property
    def train_inputs(self) -> tuple[object, ...]:
        """What the program of training takes next."""
        return (self.trained, self.momentum, self.rate, self.images, self.labels)

    def evaluate(self) -> np.ndarray:
        return np.asarray(self.evaluating(self.params, self.images))

    def train(self) -> float:
        self.trained, self.momentum, loss = self.training(*self.train_inputs)
        return float(loss)


@dataclass(frozen=True, eq=False)
class StaticNetwork:
    """The network of one architecture, which is Python here."""

    shape: Shape
    arch: Architecture

    def active(self, params: Tensors) -> Tensors:
        """The weights it uses, one tensor per operation and per output."""
        taken = {
            name: value
            for name, value in params.items()
            if not name.endswith(("/edges", "/outputs"))
        }
        for stage, kinds in enumerate(map(self.shape.stage_kinds, range(len(self.shape.stages)))):
            channels = self.shape.stage_channels(stage)
            for cell, kind in enumerate(kinds):
                for edge in range(EDGES):
                    operation = self.arch.choices[kind, edge // 2, 2 + edge % 2]
                    if operation < len(KERNEL_SIZES):
                        length = packed_size(KERNEL_SIZES[operation], channels)
                        row = params[f"stage_{stage}/edges"][cell, self.arch.rows[kind, edge]]
                        taken[f"{stage}/{cell}/{edge}"] = row[:length]
                matrices = params[f"stage_{stage}/outputs"][cell, np.array(self._loose(kind))]
                taken[f"{stage}/{cell}/output"] = matrices.reshape(-1, channels)
        return taken

    def logits(self, active: Tensors, images: Array) -> Array:
        """Class scores `[B, classes]`."""

        def cell(stage: int, number: int, kind: int, first: Array, second: Array) -> Array:
            states = [first, second]
            nothing = jnp.zeros(0)  # the weights of an operation that has none
            for node, (*sources, over_x, over_y) in enumerate(self.arch.choices[kind].tolist()):
                x, y = (
                    BRANCHES[operation](
                        states[source], active.get(f"{stage}/{number}/{2 * node + side}", nothing)
                    )
                    for side, (source, operation) in enumerate(
                        zip(sources, (over_x, over_y), strict=True)
                    )
                )
                states.append(x + y)
            ends = jnp.concatenate([states[state] for state in self._loose(kind)], axis=-1)
            return jax.nn.relu(ends) @ active[f"{stage}/{number}/output"]

        return network_logits(self.shape, active, images, cell)

    def _loose(self, kind: int) -> list[int]:
        return [state for state in self.arch.loose[kind].tolist() if state < STATES]


@dataclass(frozen=True)
class SelectSpace(CellSpace):
    """The same space, but that every operation is computed and one result selected."""

    def rows(self, arch: Architecture) -> Rows:
        """As before, but that every edge has weights for both operations, `[E, 2]`."""
        sources = jnp.asarray(arch.choices)[:, :, :2].reshape(2, EDGES)
        before = np.repeat(np.arange(2, STATES), 2).cumsum() - np.repeat(np.arange(2, STATES), 2)
        rows = (before + sources)[:, :, None] * len(KERNEL_SIZES) + np.arange(len(KERNEL_SIZES))
        active = dict(super().rows(arch))
        for stage, cells in enumerate(self.shape.stages):
            kinds = np.array(self.shape.stage_kinds(stage))
            active[f"stage_{stage}/edges"] = (np.arange(cells)[:, None, None], rows[kinds])
        return active

    def logits(self, active: Tensors, arch: Architecture, images: Array) -> Array:
        """Class scores `[B, classes]`."""
        choices, loose = jnp.asarray(arch.choices), jnp.asarray(arch.loose)

        def enter(states: Array, edge: tuple[Array, ...]) -> tuple[Array, None]:
            end, source, operation, weights = edge
            x = lax.dynamic_index_in_dim(states, source, keepdims=False)
            every = [
                branch(x, weights[min(index, len(KERNEL_SIZES) - 1)])
                for index, branch in enumerate(BRANCHES)
            ]
            return states.at[end].add(select(operation, every)), None

        def cell(stage: int, number: int, kind: int, first: Array, second: Array) -> Array:
            edges = (
                jnp.arange(EDGES) // 2 + 2,
                choices[kind, :, :2].reshape(-1),
                choices[kind, :, 2:].reshape(-1),
                active[f"stage_{stage}/edges"][number],
            )
            states = jnp.zeros((STATES, *first.shape), first.dtype).at[0].set(first)
            states, _ = lax.scan(enter, states.at[1].set(second), edges)
            outputs = active[f"stage_{stage}/outputs"][number]
            ends = [
                jax.nn.relu(state) * (loose[kind, index] < STATES)
                for index, state in enumerate(states)
            ]
            return jnp.concatenate(ends, axis=-1) @ outputs.reshape(-1, outputs.shape[-1])

        return network_logits(self.shape, active, images, cell)


def select(index: Array, values: Sequence[Array]) -> Array:
    """`values[index]`, all of which were computed."""
    return functools.reduce(
        lambda chosen, number: jnp.where(index == number, values[number], chosen),
        range(1, len(values)),
        values[0],
    )


def network_logits(shape: Shape, active: Tensors, images: Array, cell: Cell) -> Array:
    """Class scores `[B, classes]` of what `CellSpace` computes, with cells written out."""
    stem = patches3(images) @ active["stem/kernel"]
    before = last = scale_and_shift(stem, active["stem/norm"])
    for stage in range(len(shape.stages)):
        sources = (before, last, last)[: len(shape.stage_inputs(stage))]
        inputs = [
            scale_and_shift(
                project(
                    source,
                    active[f"stage_{stage}/input_{index}/kernel"],
                    shape.stage_height(stage),
                ),
                active[f"stage_{stage}/input_{index}/norm"],
            )
            for index, source in enumerate(sources)
        ]
        first, second, next_first = inputs[0], inputs[1], inputs[-1]
        kinds = shape.stage_kinds(stage)
        for number, kind in enumerate(kinds):
            y = cell(stage, number, kind, first, second)
            y = scale_and_shift(y, active[f"stage_{stage}/norms"][number])
            first, second, next_first = next_first, y, y
        before, last = (first if len(kinds) > 1 else last), second
    pooled = jnp.mean(jax.nn.relu(last), (1, 2))
    return pooled @ active["head/kernel"] + active["head/bias"]


def load(setting: Setting) -> tuple[Tensors, Array, np.ndarray]:
    """Weights, images and labels of the setting."""
    with np.load(setting.weights) as file:
        tensors = dict(file)
    images, labels = jnp.asarray(tensors.pop("images")), tensors.pop("labels")
    return {name: jnp.asarray(value) for name, value in tensors.items()}, images, labels


def architecture(arch: Choices) -> Architecture:
    """The architecture that was sent."""
    return Architecture(**{name: np.array(value, np.int32) for name, value in arch.items()})


def compiled(
    program: Callable[..., object], inputs: Sequence[object]
) -> tuple[jax.stages.Compiled, list[tuple[float, float]]]:
    """A program compiled for such inputs, and the wall and the CPU time that it took."""
    made: list[jax.stages.Compiled] = []
    lower = program.lower  # type: ignore[attr-defined]  # it is a function of `jax.jit`
    took = timed(lambda: made.append(lower(*inputs).compile()))
    return made[0], [took]
