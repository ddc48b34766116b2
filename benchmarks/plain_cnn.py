"""A plain convolutional network, trained for a given time: what a search has to beat.

Five 3x3 convolutions with batch normalisation (after Simonyan and Zisserman, arXiv 1409.1556),
of three sizes with strides between them, and the mean over what they leave; trained by
Nesterov momentum with half a cosine over the time. Compilation is not part of the time.

    rafiki model test benchmarks/plain_cnn.py

Letters: B images of a minibatch, H rows, W columns, D depth of an image.
"""

import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from typing import ClassVar, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from rafiki.model import (
    BaseModel,
    FixedKnob,
    KnobConfig,
    Params,
    load_images,
    logger,
    query_images,
)

STRIDES = (1, 1, 2, 1, 2)
MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
EVALUATION_BATCH = 250
STEPS_PER_REPORT = 20

# Arrays in the structure of the parameters.
Tree: TypeAlias = object


class Network(nnx.Module):
    """Images `[B, H, W, D]` in [0, 1] to class scores `[B, classes]`."""

    def __init__(self, depth: int, channels: int, classes: int, seed: int) -> None:
        rngs = nnx.Rngs(seed)
        sizes = [depth, channels, channels, 2 * channels, 2 * channels, 4 * channels]
        self.convolutions = nnx.List(
            nnx.Conv(before, after, (3, 3), stride, use_bias=False, rngs=rngs)
            for (before, after), stride in zip(itertools.pairwise(sizes), STRIDES, strict=True)
        )
        self.norms = nnx.List(nnx.BatchNorm(size, momentum=0.9, rngs=rngs) for size in sizes[1:])
        self.classify = nnx.Linear(sizes[-1], classes, rngs=rngs)

    def __call__(self, images: Array, is_training: bool) -> Array:
        x = images
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = nnx.relu(norm(convolution(x), use_running_average=not is_training))
        scores: Array = self.classify(x.mean((1, 2)))
        return scores


@nnx.jit
def train_step(
    network: Network, velocity: Tree, images: Array, labels: Array, rate: Array
) -> tuple[Tree, Array]:
    """Trains on one minibatch, in place; the next velocity and the mean loss."""

    def loss_of(network: Network) -> Array:
        scores = network(images, True)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(scores, labels))

    loss, grads = nnx.value_and_grad(loss_of)(network)
    params = nnx.state(network, nnx.Param)
    grads = jax.tree.map(lambda g, w: g + WEIGHT_DECAY * w, grads, params)
    velocity = jax.tree.map(lambda v, g: MOMENTUM * v + g, velocity, grads)
    steps = jax.tree.map(lambda v, g: rate * (g + MOMENTUM * v), velocity, grads)
    nnx.update(network, jax.tree.map(lambda w, s: w - s, params, steps))
    return velocity, jnp.asarray(loss)


@nnx.jit
def class_scores(network: Network, images: Array) -> Array:
    """`[B, classes]`."""
    return network(images, False)


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """The knobs of `PlainCnn`, with their types."""

    seconds: float
    channels: int
    batch_size: int
    learning_rate: float
    shift: int


class PlainCnn(BaseModel):
    """The network, trained for `seconds` on images moved by up to `shift` pixels."""

    task = "IMAGE_CLASSIFICATION"
    dependencies: ClassVar[Mapping[str, str]] = {p: version(p) for p in ("flax", "jax", "optax")}

    @staticmethod
    def get_knob_config() -> KnobConfig:
        return {
            "seconds": FixedKnob(2.0),
            "channels": FixedKnob(32),
            "batch_size": FixedKnob(64),
            "learning_rate": FixedKnob(0.05),
            "shift": FixedKnob(1),
        }

    def __init__(self, **knobs: object) -> None:
        super().__init__(**knobs)
        self._knobs = Knobs(**knobs)  # type: ignore[arg-type]  # knobs come as objects
        self._network: Network | None = None

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        knobs = self._knobs
        data = load_images(dataset_path)
        self._network = self._new_network(data.images.shape[3], data.class_count)
        network, rng = self._network, np.random.default_rng(self.seed)
        velocity = jax.tree.map(jnp.zeros_like, nnx.state(network, nnx.Param))
        size = min(knobs.batch_size, len(data.labels))
        step, began, order = 0, time.monotonic(), np.zeros(0, np.int64)
        # The first step compiles; the time begins after it.
        while (share := (time.monotonic() - began) / knobs.seconds) < 1 or step < 2:
            if len(order) < size:
                order = rng.permutation(len(data.labels))
            batch, order = order[:size], order[size:]
            images = _pixels(_shifted(data.images[batch], rng, knobs.shift))
            rate = knobs.learning_rate * 0.5 * (1 + np.cos(np.pi * min(share, 1.0)))
            velocity, loss = train_step(
                network, velocity, images, jnp.asarray(data.labels[batch]), jnp.float32(rate)
            )
            step += 1
            if step == 1:
                loss.block_until_ready()
                began = time.monotonic()
            if step % STEPS_PER_REPORT == 0:
                logger.log(step=step, loss=float(loss), epoch=step * size / len(data.labels))
                if logger.progress(min(share, 1.0)):
                    break

    def evaluate(self, dataset_path: str) -> float:
        """Accuracy."""
        data = load_images(dataset_path)
        return float(np.mean(self._scores(data.images).argmax(1) == data.labels))

    def predict(self, queries: list[object]) -> list[object]:
        """Class probabilities per image."""
        return list(np.asarray(nnx.softmax(self._scores(query_images(queries)))).tolist())

    def dump_parameters(self) -> dict[str, np.ndarray]:
        state = nnx.to_flat_state(nnx.state(self._held()))
        return {"/".join(map(str, path)): np.array(variable[...]) for path, variable in state}

    def load_parameters(self, params: Params) -> None:
        network = self._new_network(
            params["convolutions/0/kernel"].shape[2], params["classify/bias"].size
        )
        state = nnx.state(network)
        for path, variable in nnx.to_flat_state(state):
            variable[...] = params["/".join(map(str, path))]
        nnx.update(network, state)
        self._network = network

    def _new_network(self, depth: int, classes: int) -> Network:
        return Network(depth, self._knobs.channels, classes, self.seed)

    def _held(self) -> Network:
        if self._network is None:
            raise ValueError("the model was neither trained nor loaded")
        return self._network

    def _scores(self, images: np.ndarray) -> np.ndarray:
        """`[N, classes]` of uint8 images `[N, H, W, D]`."""
        batches = -(-len(images) // EVALUATION_BATCH)
        order = np.resize(np.arange(len(images)), (batches, EVALUATION_BATCH))
        network = self._held()
        scores = [np.asarray(class_scores(network, _pixels(images[batch]))) for batch in order]
        return np.concatenate(scores)[: len(images)]


def _pixels(images: np.ndarray) -> Array:
    return jnp.asarray(images / np.float32(255))


def _shifted(images: np.ndarray, rng: np.random.Generator, reach: int) -> np.ndarray:
    """The images `[B, H, W, D]`, each moved by up to `reach` pixels; the edge is repeated."""
    margins = ((0, 0), (reach, reach), (reach, reach), (0, 0))
    padded = np.pad(images, margins, mode="edge")
    _, height, width, _ = images.shape
    moved = np.empty_like(images)
    for image, source, (top, left) in zip(
        moved, padded, rng.integers(0, 2 * reach + 1, (len(images), 2)), strict=True
    ):
        image[:] = source[top : top + height, left : left + width]
    return moved
