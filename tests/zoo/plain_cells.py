"""The network of one architecture again, in plain Flax, from the tensors of a checkpoint.

Nothing of it is shared with `rafiki.supernet` but the paths and the order of packed weights.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

CELL_LENGTH = 20  # values of a cell: five nodes of two states and two operations
Tensors = Mapping[str, jax.Array]


@dataclass
class PlainNetwork:
    """Tensors by path, and whether statistics are of the minibatch and renew running ones.

    Attributes:
        tensors: Weights and, under "{path}/statistics", running statistics.
        cells: The values of the normal and of the reduction cell.
        stages: The number of cells of every stage.
        training: As above.
        masks: `[cells, 10, B]` factors of the results of edges.
        dropout: `[B, C]` factors of what is classified.
        renewed: The running statistics after the minibatch, by path.
    """

    tensors: Tensors
    cells: tuple[Sequence[object], Sequence[object]]
    stages: tuple[int, ...]
    training: bool
    masks: np.ndarray | None = None
    dropout: np.ndarray | None = None
    renewed: dict[str, jax.Array] = field(default_factory=dict)

    def logits(self, images: jax.Array) -> jax.Array:
        x = self.norm("stem/norm", self.conv(images, self.square(3, "stem/kernel")))
        outputs, number = [x, x], 0
        for stage, count in enumerate(self.stages):
            for cell in range(count):
                first, second = outputs[-2:]
                if cell == 0:
                    first = self.enter(f"stage_{stage}/input_0", first, stage > 0)
                    second = self.enter(f"stage_{stage}/input_1", second, stage > 0)
                if cell == 1:
                    first = self.enter(f"stage_{stage}/input_2", first, stage > 0)
                values = self.cells[stage > 0 and cell == 0]
                path = f"stage_{stage}/cell_{cell}"
                y = self.cell(path, number, values, [first, second])
                y = self.norm(f"stage_{stage}/norms", y, row=cell)
                outputs, number = [*outputs, y], number + 1
        features = jax.nn.relu(outputs[-1]).mean((1, 2))
        if self.dropout is not None:
            features = features * self.dropout
        return features @ self.tensors["head/kernel"] + self.tensors["head/bias"]

    def cell(
        self, path: str, number: int, values: Sequence[object], states: list[jax.Array]
    ) -> jax.Array:
        read = set()
        for node in range(CELL_LENGTH // 4):
            x, y, over_x, over_y = values[4 * node : 4 * node + 4]
            total = jnp.zeros_like(states[0])
            for side, source, operation in ((0, x, over_x), (1, y, over_y)):
                read.add(source)
                edge = f"{path}/node_{node + 2}/{'xy'[side]}/from_{source}/{operation}"
                of_edge = self.operation(edge, str(operation), states[int(str(source))])
                if self.masks is not None and operation != "identity":
                    of_edge *= self.masks[number, 2 * node + side][:, None, None, None]
                total += of_edge
            states = [*states, total]
        loose = [state for state in range(len(states)) if state not in read]
        ends = jnp.concatenate([states[state] for state in loose], axis=-1)
        kernel = jnp.concatenate([self.tensors[f"{path}/output/from_{state}"] for state in loose])
        return self.conv(jax.nn.relu(ends), kernel[None, None])

    def operation(self, path: str, name: str, x: jax.Array) -> jax.Array:
        if name == "identity":
            return x
        # Flax leaves its pooling without types.
        if name == "maxpool3":
            return jnp.asarray(nnx.max_pool(x, (3, 3), padding="SAME"))  # type: ignore[no-untyped-call]
        if name == "avgpool3":
            pooled = nnx.avg_pool(x, (3, 3), padding="SAME", count_include_pad=False)  # type: ignore[no-untyped-call]
            return jnp.asarray(pooled)
        size, channels = int(name[-1]), x.shape[-1]
        parts = [size * size * channels, channels * channels, channels, channels] * 2
        packed = jnp.split(self.tensors[path], np.cumsum(parts)[:-1])
        for half in range(2):
            depthwise, pointwise, scale, offset = packed[4 * half : 4 * half + 4]
            x = self.conv(jax.nn.relu(x), depthwise.reshape(size, size, 1, channels), channels)
            x = self.conv(x, pointwise.reshape(1, 1, channels, channels))
            x = self.normed(path, jnp.stack([scale, offset]), x, row=half)
        return x

    def enter(self, path: str, x: jax.Array, halve: bool) -> jax.Array:
        x, kernel = jax.nn.relu(x), self.tensors[f"{path}/kernel"][None, None]
        if halve and x.shape[1] != self.side_of(path):
            even, odd = jnp.split(kernel, 2, axis=-1)
            moved = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1:, 1:]
            ends = [self.conv(x, even, stride=2), self.conv(moved, odd, stride=2)]
            x = jnp.concatenate(ends, axis=-1)
        else:
            x = self.conv(x, kernel)
        return self.norm(f"{path}/norm", x)

    def side_of(self, path: str) -> int:
        return 8 >> int(path.removeprefix("stage_")[0])

    def square(self, size: int, path: str) -> jax.Array:
        kernel = self.tensors[path]
        return kernel.reshape(size, size, -1, kernel.shape[-1])

    def conv(self, x: jax.Array, kernel: jax.Array, groups: int = 1, stride: int = 1) -> jax.Array:
        height, width, _, leaving = kernel.shape
        layer = nnx.Conv(
            x.shape[-1],
            leaving,
            (height, width),
            strides=stride,
            use_bias=False,
            feature_group_count=groups,
            padding="SAME" if stride == 1 else "VALID",
            rngs=nnx.Rngs(0),
        )
        layer.kernel = nnx.Param(kernel)
        return jnp.asarray(layer(x))

    def norm(self, path: str, x: jax.Array, row: int | None = None) -> jax.Array:
        norm = self.tensors[path]
        return self.normed(path, norm if row is None else norm[row], x, row)

    def normed(self, path: str, norm: jax.Array, x: jax.Array, row: int | None = None) -> jax.Array:
        path = f"{path}/statistics"
        before = self.tensors[path]
        running = before if row is None else before[row]
        layer = nnx.BatchNorm(
            x.shape[-1],
            use_running_average=not self.training,
            momentum=0.9,
            epsilon=1e-5,
            use_fast_variance=False,
            rngs=nnx.Rngs(0),
        )
        layer.scale, layer.bias = nnx.Param(norm[0]), nnx.Param(norm[1])
        layer.mean, layer.var = nnx.BatchStat(running[0]), nnx.BatchStat(running[1])
        y: jax.Array = layer(x)
        after = jnp.stack([layer.mean[...], layer.var[...]])
        renewed = self.renewed.get(path, before)
        self.renewed[path] = after if row is None else renewed.at[row].set(after)
        return y
