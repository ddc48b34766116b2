"""A multilayer perceptron for image classification: the template to start from.

Try it without a server:

    rafiki model test worker/rafiki/zoo/feed_forward.py

On scikit-learn's digits, as `rafiki demo` splits them and leaves them in `demo/`,

    rafiki job create --model MODEL --train demo/train.zip --validation demo/validation.zip \
        --test demo/test.zip --advisor RANDOM --trials 6 --seed 1 --watch

took 3 minutes with two workers on a machine with ten times as much other work, most of it to
compile and wait. Five trials trained for 2 to 4 s each; their validation accuracies were from
0.367 to 0.960. The best, trained in full for 36 s, had 0.970, and 0.967 in the test.

Letters: B images of a minibatch, P = height x width x channels of an image.
"""

import itertools
from collections.abc import Mapping
from importlib.metadata import version
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from rafiki.model import (
    BaseModel,
    CategoricalKnob,
    FixedKnob,
    FloatKnob,
    IntegerKnob,
    KnobConfig,
    Params,
    PolicyKnob,
    load_images,
    logger,
    query_images,
)
from rafiki.supernet import Pace, compute_dtype, cross_entropy, on_devices, over_batch

STEPS_PER_REPORT = 10
EVALUATION_BATCH = 256


class Perceptron(nnx.Module):
    """Linear layers with ReLU between them: pixels `[B, P]` to class scores `[B, classes]`."""

    def __init__(self, sizes: list[int], seed: int) -> None:
        rngs, dtype = nnx.Rngs(seed), compute_dtype()
        self.layers = nnx.List(
            nnx.Linear(before, after, dtype=dtype, rngs=rngs)
            for before, after in itertools.pairwise(sizes)
        )

    def __call__(self, pixels: jax.typing.ArrayLike) -> jax.Array:
        x = jnp.asarray(pixels)
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        scores: jax.Array = self.layers[-1](x)
        return scores


@nnx.jit(donate_argnums=(0, 1))
def train_step(
    network: Perceptron,
    optimizer: nnx.Optimizer[Perceptron],
    pixels: jax.Array,
    labels: jax.Array,
    batch: jax.Array,
) -> jax.Array:
    """Trains on the minibatch at the indices `batch` `[B]`, in place; the mean loss."""

    def loss_of(network: Perceptron) -> jax.Array:
        return cross_entropy(network(pixels[batch]), labels[batch])

    loss, grads = nnx.value_and_grad(loss_of)(network)
    optimizer.update(network, grads)
    return jnp.asarray(loss)


@nnx.jit
def class_probabilities(network: Perceptron, pixels: jax.Array) -> jax.Array:
    """`[B, classes]`, each row sums to 1."""
    probabilities: jax.Array = nnx.softmax(network(pixels).astype(jnp.float32))
    return probabilities


def tensors(network: Perceptron) -> dict[str, np.ndarray]:
    """The parameters of a network by path, such as layers/0/kernel."""
    state = nnx.to_flat_state(nnx.state(network, nnx.Param))
    return {"/".join(map(str, path)): np.array(variable[...]) for path, variable in state}


def set_tensors(network: Perceptron, params: Params, skip_misfits: bool = False) -> None:
    """Gives a network parameters by path; those of another size are skipped or an error."""
    state = nnx.state(network, nnx.Param)
    for path, variable in nnx.to_flat_state(state):
        name = "/".join(map(str, path))
        if name in params and params[name].shape == variable.shape:
            variable[...] = params[name]
        elif not skip_misfits:
            raise ValueError(f"there is no {name} of size {variable.shape}; do the knobs differ?")
    nnx.update(network, state)


