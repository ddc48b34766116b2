"""The search space of cells: what is shared, what is active, what is computed.

Letters as in `rafiki.supernet.cells`.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from rafiki.supernet.banks import Bank, Row, Rows, Tensors
from rafiki.supernet.cells.architecture import ROW_NAMES, ROWS, STATES, Architecture
from rafiki.supernet.cells.shape import Shape
from rafiki.supernet.cells.stage import StageCells, search_stage
from rafiki.supernet.layers import patches3, project
from rafiki.supernet.normalization import scale_and_shift
from rafiki.supernet.operations import KERNEL_SIZES, packed_size
from rafiki.supernet.parameters import Initializer
from rafiki.supernet.pointwise import pointwise_convolution


@dataclass(frozen=True)
class CellSpace:
    """All networks of one shape.

    Tensors of a checkpoint; s counts stages, c the cells of a stage, i inputs, k and m the
    states of a cell:
        stem/kernel `[9 depth, C]`, stem/norm `[2, C]`: A 3x3 convolution. A norm is scale and
            offset.
        stage_{s}/input_{i}/kernel, stage_{s}/input_{i}/norm: The projections that enter.
        stage_{s}/cell_{c}/node_{k}/{x or y}/from_{m}/{operation}: `packed_size` floats.
        stage_{s}/cell_{c}/output/from_{k}: `[C, C]`, of loose ends.
        stage_{s}/norms: `[cells, 2, C]` after the outputs.
        head/kernel, head/bias: From the last channels to classes.
    """

    shape: Shape

    def init(self, seed: int) -> dict[str, np.ndarray]:
        """Fresh weights: the banks of all cells and what all architectures share."""
        shape, init = self.shape, Initializer(seed)
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
            params[f"stage_{stage}/outputs"] = init.normal(
                channels, cells, STATES, channels, channels
            )
            params[f"stage_{stage}/norms"] = np.stack([init.norm(channels)] * cells)
        params["head/kernel"] = init.normal(2 * channels, channels, shape.classes)
        params["head/bias"] = np.zeros(shape.classes, np.float32)
        return params

    def banks(self) -> Mapping[str, Bank]:
        """The operations and the outputs of all cells of a stage."""
        return _banks(self.shape)

    def rows(self, arch: Architecture) -> Rows:
        """The rows of the operations that have weights, and of the loose ends."""
        rows: dict[str, tuple[np.ndarray | Array, ...]] = {}
        for stage, cells in enumerate(self.shape.stages):
            kinds = np.array(self.shape.stage_kinds(stage))
            cell = np.arange(cells)[:, None]
            rows[f"stage_{stage}/edges"] = (cell, arch.rows[kinds])
            rows[f"stage_{stage}/outputs"] = (cell, arch.loose[kinds])
        return rows

    def logits(self, active: Tensors, arch: Architecture, images: Array) -> Array:
        """Class scores `[B, classes]`; `active` has `[L, E, P]` of the banks "edges"."""

        shape = self.shape
        choices, loose = jnp.asarray(arch.choices), jnp.asarray(arch.loose)
        stem = pointwise_convolution(patches3(images), active["stem/kernel"])
        before = last = scale_and_shift(stem, active["stem/norm"])
        for stage in range(len(shape.stages)):
            sources = (before, last, last)[: len(shape.stage_inputs(stage))]
            inputs = [
                scale_and_shift(
                    project(source, active[f"{name}/kernel"], shape.stage_height(stage)),
                    active[f"{name}/norm"],
                )
                for source, name in zip(sources, _input_names(stage), strict=False)
            ]
            kinds = np.array(shape.stage_kinds(stage))
            banks = (active[f"stage_{stage}/{name}"] for name in ("edges", "outputs", "norms"))
            outputs = search_stage(StageCells(choices[kinds], loose[kinds], *banks), tuple(inputs))
            before, last = (last, *outputs)[-2:]
        pooled = jnp.mean(jax.nn.relu(last), (1, 2))
        return pooled @ active["head/kernel"] + active["head/bias"]


def _input_names(stage: int) -> list[str]:
    return [f"stage_{stage}/input_{index}" for index in range(3)]


@functools.cache
def _banks(shape: Shape) -> dict[str, Bank]:
    banks = {}
    for stage, cells in enumerate(shape.stages):
        channels = shape.stage_channels(stage)
        sizes = [packed_size(size, channels) for size in KERNEL_SIZES]
        edges = [(name, sizes[row % len(sizes)]) for row, name in enumerate(ROW_NAMES)]
        outputs = [(f"output/from_{state}", channels) for state in range(STATES)]
        for bank, names in (("edges", edges), ("outputs", outputs)):
            banks[f"stage_{stage}/{bank}"] = Bank(
                rows=tuple(
                    Row(index=(cell, row), path=f"stage_{stage}/cell_{cell}/{name}", length=length)
                    for cell in range(cells)
                    for row, (name, length) in enumerate(names)
                )
            )
    return banks
