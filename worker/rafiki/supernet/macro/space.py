"""The macro search space: what is shared, what is active, what is computed.

Letters as in `rafiki.supernet.macro`.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rafiki.supernet.banks import Bank, Row, Rows, Tensors
from rafiki.supernet.choice import choose
from rafiki.supernet.layers import patches3
from rafiki.supernet.macro.architecture import MacroArchitecture
from rafiki.supernet.macro.operations import (
    OPERATIONS,
    Normalise,
    by_minibatch,
    fresh_operation,
    packed_size,
    reduction_branches,
)
from rafiki.supernet.macro.shape import MacroShape
from rafiki.supernet.macro.stage import StageChoices, StageWeights, run_stage
from rafiki.supernet.parameters import Initializer
from rafiki.supernet.pointwise import pointwise_convolution


@dataclass(frozen=True)
class MacroSpace:
    """All networks of one shape.

    Tensors of a checkpoint; k counts layers, s stages, j states:
        stem/kernel `[9 depth, C]`, stem/norm `[2, C]`: A 3x3 convolution. A norm is scale and
            offset.
        layer_{k}/{operation}: `packed_size` floats.
        layer_{k}/skip/from_{j}: `[C, C]`.
        stage_{s}/own `[n, C, C]`, stage_{s}/norms `[n, 2, C]`: The join of every layer.
        stage_{s}/from_{j}: What halves a state that enters: a kernel `[C1, C]` and a norm.
        head/kernel, head/bias: From the last channels to classes.
    """

    shape: MacroShape

    def init(self, seed: int) -> dict[str, np.ndarray]:
        """Fresh weights: all banks and what all architectures share."""
        init = Initializer(seed)
        params = self._common(init)
        for name, size in self._bank_sizes():
            params[name] = np.zeros(size, np.float32)
            for row in _banks(self.shape)[name].rows:
                params[name][row.index][: row.length] = self._fresh_row(init, name, row)
        return params

    def init_active(self, arch: MacroArchitecture, seed: int) -> dict[str, np.ndarray]:
        """Fresh weights of one architecture, sized as what `gather_active` takes."""
        init = Initializer(seed)
        params = self._common(init)
        for name, size in self._bank_sizes():
            indices = np.broadcast_arrays(*self.rows(arch)[name])
            params[name] = np.zeros(indices[0].shape + size[len(indices) :], np.float32)
        for name, place, row in self.active_rows(arch):
            params[name][place][: row.length] = self._fresh_row(init, name, row)
        return params

    def active_rows(self, arch: MacroArchitecture) -> Iterator[tuple[str, tuple[int, ...], Row]]:
        """The name of a bank, a place in what `gather_active` takes of it, and the row there."""
        for name, indices in self.rows(arch).items():
            rows = {row.index: row for row in _banks(self.shape)[name].rows}
            stacked = np.stack(np.broadcast_arrays(*indices), axis=-1)
            for place in np.ndindex(stacked.shape[:-1]):
                row = rows.get(tuple(int(index) for index in stacked[place]))
                if row is not None:
                    yield name, place, row

    def banks(self) -> Mapping[str, Bank]:
        """The operations and skips of all layers, and the reductions between stages."""
        return _banks(self.shape)

    def rows(self, arch: MacroArchitecture) -> Rows:
        """The rows of the chosen operations, of the skips taken, of the states still read."""
        rows: dict[str, tuple[np.ndarray | Array, ...]] = {}
        for stage in range(len(self.shape.channels)):
            layers = self.shape.stage_layers(stage)
            number, chosen = np.arange(len(layers)), slice(layers.start, layers.stop)
            most = layers.stop - 1
            sources = arch.sources[chosen, :most].clip(max=most)
            rows[f"stage_{stage}/operations"] = (number, arch.operations[chosen])
            rows[f"stage_{stage}/skips"] = (number[:, None], sources)
            if stage:
                state = np.arange(layers.start + 1)
                kept = _kept(arch, layers)
                rows[f"stage_{stage}/reductions"] = (state * kept + len(state) * (1 - kept),)
        return rows

    def logits(self, active: Tensors, arch: MacroArchitecture, images: Array) -> Array:
        """Class scores `[B, classes]`, normalised by the minibatch."""
        return self.compute(active, arch, images, by_minibatch, self.fresh_moments(images.dtype))[0]

    def compute(
        self,
        active: Tensors,
        arch: MacroArchitecture,
        images: Array,
        normalise: Normalise,
        running: Tensors,
    ) -> tuple[Array, Tensors]:
        """Class scores `[B, classes]`, and the moments that `normalise` returns, as `running`.

        Args:
            active: What `gather_active` takes of `arch`.
            arch: The architecture.
            images: `[B, H, W, depth]`, normalised, in the dtype of `active`.
            normalise: How to normalise.
            running: Running moments, as `fresh_moments`.
        """
        moments: Tensors = {}
        x = pointwise_convolution(patches3(images), active["stem/kernel"])
        x, moments["stem"] = normalise(x, active["stem/norm"], running["stem"])
        states = x[None]
        for stage in range(len(self.shape.channels)):
            layers = self.shape.stage_layers(stage)
            if stage:
                name = f"stage_{stage}/reductions"
                kept = jnp.asarray(_kept(arch, layers), jnp.int32)
                states, moments[name] = _reduce(
                    normalise, kept, states, active[name], running[name]
                )
            chosen, name = slice(layers.start, layers.stop), f"stage_{stage}/layers"
            choices = (arch.operations, arch.sources, arch.counts)
            states, moments[name] = run_stage(
                normalise,
                StageChoices(*(jnp.asarray(of_layers[chosen]) for of_layers in choices)),
                states,
                StageWeights(*(active[f"stage_{stage}/{part}"] for part in StageWeights._fields)),
                running[name],
            )
        pooled = jnp.mean(jax.nn.relu(states[-1]), (1, 2))
        return pooled @ active["head/kernel"] + active["head/bias"], moments

    def fresh_moments(self, dtype: jnp.dtype | type = jnp.float32) -> Tensors:
        """Means 0 and variances 1 of every norm; as precise as `dtype`, float32 at least."""
        channels = self.shape.channels
        sizes: dict[str, tuple[int, ...]] = {"stem": (channels[0],)}
        for stage, width in enumerate(channels):
            layers = self.shape.stage_layers(stage)
            sizes[f"stage_{stage}/layers"] = (len(layers), 3, width)
            if stage:
                sizes[f"stage_{stage}/reductions"] = (layers.start + 1, width)
        wide = jnp.promote_types(dtype, jnp.float32)
        return {
            name: jnp.stack([jnp.zeros(size, wide), jnp.ones(size, wide)], axis=-2)
            for name, size in sizes.items()
        }

    def _common(self, init: Initializer) -> dict[str, np.ndarray]:
        shape = self.shape
        first, last = shape.channels[0], shape.channels[-1]
        params = {
            "stem/kernel": init.normal(9 * shape.depth, 9 * shape.depth, first),
            "stem/norm": init.norm(first),
        }
        for stage, channels in enumerate(shape.channels):
            layers = len(shape.stage_layers(stage))
            params[f"stage_{stage}/own"] = init.normal(channels, layers, channels, channels)
            params[f"stage_{stage}/norms"] = np.stack([init.norm(channels)] * layers)
        params["head/kernel"] = init.normal(2 * last, last, shape.classes)
        params["head/bias"] = np.zeros(shape.classes, np.float32)
        return params

    def _bank_sizes(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        for stage, channels in enumerate(self.shape.channels):
            layers = self.shape.stage_layers(stage)
            size = max(packed_size(operation, channels) for operation in OPERATIONS)
            yield f"stage_{stage}/operations", (len(layers), len(OPERATIONS), size)
            yield f"stage_{stage}/skips", (len(layers), layers.stop - 1, channels, channels)
            if stage:
                size = channels * (self.shape.channels[stage - 1] + 2)
                yield f"stage_{stage}/reductions", (layers.start + 1, size)

    def _fresh_row(self, init: Initializer, name: str, row: Row) -> np.ndarray:
        stage, bank = name.removeprefix("stage_").split("/")
        channels = self.shape.channels[int(stage)]
        if bank == "operations":
            return fresh_operation(init, OPERATIONS[row.index[1]], channels)
        if bank == "skips":
            return init.normal(channels, channels, channels)
        entering = self.shape.channels[int(stage) - 1]
        kernel = init.normal(entering, entering, channels)
        return np.concatenate([kernel.reshape(-1), init.norm(channels).reshape(-1)])


def _kept(arch: MacroArchitecture, layers: range) -> np.ndarray:
    """`[E]` 1 where a state that was made before these layers is read by one of them, else 0."""
    kept: np.ndarray = 1 * (arch.last_readers[: layers.start + 1] >= layers.start)
    return kept


def _reduce(
    normalise: Normalise, kept: Array, states: Array, packed: Array, running: Array
) -> tuple[Array, Array]:
    """Halves the states `[E, B, H, W, C1]` that are kept; the others become zeros."""

    def reduce(_: None, of_state: tuple[Array, ...]) -> tuple[None, tuple[Array, Array]]:
        is_kept, x, weights, moments = of_state
        return None, choose(reduction_branches(normalise), is_kept, x, weights, moments)

    reduced: tuple[Array, Array] = lax.scan(reduce, None, (kept, states, packed, running))[1]
    return reduced


@functools.cache
def _banks(shape: MacroShape) -> dict[str, Bank]:
    banks = {}
    for stage, channels in enumerate(shape.channels):
        layers = list(enumerate(shape.stage_layers(stage)))
        operations = [
            Row(
                index=(place, number),
                path=f"layer_{layer}/{operation}",
                length=packed_size(operation, channels),
            )
            for place, layer in layers
            for number, operation in enumerate(OPERATIONS)
        ]
        skips = [
            Row(index=(place, state), path=f"layer_{layer}/skip/from_{state}", length=channels)
            for place, layer in layers
            for state in range(layer)
        ]
        banks[f"stage_{stage}/operations"] = Bank(rows=tuple(operations))
        banks[f"stage_{stage}/skips"] = Bank(rows=tuple(skips))
        if stage:
            length = channels * (shape.channels[stage - 1] + 2)
            banks[f"stage_{stage}/reductions"] = Bank(
                rows=tuple(
                    Row(index=(state,), path=f"stage_{stage}/from_{state}", length=length)
                    for state in range(layers[0][1] + 1)
                )
            )
    return banks
