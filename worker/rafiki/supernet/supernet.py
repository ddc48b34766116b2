"""A supernet: shared weights that are trained, dumped and loaded.

Letters as in `rafiki.supernet`.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import Array

from rafiki.model import Params
from rafiki.supernet.architecture import ROWS, STATES, Architecture
from rafiki.supernet.inputs import Inputs
from rafiki.supernet.operations import KERNEL_SIZES, packed_size
from rafiki.supernet.parameters import take_tensor
from rafiki.supernet.programs import search_programs
from rafiki.supernet.shape import Shape
from rafiki.supernet.weight_banks import (
    Tensors,
    active_rows,
    bank_paths,
    init_search_params,
    is_bank,
    search_sizes,
    stage_of,
)

MAX_TENSORS = 4000


class Supernet:
    """Shared weights, their momentum, and the number of minibatches that they have seen.

    Tensors of a checkpoint, beside those of `Inputs`; s counts stages, c the cells of a stage,
    i inputs, k and m the states of a cell:
        stem/kernel `[9 depth, C]`, stem/norm `[2, C]`: A 3x3 convolution. A norm is scale and
            offset.
        stage_{s}/input_{i}/kernel, stage_{s}/input_{i}/norm: The projections that enter.
        stage_{s}/cell_{c}/node_{k}/{x or y}/from_{m}/{operation}: `packed_size` floats.
        stage_{s}/cell_{c}/output/from_{k}: `[C, C]`, of loose ends.
        stage_{s}/norms: `[cells, 2, C]` after the outputs.
        head/kernel, head/bias: From the last channels to classes.
        optimizer/steps: int64, the minibatches trained.
        optimizer/momentum/{path}: Of each of the above but input/.
    """

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
            if not is_bank(name):
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
                if not is_bank(name):
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
            self.steps = int(take_tensor(params, "optimizer/steps", ()))
        else:
            self._momentum = {name: jnp.zeros_like(value) for name, value in self._params.items()}
            self.steps = 0

    def _row_size(self, name: str, row: int) -> int:
        """The leading length of a row of a bank: all but the padding."""
        channels = self.shape.stage_channels(stage_of(name))
        if name.endswith("/edges"):
            return packed_size(KERNEL_SIZES[row % len(KERNEL_SIZES)], channels)
        return channels

    def _load_tensors(self, params: Params, prefix: str) -> Tensors:
        tensors = {}
        for name, size in search_sizes(self.shape).items():
            if not is_bank(name):
                tensors[name] = jnp.array(take_tensor(params, prefix + name, size))
                continue
            bank = np.zeros(size, np.float32)
            for cell, paths in enumerate(bank_paths(name, len(bank))):
                for row, path in enumerate(paths):
                    length = self._row_size(name, row)
                    row_size = (length, *size[3:])
                    bank[cell, row, :length] = take_tensor(params, prefix + path, row_size)
            tensors[name] = jnp.array(bank)
        return tensors
