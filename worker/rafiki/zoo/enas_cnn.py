"""ENAS for image classification: the cell search space with one shared-weight supernet.

"Efficient Neural Architecture Search via Parameter Sharing" (arXiv 1802.03268), section 2.4
and the authors' micro search code. The parts are in `rafiki.supernet`, which every worker has.
Architectures are data: the two programs of the search are compiled once for all of them, and
so are the two that train the network found from scratch.

Try it without a server (about a minute):

    rafiki model test worker/rafiki/zoo/enas_cnn.py

On scikit-learn's digits (1,197 training images of 8x8), with two workers on a core each,
`rafiki demo` searches for 14 rounds and trains two networks from scratch in 70 seconds, and
compiles in 40 more the first time. With `--seed` 1, 2 and 3 the network found had a test
accuracy of 0.990, 0.990 and 0.983; earlier runs had from 0.980 to 0.993, as two workers are not
always equally fast. Its settings were chosen with these images at hand, those of the test part
among them, so that such figures are a little optimistic.

On 55,000 images of Fashion-MNIST, `make bench-fashion-mnist ARGS="--images 55000 --rounds 5
--batches 40 --epochs 5 --seeds 3"` took 14 to 22 minutes per seed to networks with test
accuracies of 0.921, 0.919 and 0.921; random ones had 0.913, 0.927 and 0.919 (docs/benchmarks.md).

Letters as in `rafiki.supernet`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import ClassVar, TypeAlias

import numpy as np

from rafiki.model import (
    BaseModel,
    Candidate,
    FixedKnob,
    KnobConfig,
    KnobValue,
    Params,
    PolicyKnob,
)
from rafiki.supernet import (
    OPERATIONS,
    ImageSupernet,
    Inputs,
    accuracies,
    forget_data,
    image_programs,
    load_data,
    probabilities,
    restarting_cosine,
    scoring,
    search_rates,
    steps_per_epoch,
    supernet_to_train,
    train_architectures,
    train_from_scratch,
)
from rafiki.supernet.cells import (
    Architecture,
    CellSpace,
    FinalNetwork,
    Recipe,
    Shape,
    cell_knob,
    final_programs,
)

CellSupernet: TypeAlias = ImageSupernet[Architecture]


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
    min_learning_rate: float
    final_restart_epochs: int
    search_learning_rate: float
    restart_epochs: int
    weight_decay: float
    search_weight_decay: float
    shift: int
    flip: bool
    cutout: int
    drop_path_keep: float
    dropout_keep: float
    auxiliary_weight: float
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
        learning_rate, min_learning_rate: From where to where it falls, in half a cosine, in a
            training from scratch.
        final_restart_epochs: It falls so within so many epochs, and begins anew with twice as
            many, and so on. 0 for once in the whole training.
        search_learning_rate, restart_epochs: The same of a supernet, which restarts after so
            many rounds, then after twice as many, and so on.
        weight_decay, search_weight_decay: Times a parameter is added to its gradient.
        shift, flip, cutout, drop_path_keep, dropout_keep, auxiliary_weight: Of a training from
            scratch, see `Recipe`. All but `shift` are off: images of a few pixels lose what
            they show, and short trainings want no more to make them general.
        share_params, early_stop, skip_train, quick_eval, downscale: The policies.

    The authors' final training on CIFAR-10 (`scripts/cifar10_micro_final.sh` of their code) is
    {"cells": 5, "channels": 36, "batch_size": 144, "epochs": 630, "learning_rate": 0.05,
    "min_learning_rate": 1e-4, "final_restart_epochs": 10, "weight_decay": 4e-4, "shift": 4,
    "flip": True, "cutout": 16, "drop_path_keep": 0.6, "dropout_keep": 0.8, "auxiliary_weight":
    0.4}; five cells per stage are their 15 layers, their decay of 2e-4 is of the squares and so
    twice that of gradients, and the weight of the auxiliary head is in `micro_child.py`.

    Parameters: those of `ImageSupernet` or of `FinalNetwork`.
    """

    task = "IMAGE_CLASSIFICATION"
    # Of `rafiki`, too: the parts of the supernet come with it.
    dependencies: ClassVar[Mapping[str, str]] = {
        name: version(name) for name in ("jax", "optax", "rafiki")
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
            "min_learning_rate": FixedKnob(1e-3),
            "final_restart_epochs": FixedKnob(0),
            "search_learning_rate": FixedKnob(0.2),
            "restart_epochs": FixedKnob(10),
            "weight_decay": FixedKnob(1e-3),
            "search_weight_decay": FixedKnob(1e-4),
            "shift": FixedKnob(1),
            "flip": FixedKnob(False),
            "cutout": FixedKnob(0),
            "drop_path_keep": FixedKnob(1.0),
            "dropout_keep": FixedKnob(1.0),
            "auxiliary_weight": FixedKnob(0.0),
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
        self._arch = Architecture.of(self._knobs.normal_cell, self._knobs.reduction_cell)
        self._network: CellSupernet | FinalNetwork | None = None

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        knobs = self._knobs
        data = load_data(dataset_path)
        epochs = knobs.early_stop_epochs if knobs.early_stop else knobs.epochs
        per_epoch = steps_per_epoch(len(data.labels), knobs.batch_size)
        if knobs.share_params:
            supernet = supernet_to_train(self._supernet, data, shared_params, self.seed)
            self._network = supernet
            begin, count = supernet.steps / per_epoch, epochs * per_epoch
            train_architectures(
                supernet,
                data,
                [self._arch] * count,
                self._search_rates(begin, begin + epochs, count),
                batch_size=knobs.batch_size,
                data_seed=self.seed,
            )
        else:
            network = self._final_network(Inputs.of(data))
            network.reset(self.seed)
            self._network = network
            rates = self._final_rates(epochs, per_epoch)
            train_from_scratch(network, data, rates, batch_size=knobs.batch_size, seed=self.seed)

    def evaluate(self, dataset_path: str) -> float:
        return self._accuracies(dataset_path, [self._arch], self.seed)[0]

    def predict(self, queries: list[object]) -> list[object]:
        """Class probabilities per query."""
        network, size = self._held(), self._knobs.evaluation_batch_size
        return probabilities(scoring(network, [self._arch]), network.inputs, queries, size)

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
        self._check_shared()
        data = load_data(dataset_path)
        # Shards that begin with fresh weights must begin with the same.
        supernet = supernet_to_train(self._supernet, data, shared_params, data_seed)
        self._network = supernet
        return train_architectures(
            supernet,
            data,
            [_candidate_architecture(candidate) for candidate in candidates],
            self._search_rates(max(round - 1, 0), max(round, 1), len(candidates)),
            batch_size=self._knobs.batch_size,
            data_seed=data_seed,
            shard=shard,
        )

    def evaluate_candidates(
        self, dataset_path: str, candidates: Sequence[Candidate], *, seed: int
    ) -> list[float]:
        self._check_shared()
        archs = [_candidate_architecture(candidate) for candidate in candidates]
        return self._accuracies(dataset_path, archs, seed)

    def destroy(self) -> None:
        self._network = None

    @classmethod
    def teardown(cls) -> None:
        image_programs.cache_clear()
        final_programs.cache_clear()
        forget_data()

    def _held(self) -> CellSupernet | FinalNetwork:
        if self._network is None:
            raise ValueError("the model was neither trained nor loaded")
        return self._network

    def _check_shared(self) -> None:
        if not self._knobs.share_params:
            raise ValueError("candidates share weights: the policy SHARE_PARAMS must be on")

    def _shape(self, inputs: Inputs) -> Shape:
        knobs = self._knobs
        cells = knobs.downscaled_cells if knobs.downscale else knobs.cells
        return Shape.of(inputs, knobs.channels, cells)

    def _supernet(self, inputs: Inputs) -> CellSupernet:
        space = CellSpace(self._shape(inputs))
        return ImageSupernet(inputs, space, self._knobs.search_weight_decay)

    def _final_network(self, inputs: Inputs) -> FinalNetwork:
        knobs = self._knobs
        recipe = Recipe(
            weight_decay=knobs.weight_decay,
            shift=knobs.shift,
            flip=knobs.flip,
            cutout=knobs.cutout,
            drop_path_keep=knobs.drop_path_keep,
            dropout_keep=knobs.dropout_keep,
            auxiliary_weight=knobs.auxiliary_weight,
        )
        return FinalNetwork(inputs, self._shape(inputs), self._arch, recipe)

    def _final_rates(self, epochs: int, per_epoch: int) -> list[float]:
        knobs = self._knobs
        period = float(knobs.final_restart_epochs or epochs)
        return [
            restarting_cosine(
                step / per_epoch, period, knobs.learning_rate, knobs.min_learning_rate
            )
            for step in range(epochs * per_epoch)
        ]

    def _search_rates(self, begin: float, end: float, count: int) -> list[float]:
        """The rates of `count` minibatches while the schedule goes from epoch begin to end."""
        period, rate = float(self._knobs.restart_epochs), self._knobs.search_learning_rate
        return search_rates(begin, end, count, period=period, rate=rate)

    def _accuracies(
        self, dataset_path: str, archs: Sequence[Architecture], seed: int
    ) -> list[float]:
        data, knobs, network = load_data(dataset_path), self._knobs, self._held()
        network.inputs.check(data.images.shape[1:])
        quick_seed = seed if knobs.quick_eval else None
        return accuracies(scoring(network, archs), data, knobs.evaluation_batch_size, quick_seed)


def _candidate_architecture(candidate: Candidate) -> Architecture:
    return Architecture.of(candidate["normal_cell"], candidate["reduction_cell"])
