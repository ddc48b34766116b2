"""The devices of a trial: a minibatch is shared out over all of them.

A worker's child sees only the devices assigned to its trial, so all that it sees are used.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rafiki.model import logger

BATCH_AXIS = "batch"


@functools.cache
def device_mesh() -> Mesh:
    """All devices in one row."""
    return Mesh(np.array(jax.devices()), (BATCH_AXIS,))


def replicated() -> NamedSharding:
    """The whole on every device: weights."""
    return NamedSharding(device_mesh(), PartitionSpec())  # type: ignore[no-untyped-call]


def over_batch(size: int, axis: int = 0) -> NamedSharding:
    """Equal parts on all devices of the axis `axis`, which has `size`; else the whole on each."""
    if size % device_mesh().size:
        _say_undivided(size, device_mesh().size)
        return replicated()
    parts = PartitionSpec(*[None] * axis, BATCH_AXIS)  # type: ignore[no-untyped-call]
    return NamedSharding(device_mesh(), parts)


@functools.cache
def _say_undivided(size: int, devices: int) -> None:
    logger.log(
        f"a minibatch of {size} cannot be shared out over {devices} devices: "
        "each computes all of it",
        level="WARNING",
    )


def on_devices(value: np.ndarray | Array) -> Array:
    """A copy of an array on every device."""
    placed: Array = jax.device_put(value, replicated())
    return placed


def compute_dtype() -> np.dtype:
    """What networks compute in: bfloat16 but on CPUs, which have no fast arithmetic for it."""
    return np.dtype(np.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)
