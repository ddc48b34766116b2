"""ENAS for image classification: the cell search space with one shared-weight supernet.

"Efficient Neural Architecture Search via Parameter Sharing" (arXiv 1802.03268), section 2.4
and the authors' micro search code. The parts are in `rafiki.supernet`, which every worker has.

Try it without a server (about a minute):

    rafiki model test worker/rafiki/zoo/enas_cnn.py

On scikit-learn's digits (1,197 training images of 8x8), with two workers on a core each,
`make demo` compiles, searches for 15 rounds and trains two networks from scratch in 2 to 4
minutes. With `rafiki demo --seed` 1, 2 and 3 the network found had a test accuracy of 0.983,
0.987 and 0.987. Its settings were chosen with these images at hand, those of the test part
among them, so that such figures are a little optimistic.

Letters as in `rafiki.supernet`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from rafiki.model import (
    BaseModel,
    Candidate,
    FixedKnob,
    KnobConfig,
    KnobValue,
    Params,
    PolicyKnob,
    logger,
    query_images,
)
from rafiki.supernet import (
    OPERATIONS,
    Architecture,
    Data,
    FinalNetwork,
    Inputs,
    Shape,
    Supernet,
    accuracy,
    augment,
    cell_knob,
    cosine,
    final_programs,
    forget_data,
    load_data,
    minibatches,
    restarting_cosine,
    search_programs,
    steps_per_epoch,
)

STEPS_PER_REPORT = 4  # of progress


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """The knobs of `EnasCnn`, with their types."""

    normal_cell: Sequence[object]
    reduction_cell: Sequence[object]
    cells: int
    downscaled_cells: int
    channels: int
    batch_size: int
    evaluation_batch_size: int
    epochs: int
    early_stop_epochs: int
    learning_rate: float
    search_learning_rate: float
    restart_epochs: int
    weight_decay: float
    search_weight_decay: float
    shift: int
    flip: bool
    share_params: bool
    early_stop: bool
    skip_train: bool
    quick_eval: bool
    downscale: bool


class EnasCnn(BaseModel):
    """A convolutional network of normal and reduction cells, for images of 8x8 and more.

    With SHARE_PARAMS it is a supernet that holds the weights of all architectures, without
    it the network of one architecture, trained from scratch. What a supernet scores ranks
    architectures; it is far below what the same architecture reaches once it was trained.

    Knobs:
        normal_cell, reduction_cell: The architecture. Node by node, two earlier states (0 and
            1 are the inputs of the cell) and two operations.
        cells, downscaled_cells: Normal cells per stage, without and with DOWNSCALE. A
            reduction cell comes between two stages.
        channels: Of the first stage; each further one has twice as many.
        batch_size: Of training.
        evaluation_batch_size: Of evaluation: what QUICK_EVAL scores on.
        epochs, early_stop_epochs: Passes over the training data of a training from scratch,
            without and with EARLY_STOP. One round is always one pass.
        learning_rate: At the start of a training from scratch; falls to a hundredth in half
            a cosine.
        search_learning_rate, restart_epochs: The same of a supernet, which restarts after so
            many rounds, then after twice as many, and so on.
        weight_decay, search_weight_decay: Times a parameter is added to its gradient.
        shift: A training from scratch moves images by up to so many pixels.
        flip: Whether it mirrors half of them.
        share_params, early_stop, skip_train, quick_eval, downscale: The policies.

    Parameters: those of `Supernet` or of `FinalNetwork`.
    """

    task = "IMAGE_CLASSIFICATION"
    # Of `rafiki`, too: the parts of the supernet come with it.
    dependencies: ClassVar[Mapping[str, str]] = {
        name: version(name) for name in ("flax", "jax", "optax", "rafiki")
    }

    @staticmethod
    def get_knob_config() -> KnobConfig:
        operations = [KnobValue(name) for name in OPERATIONS]
        return {
            "normal_cell": cell_knob(operations),
            "reduction_cell": cell_knob(operations),
            "cells": FixedKnob(2),
            "downscaled_cells": FixedKnob(1),
            "channels": FixedKnob(16),
            "batch_size": FixedKnob(32),
            "evaluation_batch_size": FixedKnob(64),
            "epochs": FixedKnob(30),
            "early_stop_epochs": FixedKnob(5),
            "learning_rate": FixedKnob(0.1),
            "search_learning_rate": FixedKnob(0.2),
            "restart_epochs": FixedKnob(10),
            "weight_decay": FixedKnob(1e-3),
            "search_weight_decay": FixedKnob(1e-4),
            "shift": FixedKnob(1),
            "flip": FixedKnob(False),
            "share_params": PolicyKnob("SHARE_PARAMS"),
            "early_stop": PolicyKnob("EARLY_STOP"),
            "skip_train": PolicyKnob("SKIP_TRAIN"),
            "quick_eval": PolicyKnob("QUICK_EVAL"),
            "downscale": PolicyKnob("DOWNSCALE"),
        }

    def __init__(self, **knobs: object) -> None:
        super().__init__(**knobs)
        # Knobs come as objects; `Knobs` names every one of them, so a wrong name fails here.
        self._knobs = Knobs(**knobs)  # type: ignore[arg-type]
        self._arch_values = (tuple(self._knobs.normal_cell), tuple(self._knobs.reduction_cell))
        self._arch = Architecture.of(*self._arch_values)
        self._network: Supernet | FinalNetwork | None = None

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        knobs = self._knobs
        data = load_data(dataset_path)
        epochs = knobs.early_stop_epochs if knobs.early_stop else knobs.epochs
        if knobs.share_params:
            supernet = self._supernet_to_train(data, shared_params, self.seed)
            per_epoch = steps_per_epoch(len(data.labels), knobs.batch_size)
            archs = [self._arch] * (epochs * per_epoch)
            begin = supernet.steps / per_epoch
            self._train_supernet(supernet, data, archs, self.seed, (0, 1), begin, begin + epochs)
        else:
            network = self._final_network(Inputs.of(data))
            network.reset(self.seed)
            self._network = network
            self._train_final(network, data, epochs)

    def evaluate(self, dataset_path: str) -> float:
        return self._accuracies(load_data(dataset_path), [self._arch], self.seed)[0]

    def predict(self, queries: list[object]) -> list[object]:
        """Class probabilities per query."""
        network = self._held()
        images = query_images(queries)
        network.inputs.check(images.shape[1:])
        order = np.arange(len(images))
        logits = self._logits(network, jnp.asarray(images), order, self._arch)
        probabilities = np.asarray(jax.nn.softmax(logits, axis=-1))
        return [[float(share) for share in row] for row in probabilities]

    def dump_parameters(self) -> dict[str, np.ndarray]:
        return self._held().dump()

    def load_parameters(self, params: Params) -> None:
        inputs = Inputs.load(params)
        network = (
            self._supernet(inputs) if self._knobs.share_params else self._final_network(inputs)
        )
        network.load(params)
        self._network = network

    def train_candidates(
        self,
        dataset_path: str,
        candidates: Sequence[Candidate],
        *,
        shared_params: Params | None,
        shard: tuple[int, int],
        data_seed: int,
        round: int,
    ) -> dict[str, object]:
        data = load_data(dataset_path)
        # Shards that begin with fresh weights must begin with the same.
        supernet = self._supernet_to_train(data, shared_params, data_seed)
        archs = [_candidate_architecture(candidate) for candidate in candidates]
        metrics = self._train_supernet(
            supernet, data, archs, data_seed, shard, max(round - 1, 0), max(round, 1)
        )
        return {
            "steps_per_epoch": steps_per_epoch(len(data.labels), self._knobs.batch_size),
            **metrics,
        }

    def evaluate_candidates(
        self, dataset_path: str, candidates: Sequence[Candidate], *, seed: int
    ) -> list[float]:
        if not self._knobs.share_params:
            raise ValueError("candidates share weights: the policy SHARE_PARAMS must be on")
        archs = [_candidate_architecture(candidate) for candidate in candidates]
        return self._accuracies(load_data(dataset_path), archs, seed)

    def destroy(self) -> None:
        self._network = None

    @classmethod
    def teardown(cls) -> None:
        search_programs.cache_clear()
        final_programs.cache_clear()
        forget_data()

    def _held(self) -> Supernet | FinalNetwork:
        if self._network is None:
            raise ValueError("the model was neither trained nor loaded")
        return self._network

    def _shape(self, inputs: Inputs) -> Shape:
        knobs = self._knobs
        cells = knobs.downscaled_cells if knobs.downscale else knobs.cells
        return inputs.shape(knobs.channels, cells)

    def _supernet(self, inputs: Inputs) -> Supernet:
        return Supernet(inputs, self._shape(inputs), self._knobs.search_weight_decay)

    def _final_network(self, inputs: Inputs) -> FinalNetwork:
        return FinalNetwork(
            inputs, self._shape(inputs), self._arch_values, self._knobs.weight_decay
        )

    def _supernet_to_train(
        self, data: Data, shared_params: Params | None, fresh_seed: int
    ) -> Supernet:
        if not self._knobs.share_params:
            raise ValueError("candidates share weights: the policy SHARE_PARAMS must be on")
        inputs = Inputs.of(data) if shared_params is None else Inputs.load(shared_params)
        inputs.check(data.images.shape[1:])
        if data.class_count > inputs.classes:
            raise ValueError(f"{data.class_count} classes, the weights are for {inputs.classes}")
        supernet = self._supernet(inputs)
        if shared_params is None:
            supernet.reset(fresh_seed)
        else:
            supernet.load(shared_params)
        self._network = supernet
        return supernet

    def _train_supernet(
        self,
        supernet: Supernet,
        data: Data,
        archs: Sequence[Architecture],
        data_seed: int,
        shard: tuple[int, int],
        begin: float,
        end: float,
    ) -> dict[str, object]:
        """Trains minibatch k with archs[k], while the schedule goes from epoch begin to end."""
        batches = minibatches(len(data.labels), self._knobs.batch_size, data_seed, shard)
        losses = []
        for step, (arch, indices) in enumerate(zip(archs, batches, strict=False)):
            epoch = begin + (end - begin) * step / len(archs)
            images = supernet.inputs.minibatch(data.images, indices)
            rate = self._search_rate(epoch)
            losses.append(supernet.train_step(arch, images, data.labels[indices], rate))
            if _report(step, len(archs), losses[-1]):
                break
        loss = float(np.mean([float(loss) for loss in losses])) if losses else 0.0
        return {"updates": supernet.updates(archs[: len(losses)]), "loss": loss}

    def _train_final(self, network: FinalNetwork, data: Data, epochs: int) -> None:
        knobs = self._knobs
        logger.define_plot("Loss", ["loss"], "epoch")
        logger.define_plot("Training accuracy", ["accuracy"], "epoch")
        per_epoch = steps_per_epoch(len(data.labels), knobs.batch_size)
        total = epochs * per_epoch
        rng = np.random.default_rng(self.seed)
        reports = []
        batches = minibatches(len(data.labels), knobs.batch_size, self.seed)
        for step, indices in zip(range(total), batches, strict=False):
            images = network.inputs.minibatch(data.images, indices)
            images = augment(images, rng, knobs.shift, knobs.flip)
            rate = cosine(step / total, knobs.learning_rate)
            loss, hits = network.train_step(images, data.labels[indices], rate)
            reports.append((loss, hits))
            if (step + 1) % per_epoch == 0:
                epoch = (step + 1) // per_epoch
                means = np.mean([[float(x) for x in report] for report in reports], 0)
                logger.log(step=epoch, epoch=epoch, loss=means[0], accuracy=means[1])
                reports = []
            if _report(step, total, loss):
                break

    def _search_rate(self, epoch: float) -> float:
        knobs = self._knobs
        return restarting_cosine(epoch, float(knobs.restart_epochs), knobs.search_learning_rate)

    def _logits(
        self,
        network: Supernet | FinalNetwork,
        images: jax.Array,
        order: np.ndarray,
        arch: Architecture,
    ) -> np.ndarray:
        """Class scores `[n, classes]` of the images in `order` `[n]`.

        All minibatches have the full size: the last is filled up from the beginning.
        """
        size = self._knobs.evaluation_batch_size
        padded = np.resize(order, -(-len(order) // size) * size).astype(np.int32)
        logits = []
        for indices in padded.reshape(-1, size):
            batch = network.inputs.minibatch(images, indices)
            if isinstance(network, Supernet):
                logits.append(network.logits(arch, batch))
            else:
                logits.append(network.logits(batch))
        return np.concatenate([np.asarray(part) for part in logits])[: len(order)]

    def _accuracies(self, data: Data, archs: Sequence[Architecture], seed: int) -> list[float]:
        """The share of labels hit by each architecture, on the same images for all of them."""
        network = self._held()
        network.inputs.check(data.images.shape[1:])
        # A fixed shuffle for all of the data: a supernet normalises by the minibatch, which
        # images in order of their classes would distort.
        order = np.random.default_rng(seed if self._knobs.quick_eval else 0).permutation(
            len(data.labels)
        )
        if self._knobs.quick_eval:
            order = order[: self._knobs.evaluation_batch_size]
        return [
            accuracy(self._logits(network, data.images, order, arch), data.labels[order])
            for arch in archs
        ]


def _candidate_architecture(candidate: Candidate) -> Architecture:
    return Architecture.of(candidate["normal_cell"], candidate["reduction_cell"])


def _report(step: int, total: int, loss: jax.Array) -> bool:
    """Reports progress now and then, once the step is done; whether to stop."""
    done = step + 1
    if done % STEPS_PER_REPORT and done < total:
        return False
    float(loss)  # Steps run ahead of the program; progress must not.
    return logger.progress(done / total)
