"""The operations of a layer, and the reduction between stages.

Each comes with its batch norms: by the statistics of the minibatch or by running ones, and in
any case it returns those it normalised by, or would have. Letters as in `rafiki.supernet.macro`;
`norm` `[2, C]` is scale and offset, `moments` `[2, C]` mean and variance.
"""

import functools
from collections.abc import Callable
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rafiki.supernet.depthwise import depthwise_convolution
from rafiki.supernet.layers import project
from rafiki.supernet.macro.convolution import convolution
from rafiki.supernet.normalization import NORM_EPSILON, batch_norm
from rafiki.supernet.operations import average_pool, max_pool
from rafiki.supernet.parameters import Initializer
from rafiki.supernet.pointwise import pointwise_convolution

OPERATIONS = ("conv3", "sepconv3", "conv5", "sepconv5", "avgpool3", "maxpool3")

# From x, norm and running moments to the normalised x and moments.
Normalise: TypeAlias = Callable[[Array, Array, Array], tuple[Array, Array]]
# From x, packed weights and running moments `[2, 2, C]` to the output and moments.
Branch: TypeAlias = Callable[[Array, Array, Array], tuple[Array, Array]]


def by_minibatch(x: Array, norm: Array, running: Array) -> tuple[Array, Array]:
    """Normalises by the minibatch; `running` does not matter."""
    y, mean, variance = batch_norm(x, norm[0], norm[1])
    return y, jnp.stack([mean, variance])


def by_running(x: Array, norm: Array, running: Array) -> tuple[Array, Array]:
    """Normalises by `running`."""
    factor = norm[0] * lax.rsqrt(running[1] + NORM_EPSILON)
    return (x * factor + (norm[1] - running[0] * factor)).astype(x.dtype), running


def packed_size(operation: str, channels: int) -> int:
    """Floats of a packed operation.

    A 1x1 kernel `[C, C]` and its norm; then those of the operation with its norm, if it has
    weights: a kernel `[k, k, C, C]`, or a depthwise `[k, k, C]` and a pointwise one `[C, C]`.
    """
    entering = channels * channels + 2 * channels
    if operation.endswith("pool3"):
        return entering
    size = int(operation[-1]) ** 2
    if operation.startswith("sepconv"):
        return entering + size * channels + channels * channels + 2 * channels
    return entering + size * channels * channels + 2 * channels


def fresh_operation(init: Initializer, operation: str, channels: int) -> np.ndarray:
    """A packed operation with fresh weights."""
    parts = [init.normal(channels, channels, channels), init.norm(channels)]
    if not operation.endswith("pool3"):
        size = int(operation[-1]) ** 2
        if operation.startswith("sepconv"):
            parts += [init.normal(size, size, channels), init.normal(channels, channels, channels)]
        else:
            parts.append(init.normal(size * channels, size, channels, channels))
        parts.append(init.norm(channels))
    return np.concatenate([part.reshape(-1) for part in parts])


def _enter(normalise: Normalise, x: Array, packed: Array, running: Array) -> tuple[Array, Array]:
    """ReLU, 1x1 convolution, batch norm, ReLU."""
    channels = x.shape[-1]
    kernel = packed[: channels * channels].reshape(channels, channels)
    norm = packed[channels * channels :][: 2 * channels].reshape(2, channels)
    y, moments = normalise(pointwise_convolution(jax.nn.relu(x), kernel), norm, running)
    return jax.nn.relu(y), moments


def _convolution(normalise: Normalise, size: int, is_separable: bool) -> Branch:
    def branch(x: Array, packed: Array, running: Array) -> tuple[Array, Array]:
        channels = x.shape[-1]
        y, first = _enter(normalise, x, packed, running[0])
        rest = packed[packed_size("avgpool3", channels) :]
        if is_separable:
            count = size * size * channels
            y = depthwise_convolution(y, rest[:count].reshape(size, size, channels))
            rest = rest[count:]
            kernel = rest[: channels * channels].reshape(channels, channels)
            y, rest = pointwise_convolution(y, kernel), rest[channels * channels :]
        else:
            count = size * size * channels * channels
            kernel = rest[:count].reshape(size, size, channels, channels)
            y, rest = convolution(y, kernel), rest[count:]
        y, second = normalise(y, rest[: 2 * channels].reshape(2, channels), running[1])
        return y, jnp.stack([first, second])

    return branch


def _pool(normalise: Normalise, pool: Callable[[Array], Array]) -> Branch:
    def branch(x: Array, packed: Array, running: Array) -> tuple[Array, Array]:
        y, first = _enter(normalise, x, packed, running[0])
        # The second norm, which pools lack, keeps what it has.
        return pool(y), jnp.stack([first, running[1]])

    return branch


@functools.cache
def operation_branches(normalise: Normalise) -> tuple[Branch, ...]:
    """The operations, in the order of OPERATIONS; the same objects in every call."""
    return (
        _convolution(normalise, 3, is_separable=False),
        _convolution(normalise, 3, is_separable=True),
        _convolution(normalise, 5, is_separable=False),
        _convolution(normalise, 5, is_separable=True),
        _pool(normalise, average_pool),
        _pool(normalise, max_pool),
    )


@functools.cache
def reduction_branches(normalise: Normalise) -> tuple[Branch, Branch]:
    """What becomes of a state between stages: nothing, or half the size.

    From x `[B, H, W, C1]`, a packed kernel `[C1, C]` with its norm, and running moments `[2, C]`.
    """

    def drop(x: Array, packed: Array, running: Array) -> tuple[Array, Array]:
        batch, height, width, _ = x.shape
        size = (batch, -(-height // 2), -(-width // 2), running.shape[-1])
        return jnp.zeros(size, x.dtype), running

    def reduce(x: Array, packed: Array, running: Array) -> tuple[Array, Array]:
        entering, channels = x.shape[-1], running.shape[-1]
        kernel = packed[: entering * channels].reshape(entering, channels)
        norm = packed[entering * channels :].reshape(2, channels)
        return normalise(project(x, kernel, -(-x.shape[1] // 2)), norm, running)

    return drop, reduce
