"""The network of one architecture, with weights of its own.

Letters as in `rafiki.supernet`.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import Array, lax

from rafiki.supernet.architecture import STATES, Architecture
from rafiki.supernet.depthwise import depthwise_convolution
from rafiki.supernet.layers import patches3, project
from rafiki.supernet.normalization import NORM_EPSILON, batch_norm
from rafiki.supernet.operations import KERNEL_SIZES, UNWEIGHTED
from rafiki.supernet.parameters import Initializer
from rafiki.supernet.shape import Shape


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
        x = depthwise_convolution(jax.nn.relu(x), self.kernel[...])
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
