"""The network of one architecture, with weights of its own and running statistics.

The architecture is an argument here as well: one program trains any of them. What it does not
use has no weights in checkpoints, and zeros in arrays.

Letters as in `rafiki.supernet.cells`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rafiki.supernet.banks import Row, Tensors
from rafiki.supernet.cells.architecture import EDGES, Architecture
from rafiki.supernet.cells.auxiliary import PREFIX, auxiliary_logits, init_auxiliary
from rafiki.supernet.cells.fixed_cell import evaluated_cell, running_norm, trained_cell
from rafiki.supernet.cells.recipe import Numbers
from rafiki.supernet.cells.shape import Shape
from rafiki.supernet.cells.space import CellSpace
from rafiki.supernet.layers import patches3, project
from rafiki.supernet.normalization import batch_norm
from rafiki.supernet.pointwise import pointwise_convolution

# The weights of a stage that cells have parts of.
BANKS = ("edges", "outputs", "norms")
# The auxiliary head reads the second cell of the last stage, as in the authors' code.
AUXILIARY_CELL = 1

T = TypeVar("T")
Norm: TypeAlias = Callable[[str, Array], Array]
# From choices and loose ends, two inputs and what is the cell's own to its output and more.
RunCell: TypeAlias = Callable[
    [tuple[Array, Array], Array, Array, tuple[Array, ...]], tuple[Array, T]
]


class Trained(NamedTuple):
    """What a minibatch gives in training.

    Attributes:
        logits: `[B, classes]`.
        auxiliary: Those of the auxiliary head `[B, classes]`, if there is one.
        statistics: Means and variances of the minibatch; their names and sizes are those of
            the running ones.
    """

    logits: Array
    auxiliary: Array | None
    statistics: Tensors


@dataclass(frozen=True, slots=True)
class FixedNetwork:
    """Networks of one shape.

    Weights have the names and sizes of what `CellSpace` has active. With an auxiliary head
    there are those of `init_auxiliary`, too. Statistics, mean and variance, are by the names
    of the norms: "stem/norm" and "stage_{s}/input_{i}/norm" `[2, C]`, "stage_{s}/norms"
    `[L, 2, C]`, and "stage_{s}/edges" `[L, E, 2, 2, C]`.
    """

    shape: Shape
    has_auxiliary: bool = False

    def init(self, arch: Architecture, seed: int) -> dict[str, np.ndarray]:
        """Fresh weights: those that a fresh supernet has for the architecture."""
        space = CellSpace(self.shape)
        weights, rows = space.init(seed), space.rows(arch)
        for name, indices in rows.items():
            bank = weights[name]
            # One row past the end, of zeros, is what an edge without weights has.
            padded = np.concatenate([bank, np.zeros_like(bank[:, :1])], axis=1)
            weights[name] = padded[tuple(np.asarray(index) for index in indices)]
        if self.has_auxiliary:
            weights |= init_auxiliary(self.shape, seed)
        return weights

    def init_statistics(self) -> dict[str, np.ndarray]:
        """Means 0 and variances 1."""
        shape = self.shape
        sizes: dict[str, tuple[int, ...]] = {"stem/norm": (2, 3 * shape.channels)}
        for stage, cells in enumerate(shape.stages):
            channels = shape.stage_channels(stage)
            for name in _input_names(shape, stage):
                sizes[f"{name}/norm"] = (2, channels)
            sizes[f"stage_{stage}/edges"] = (cells, EDGES, 2, 2, channels)
            sizes[f"stage_{stage}/norms"] = (cells, 2, channels)
        pair = np.array([[0.0], [1.0]], np.float32)
        return {name: np.broadcast_to(pair, size).copy() for name, size in sizes.items()}

    def tensors(
        self, arch: Architecture, weights: Tensors, statistics: Tensors
    ) -> dict[str, np.ndarray]:
        """What the architecture uses, by path, without an auxiliary head.

        Paths of weights are those of `CellSpace`. A path with "/statistics" at its end is that
        of the statistics of a norm, which has the weights' size, or of a separable convolution
        `[2, 2, C]`: of both its norms, mean and variance.
        """
        banks = CellSpace(self.shape).banks()
        arrays = {name: np.array(value) for name, value in weights.items()}
        running = {name: np.array(value) for name, value in statistics.items()}
        tensors = {
            name: value
            for name, value in arrays.items()
            if name not in banks and not name.startswith(PREFIX)
        }
        for name, value in running.items():
            if name not in banks:
                tensors[f"{name}/statistics"] = value
        for name, position, row in _active_rows(self.shape, arch):
            tensors[row.path] = arrays[name][position][: row.length]
            if name in running:
                tensors[f"{row.path}/statistics"] = running[name][position]
        return tensors

    def from_tensors(
        self, arch: Architecture, take: Callable[[str, tuple[int, ...]], np.ndarray]
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Weights, without an auxiliary head, and statistics.

        Args:
            arch: The architecture.
            take: Gives the tensor of a path, which must have the size asked for.
        """
        banks = CellSpace(self.shape).banks()
        weights = FixedNetwork(self.shape).init(arch, 0)
        statistics = self.init_statistics()
        for name, value in weights.items():
            if name not in banks:
                value[...] = take(name, value.shape)
        for name, value in statistics.items():
            if name not in banks:
                value[...] = take(f"{name}/statistics", value.shape)
        for name, position, row in _active_rows(self.shape, arch):
            value = weights[name][position][: row.length]
            value[...] = take(row.path, value.shape)
            if name in statistics:
                value = statistics[name][position]
                value[...] = take(f"{row.path}/statistics", value.shape)
        return weights, statistics

    def train_logits(
        self,
        weights: Tensors,
        arch: Architecture,
        images: Array,
        masks: Numbers | None = None,
        dropout: Numbers | None = None,
    ) -> Trained:
        """The logits of a minibatch, normalised by its own statistics.

        Args:
            weights: In the dtype to compute in.
            arch: The architecture.
            images: `[B, H, W, depth]`, normalised, in the same dtype.
            masks: `[cells, E, B]`, what the results of all edges are multiplied by; or None.
            dropout: `[B, C]`, the same of the features that are classified; or None.
        """
        found: Tensors = {}

        def norm(name: str, x: Array) -> Array:
            y, mean, variance = batch_norm(x, *weights[name])
            found[name] = jnp.stack([mean, variance])
            return y

        def run_cell(
            kind: tuple[Array, Array], first: Array, second: Array, own: tuple[Array, ...]
        ) -> tuple[Array, tuple[Array, Array, Array | None]]:
            edges, outputs, scales, *of_masks = own
            total, of_edges = trained_cell(
                *kind, first, second, edges, outputs, of_masks[0] if of_masks else None
            )
            y, mean, variance = batch_norm(total, *scales)
            return y, (of_edges, jnp.stack([mean, variance]), y if self.has_auxiliary else None)

        cells = []
        for stage, count in enumerate(self.shape.stages):
            cells.append(tuple(weights[f"stage_{stage}/{name}"] for name in BANKS))
            if masks is not None:
                before = sum(self.shape.stages[:stage])
                cells[stage] += (jnp.asarray(masks[before : before + count], images.dtype),)
        last, rest = self._run(weights, arch, images, norm, run_cell, cells)
        for stage, (of_edges, of_norms, _) in enumerate(rest):
            found |= {f"stage_{stage}/edges": of_edges, f"stage_{stage}/norms": of_norms}
        features = _features(last)
        if dropout is not None:
            features *= dropout.astype(features.dtype)
        auxiliary = None
        if (outputs := rest[-1][2]) is not None:
            auxiliary = auxiliary_logits(weights, outputs[AUXILIARY_CELL])
        return Trained(_classified(weights, features), auxiliary, found)

    def logits(
        self, weights: Tensors, statistics: Tensors, arch: Architecture, images: Array
    ) -> Array:
        """The logits of images `[B, H, W, depth]`, normalised by running statistics."""

        def norm(name: str, x: Array) -> Array:
            return running_norm(x, weights[name], statistics[name])

        def run_cell(
            kind: tuple[Array, Array], first: Array, second: Array, own: tuple[Array, ...]
        ) -> tuple[Array, None]:
            edges, outputs, scales, of_edges, of_norm = own
            total = evaluated_cell(*kind, first, second, edges, outputs, of_edges)
            return running_norm(total, scales, of_norm), None

        cells = [
            (
                *(weights[f"stage_{stage}/{name}"] for name in BANKS),
                *(statistics[f"stage_{stage}/{name}"] for name in ("edges", "norms")),
            )
            for stage in range(len(self.shape.stages))
        ]
        last, _ = self._run(weights, arch, images, norm, run_cell, cells)
        return _classified(weights, _features(last))

    def _run(
        self,
        weights: Tensors,
        arch: Architecture,
        images: Array,
        norm: Norm,
        run_cell: RunCell[T],
        cells: Sequence[tuple[Array, ...]],
    ) -> tuple[Array, list[T]]:
        """The output of the last cell; per stage, what `run_cell` returns beside outputs.

        `norm` makes the batch norm of a name outside of cells; `cells` has per stage what
        `run_cell` takes, stacked.
        """
        choices, loose = jnp.asarray(arch.choices), jnp.asarray(arch.loose)

        def enter_cell(
            carry: tuple[Array, Array, Array], cell: tuple[Array, tuple[Array, ...]]
        ) -> tuple[tuple[Array, Array, Array], T]:
            first, second, next_first = carry
            kind, own = cell
            y, beside = run_cell((choices[kind], loose[kind]), first, second, own)
            return (next_first, y, y), beside

        shape, rest = self.shape, []
        stem = pointwise_convolution(patches3(images), weights["stem/kernel"])
        before = last = norm("stem/norm", stem)
        for stage, count in enumerate(shape.stages):
            names = _input_names(shape, stage)
            sources = (before, last, last)[: len(names)]
            height = shape.stage_height(stage)
            inputs = [
                norm(f"{name}/norm", project(source, weights[f"{name}/kernel"], height))
                for source, name in zip(sources, names, strict=True)
            ]
            carry, beside = lax.scan(
                enter_cell,
                (inputs[0], inputs[1], inputs[-1]),
                (jnp.array(shape.stage_kinds(stage)), cells[stage]),
            )
            before, last = (carry[0] if count > 1 else last), carry[1]
            rest.append(beside)
        return last, rest


def _features(last: Array) -> Array:
    return jnp.mean(jax.nn.relu(last), (1, 2))


def _classified(weights: Tensors, features: Array) -> Array:
    return features @ weights["head/kernel"] + weights["head/bias"]


def _input_names(shape: Shape, stage: int) -> list[str]:
    """The names of the projections that enter a stage."""
    return [f"stage_{stage}/input_{index}" for index in range(len(shape.stage_inputs(stage)))]


def _active_rows(shape: Shape, arch: Architecture) -> Iterator[tuple[str, tuple[int, ...], Row]]:
    """Name of the bank, position among the active rows, and row of all that `arch` uses."""
    space = CellSpace(shape)
    rows = space.rows(arch)
    for name, bank in space.banks().items():
        by_index = {row.index: row for row in bank.rows}
        indices = np.broadcast_arrays(*(np.asarray(index) for index in rows[name]))
        for position in np.ndindex(indices[0].shape):
            row = by_index.get(tuple(int(index[position]) for index in indices))
            if row is not None:
                yield name, position, row
