"""The weights of all architectures: their arrays, their paths, and what one architecture uses.

Letters as in `rafiki.supernet`.
"""

import functools
from typing import TypeAlias

import numpy as np
from jax import Array

from rafiki.supernet.architecture import ROW_NAMES, ROWS, STATES, Architecture
from rafiki.supernet.operations import KERNEL_SIZES, packed_size
from rafiki.supernet.parameters import Initializer
from rafiki.supernet.shape import Shape

Tensors: TypeAlias = dict[str, Array]


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


def is_bank(name: str) -> bool:
    """Whether an array `[L, rows, ...]` has rows of which an architecture uses some."""
    return name.endswith(("/edges", "/outputs"))


def stage_of(name: str) -> int:
    """The stage that a bank belongs to."""
    return int(name.split("/")[0].removeprefix("stage_"))


def bank_paths(name: str, cells: int) -> list[list[str]]:
    """Per cell and row of a bank, the path of its tensor in a checkpoint."""
    stage = name.split("/")[0]
    rows = ROW_NAMES if name.endswith("/edges") else [f"output/from_{k}" for k in range(STATES)]
    return [[f"{stage}/cell_{cell}/{row}" for row in rows] for cell in range(cells)]


def active_rows(name: str, arch: Architecture, shape: Shape) -> tuple[np.ndarray | Array, ...]:
    """Where in a bank `[L, rows, ...]` the active rows are; past the end for what has none."""
    kinds = np.array(shape.stage_kinds(stage_of(name)))
    rows = arch.rows if name.endswith("/edges") else arch.loose
    return np.arange(len(kinds))[:, None], rows[kinds]


def gather_active(tensors: Tensors, arch: Architecture, shape: Shape) -> Tensors:
    """What an architecture uses: the active rows of the banks (0 where none), all the rest."""
    return {
        name: tensor.at[active_rows(name, arch, shape)].get(mode="fill", fill_value=0)
        if is_bank(name)
        else tensor
        for name, tensor in tensors.items()
    }


def scatter_active(tensors: Tensors, active: Tensors, arch: Architecture, shape: Shape) -> Tensors:
    """The parameters with the active ones put back; all others keep every bit."""
    return {
        name: tensor.at[active_rows(name, arch, shape)].set(active[name], mode="drop")
        if is_bank(name)
        else active[name]
        for name, tensor in tensors.items()
    }