class FeedForward(BaseModel):
    """A perceptron whose width, depth, learning rate and batch size are tuned."""

    task = "IMAGE_CLASSIFICATION"
    # Of `rafiki`, too: the parts of the supernet come with it.
    dependencies: ClassVar[Mapping[str, str]] = {
        name: version(name) for name in ("flax", "jax", "optax", "rafiki")
    }

    @staticmethod
    def get_knob_config() -> KnobConfig:
        return {
            "epochs": FixedKnob(20),
            "hidden_layers": IntegerKnob(1, 3),
            "hidden_units": IntegerKnob(16, 128, is_exp=True),
            "learning_rate": FloatKnob(1e-4, 1e-1, is_exp=True),
            "batch_size": CategoricalKnob([16, 32, 64, 128]),
            "share_params": PolicyKnob("SHARE_PARAMS"),
            "early_stop": PolicyKnob("EARLY_STOP"),
        }

    def __init__(
        self,
        *,
        epochs: int,
        hidden_layers: int,
        hidden_units: int,
        learning_rate: float,
        batch_size: int,
        share_params: bool,
        early_stop: bool,
    ) -> None:
        super().__init__()
        # With EARLY_STOP a quarter of the epochs must do to tell good knobs from bad ones.
        self._epochs = max(1, epochs // 4) if early_stop else epochs
        self._hidden = [hidden_units] * hidden_layers
        self._learning_rate = learning_rate
        self._batch_size = batch_size
        self._share_params = share_params
        self._network: Perceptron  # once trained or loaded

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        data = load_images(dataset_path)
        pixels, labels = on_devices(_pixels(data.images)), on_devices(data.labels)
        self._network = Perceptron([pixels.shape[1], *self._hidden, data.class_count], self.seed)
        if self._share_params and shared_params is not None:
            # Other knobs may have trained them: what has another size cannot be shared.
            set_tensors(self._network, shared_params, skip_misfits=True)
        optimizer = nnx.Optimizer(self._network, optax.adam(self._learning_rate), wrt=nnx.Param)
        for part in (self._network, optimizer):
            nnx.update(part, jax.tree.map(on_devices, nnx.state(part)))
        logger.define_plot("Training loss", ["loss"], "epoch")
        rng, pace = np.random.default_rng(self.seed), Pace()
        size = min(self._batch_size, len(pixels))
        steps = len(pixels) // size
        for epoch in range(1, self._epochs + 1):
            order = rng.permutation(len(pixels))[: steps * size].reshape(steps, size)
            losses = []
            for step, indices in enumerate(order, start=1):
                batch = jax.device_put(indices, over_batch(size))
                losses.append(train_step(self._network, optimizer, pixels, labels, batch))
                if step % STEPS_PER_REPORT == 0:
                    losses[-1].block_until_ready()  # Progress must not run ahead of training.
                    if logger.progress((epoch - 1 + step / steps) / self._epochs):
                        return
            loss = np.mean([float(loss) for loss in losses])
            logger.log(step=epoch, epoch=epoch, loss=loss, **pace.lap(steps * size))
            if logger.progress(epoch / self._epochs):
                return

    def evaluate(self, dataset_path: str) -> float:
        """Accuracy."""
        data = load_images(dataset_path)
        return float(np.mean(self._probabilities(data.images).argmax(1) == data.labels))

    def predict(self, queries: list[object]) -> list[object]:
        """Class probabilities per image."""
        return list(self._probabilities(query_images(queries)).tolist())

    def dump_parameters(self) -> dict[str, np.ndarray]:
        return tensors(self._network)

    def load_parameters(self, params: Params) -> None:
        # The knobs give the hidden layers; what is before and after them, the tensors tell.
        inputs = params["layers/0/kernel"].shape[0]
        classes = params[f"layers/{len(self._hidden)}/bias"].size
        network = Perceptron([inputs, *self._hidden, classes], seed=0)
        set_tensors(network, params)
        self._network = network

    def _probabilities(self, images: np.ndarray) -> np.ndarray:
        """`[N, classes]` of uint8 images `[N, H, W, C]`."""
        pixels = _pixels(images)
        # Full minibatches only: then there is one size to compile for.
        batches = -(-len(pixels) // EVALUATION_BATCH)
        order = np.resize(np.arange(len(pixels)), (batches, EVALUATION_BATCH))
        shares = (jax.device_put(pixels[batch], over_batch(EVALUATION_BATCH)) for batch in order)
        rows = [np.asarray(class_probabilities(self._network, share)) for share in shares]
        return np.concatenate(rows)[: len(pixels)]


def _pixels(images: np.ndarray) -> np.ndarray:
    """uint8 images `[N, H, W, C]` as float32 rows `[N, P]` in [0, 1]."""
    return images.reshape(len(images), -1) / np.float32(255)
