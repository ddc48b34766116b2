"""What model templates of image spaces do with a supernet or a network, whatever the space.

Letters as in `rafiki.supernet`; A architectures, n images.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import jax
import numpy as np
from jax import Array

from rafiki.model import Params, logger, query_images
from rafiki.supernet.devices import on_devices
from rafiki.supernet.image_data import Data, minibatches, steps_per_epoch
from rafiki.supernet.image_supernet import ImageSupernet
from rafiki.supernet.inputs import Inputs
from rafiki.supernet.pace import Pace
from rafiki.supernet.training import accuracy, restarting_cosine

Arch = TypeVar("Arch", bound=tuple[np.ndarray, ...])

# From uint8 images `[n, H, W, depth]` on the device and indices `[B]` of a minibatch to class
# scores `[A, B, classes]`.
Scoring = Callable[[Array, np.ndarray], np.ndarray]


class SingleNetwork(Protocol):
    """The network of one architecture, with weights and running statistics of its own."""

    inputs: Inputs

    def train(
        self, data: Data, batches: Iterator[np.ndarray], rates: Sequence[float], seed: int
    ) -> Iterator[np.ndarray]:
        """Trains a minibatch per rate; yields loss and share of labels hit `[n, 2]`."""

    def logits(self, images: Array, indices: np.ndarray) -> np.ndarray:
        """Class scores `[B, classes]` of the images at `indices` `[B]`."""


def supernet_to_train(
    make: Callable[[Inputs], ImageSupernet[Arch]],
    data: Data,
    shared_params: Params | None,
    seed: int,
) -> ImageSupernet[Arch]:
    """A supernet with the weights given, or with fresh ones drawn from `seed`.

    Raises:
        ValueError: The weights are for other images.
    """
    inputs = Inputs.of(data) if shared_params is None else Inputs.load(shared_params)
    inputs.check(data.images.shape[1:])
    if data.class_count > inputs.classes:
        raise ValueError(f"{data.class_count} classes, the weights are for {inputs.classes}")
    supernet = make(inputs)
    if shared_params is None:
        supernet.reset(seed)
    else:
        supernet.load(shared_params)
    return supernet


def train_architectures(
    supernet: ImageSupernet[Arch],
    data: Data,
    archs: Sequence[Arch],
    rates: Sequence[float],
    *,
    batch_size: int,
    data_seed: int,
    shard: tuple[int, int] = (0, 1),
) -> dict[str, object]:
    """Trains minibatch k with `archs[k]` and `rates[k]`; what `train_candidates` returns."""
    count, pace = len(data.labels), Pace()
    batches = minibatches(count, batch_size, data_seed, shard)
    losses = supernet.train(data, batches, archs, rates, logger.progress)
    return {
        "steps_per_epoch": steps_per_epoch(count, batch_size),
        "updates": supernet.weights.updates(archs[: len(losses)]),
        "loss": float(np.mean(losses)) if losses else 0.0,
        **pace.lap(len(losses) * batch_size),
    }


def search_rates(
    begin: float, end: float, count: int, *, period: float, rate: float
) -> list[float]:
    """Of `count` minibatches, while `restarting_cosine` goes from epoch `begin` to `end`."""
    epochs = (begin + (end - begin) * step / count for step in range(count))
    return [restarting_cosine(epoch, period, rate) for epoch in epochs]


def train_from_scratch(
    network: SingleNetwork, data: Data, rates: Sequence[float], *, batch_size: int, seed: int
) -> None:
    """Trains a minibatch per rate; reports loss, accuracy and pace of every epoch."""
    logger.define_plot("Loss", ["loss"], "epoch")
    logger.define_plot("Training accuracy", ["accuracy"], "epoch")
    per_epoch = steps_per_epoch(len(data.labels), batch_size)
    batches = minibatches(len(data.labels), batch_size, seed)
    done, reports, pace = 0, np.zeros((0, 2)), Pace()
    for of_call in network.train(data, batches, rates, seed):
        done += len(of_call)
        reports = np.concatenate([reports, of_call])
        while len(reports) >= per_epoch:
            loss, hits = reports[:per_epoch].mean(0)
            reports = reports[per_epoch:]
            epoch = (done - len(reports)) // per_epoch
            speed = pace.lap(per_epoch * batch_size)
            logger.log(step=epoch, epoch=epoch, loss=float(loss), accuracy=float(hits), **speed)
        if logger.progress(done / len(rates)):
            break


def scoring(network: ImageSupernet[Arch] | SingleNetwork, archs: Sequence[Arch]) -> Scoring:
    """The class scores of `archs` by a supernet, or of its only one by a network."""
    if isinstance(network, ImageSupernet):
        return functools.partial(network.logits, archs)
    return lambda images, indices: network.logits(images, indices)[np.newaxis]


def accuracies(
    score: Scoring, data: Data, batch_size: int, quick_seed: int | None = None
) -> list[float]:
    """The share of labels hit by each architecture, on the same images for all of them.

    Args:
        score: Of what is evaluated.
        data: To evaluate on: all of it, or, with `quick_seed`, one minibatch drawn from that.
        batch_size: Of evaluation.
        quick_seed: As above.
    """
    # All of the data is shuffled, too: a supernet normalises by the minibatch, which images in
    # order of their classes would distort.
    order = np.random.default_rng(quick_seed or 0).permutation(len(data.labels))
    if quick_seed is not None:
        order = order[:batch_size]
    logits = _score_all(score, data.images, order, batch_size)
    return [accuracy(of_arch, data.labels[order]) for of_arch in logits]


def probabilities(
    score: Scoring, inputs: Inputs, queries: list[object], batch_size: int
) -> list[object]:
    """Class probabilities per query, by the first architecture.

    Raises:
        ValueError: A query is no image, or of another size than `inputs`.
    """
    images = query_images(queries)
    inputs.check(images.shape[1:])
    logits = _score_all(score, on_devices(images), np.arange(len(images)), batch_size)[0]
    return [[float(p) for p in row] for row in np.asarray(jax.nn.softmax(logits, axis=-1))]


def _score_all(score: Scoring, images: Array, order: np.ndarray, batch_size: int) -> np.ndarray:
    """Class scores `[A, n, classes]` of the images in `order` `[n]`.

    All minibatches have the full size: the last is filled up from the beginning.
    """
    padded = np.resize(order, -(-len(order) // batch_size) * batch_size).astype(np.int32)
    logits = [score(images, indices) for indices in padded.reshape(-1, batch_size)]
    return np.concatenate(logits, axis=1)[:, : len(order)]
