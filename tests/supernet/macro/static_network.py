"""A network of the macro space for one architecture, written out plainly from its weights."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from rafiki.model.knobs import arch_values
from rafiki.supernet import Initializer, Inputs
from rafiki.supernet.macro import MacroArchitecture, MacroShape, MacroSpace, network_knob

LAYERS, CHANNELS, CLASSES, BATCH = 6, 4, 10, 8
KNOB = network_knob(LAYERS)
RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((BATCH, 16, 16, 2)).astype(np.float32)
LABELS = RNG.integers(CLASSES, size=BATCH).astype(np.int32)
# Three stages of two layers; the channels grow, so that no size fits by chance.
INPUTS = Inputs((16, 16, 2), CLASSES, np.zeros(2, np.float32), np.ones(2, np.float32))
SPACE = MacroSpace(MacroShape.of(INPUTS, LAYERS, CHANNELS, 2))

Tensors = dict[str, Array]


def random_values(seed: int) -> list[object]:
    """The values of the arch knob, drawn at random."""
    rng = np.random.default_rng(seed)
    return list(arch_values(KNOB, [int(rng.integers(len(item))) for item in KNOB.items]))


def random_arch(seed: int) -> MacroArchitecture:
    """The same as an architecture."""
    return MacroArchitecture.of(random_values(seed))


def random_active(arch: MacroArchitecture, seed: int) -> dict[str, np.ndarray]:
    """Fresh weights of an architecture, with scales and offsets that are not 1 and 0."""
    noise = Initializer(seed + 1)
    active = SPACE.init_active(arch, seed)
    for name, place, row in SPACE.active_rows(arch):
        part = active[name][place][: row.length]
        part += np.float32(0.1) * noise.normal(2, *part.shape)
    for name in active.keys() - SPACE.banks().keys():
        active[name] = active[name] + np.float32(0.1) * noise.normal(2, *active[name].shape)
    return active


def by_path(active: Mapping[str, np.ndarray | Array], arch: MacroArchitecture) -> Tensors:
    """What an architecture uses, as checkpoints name it."""
    tensors = {
        row.path: jnp.asarray(active[name][place][: row.length])
        for name, place, row in SPACE.active_rows(arch)
    }
    common = active.keys() - SPACE.banks().keys()
    return tensors | {name: jnp.asarray(active[name]) for name in common}


def static_logits(tensors: Tensors, values: list[object], images: Array) -> Array:
    """Class scores from the tensors of a checkpoint, normalised by the minibatch."""
    stem = tensors["stem/kernel"].reshape(3, 3, images.shape[-1], -1)
    states = [_norm(_convolve(images, stem), tensors["stem/norm"])]
    start = 0
    for layer in range(LAYERS):
        stage, place = divmod(layer, 2)
        if place == 0 and stage:
            for state in range(len(states)):
                packed = tensors.get(f"stage_{stage}/from_{state}")
                if packed is not None:
                    states[state] = _halve(states[state], packed)
        operation, *bits = values[start : start + layer + 1]
        start += layer + 1
        y = _operation(str(operation), states[-1], tensors[f"layer_{layer}/{operation}"])
        sources = [state for state, bit in enumerate(bits) if bit]
        ends = jnp.concatenate([y, *(states[state] for state in sources)], axis=-1)
        kernel = jnp.concatenate(
            [
                tensors[f"stage_{stage}/own"][place],
                *(tensors[f"layer_{layer}/skip/from_{state}"] for state in sources),
            ]
        )
        joined = jax.nn.relu(ends) @ kernel
        states.append(_norm(joined, tensors[f"stage_{stage}/norms"][place]))
    pooled = jax.nn.relu(states[-1]).mean((1, 2))
    return pooled @ tensors["head/kernel"] + tensors["head/bias"]


def _norm(x: Array, norm: Array) -> Array:
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    return (x - mean) / jnp.sqrt(variance + 1e-5) * norm[0] + norm[1]


def _convolve(x: Array, kernel: Array, groups: int = 1) -> Array:
    numbers = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=numbers, feature_group_count=groups
    )


def _halve(x: Array, packed: Array) -> Array:
    entering = x.shape[-1]
    channels = packed.size // (entering + 2)
    even, odd = jnp.split(packed[: entering * channels].reshape(entering, channels), 2, axis=1)
    x = jax.nn.relu(x)
    y = jnp.concatenate([x[:, ::2, ::2] @ even, x[:, 1::2, 1::2] @ odd], axis=-1)
    return _norm(y, packed[entering * channels :].reshape(2, channels))


def _operation(name: str, x: Array, packed: Array) -> Array:
    c = x.shape[-1]
    x = _norm(
        jax.nn.relu(x) @ packed[: c * c].reshape(c, c), packed[c * c :][: 2 * c].reshape(2, c)
    )
    x, packed = jax.nn.relu(x), packed[c * c + 2 * c :]
    window = ((1, 3, 3, 1), (1, 1, 1, 1), "SAME")
    if name == "maxpool3":
        y: Array = lax.reduce_window(x, -jnp.inf, lax.max, *window)
        return y
    if name == "avgpool3":
        total = lax.reduce_window(x, 0.0, lax.add, *window)
        mean: Array = total / lax.reduce_window(jnp.ones_like(x), 0.0, lax.add, *window)
        return mean
    size = int(name[-1])
    norm, kernel = packed[-2 * c :].reshape(2, c), packed[: -2 * c]
    if name.startswith("conv"):
        return _norm(_convolve(x, kernel.reshape(size, size, c, c)), norm)
    depthwise = kernel[: size * size * c].reshape(size, size, 1, c)
    pointwise = kernel[size * size * c :].reshape(c, c)
    return _norm(_convolve(x, depthwise, groups=c) @ pointwise, norm)
