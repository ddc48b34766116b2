"""ENAS for image classification: the macro search space with one shared-weight supernet.

"Efficient Neural Architecture Search via Parameter Sharing" (arXiv 1802.03268), section 2.3
and the authors' macro search code: every layer of a network chooses one of six operations and
which earlier layers it has skip connections from. The parts are in `rafiki.supernet`, which
every worker has. `docs/search-spaces.md` has a picture of the space.

Try it without a server:

    rafiki model test worker/rafiki/zoo/enas_macro.py

On scikit-learn's digits, as `rafiki demo` splits them and leaves them in `demo/`, with two
workers on a core each:

    rafiki job create --model MODEL --train demo/train.zip --validation demo/validation.zip \
        --test demo/test.zip --trials 335 --advisor-option final_controls=1 --seed 1 --watch

searches for 10 rounds and trains two networks from scratch. On a machine that ten times as much
other work kept busy it took 16 minutes, 5 of them to compile and measure, 4 to search. The mean
accuracy of a round rose from 0.18 to 0.78 on shared weights; the ten finalists had 0.761 (best
0.803) on all validation images, ten random networks 0.389 (best 0.647). Trained from scratch,
the network found had 0.980 in the validation and 0.990 in the test, a random one 0.990 in both:
one image is 0.003, and on digits either will do.

The authors hold the controller to a share of 0.4 of the skips (`macro_search.sh`, their paper's
section 2.3); so does a job with

    --advisor-option preset=paper-macro

or with `--advisor-option skip_weight=0.8` alone.

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
    Params,
    PolicyKnob,
)
from rafiki.supernet import (
    ImageSupernet,
    Inputs,
    accuracies,
    cosine,
    forget_data,
    image_programs,
    load_data,
    probabilities,
    scoring,
    search_rates,
    steps_per_epoch,
    supernet_to_train,
    train_architectures,
    train_from_scratch,
)
from rafiki.supernet.macro import (
    FinalMacroNetwork,
    MacroArchitecture,
    MacroRecipe,
    MacroShape,
    MacroSpace,
    final_macro_programs,
    network_knob,
)

LAYERS = 6  # 12 in the authors' search

MacroSupernet: TypeAlias = ImageSupernet[MacroArchitecture]


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """The knobs of `EnasMacro`, with their types."""

    network: Sequence[object]
    channels: int
    downscaled_channels: int
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


class EnasMacro(BaseModel):
    """A convolutional network of layers with skip connections, for images of 8x8 and more.

    With SHARE_PARAMS it is a supernet that holds the weights of all architectures, without
    it the network of one architecture, trained from scratch. What a supernet scores ranks
    architectures; it is far below what the same architecture reaches once it was trained.

    Knobs:
        network: The architecture. Layer by layer an operation, then a bit for the stem and for
            every layer before the last one: whether there is a skip connection from it.
        channels: Of the first stage; each further one has twice as many.
        downscaled_channels: Of all stages, with DOWNSCALE.
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

    Parameters: those of `ImageSupernet` of `MacroSpace`, or of `FinalMacroNetwork`.
    """

    task = "IMAGE_CLASSIFICATION"
    # Of `rafiki`, too: the parts of the supernet come with it.
    dependencies: ClassVar[Mapping[str, str]] = {
        name: version(name) for name in ("jax", "optax", "rafiki")
    }

    @staticmethod
    def get_knob_config() -> KnobConfig:
        return {
            "network": network_knob(LAYERS),
            "channels": FixedKnob(16),
            "downscaled_channels": FixedKnob(12),
            "batch_size": FixedKnob(32),
            "evaluation_batch_size": FixedKnob(64),
            "epochs": FixedKnob(30),
            "early_stop_epochs": FixedKnob(5),
            "learning_rate": FixedKnob(0.2),
            "search_learning_rate": FixedKnob(0.2),
            "restart_epochs": FixedKnob(10),
            "weight_decay": FixedKnob(1e-3),
            "search_weight_decay": FixedKnob(2.5e-4),
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
        self._arch = MacroArchitecture.of(self._knobs.network)
        self._network: MacroSupernet | FinalMacroNetwork | None = None

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        knobs = self._knobs
        data = load_data(dataset_path)
        epochs = knobs.early_stop_epochs if knobs.early_stop else knobs.epochs
        per_epoch = steps_per_epoch(len(data.labels), knobs.batch_size)
        count = epochs * per_epoch
        if knobs.share_params:
            supernet = supernet_to_train(self._supernet, data, shared_params, self.seed)
            self._network = supernet
            begin = supernet.steps / per_epoch
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
            rates = [cosine(step / count, knobs.learning_rate) for step in range(count)]
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
        self._check_sharing()
        data = load_data(dataset_path)
        # Shards that begin with fresh weights must begin with the same.
        supernet = supernet_to_train(self._supernet, data, shared_params, data_seed)
        self._network = supernet
        return train_architectures(
            supernet,
            data,
            [MacroArchitecture.of(candidate["network"]) for candidate in candidates],
            self._search_rates(max(round - 1, 0), max(round, 1), len(candidates)),
            batch_size=self._knobs.batch_size,
            data_seed=data_seed,
            shard=shard,
        )

    def evaluate_candidates(
        self, dataset_path: str, candidates: Sequence[Candidate], *, seed: int
    ) -> list[float]:
        self._check_sharing()
        archs = [MacroArchitecture.of(candidate["network"]) for candidate in candidates]
        return self._accuracies(dataset_path, archs, seed)

    def destroy(self) -> None:
        self._network = None

    @classmethod
    def teardown(cls) -> None:
        image_programs.cache_clear()
        final_macro_programs.cache_clear()
        forget_data()

    def _held(self) -> MacroSupernet | FinalMacroNetwork:
        if self._network is None:
            raise ValueError("the model was neither trained nor loaded")
        return self._network

    def _check_sharing(self) -> None:
        if not self._knobs.share_params:
            raise ValueError("candidates share weights: the policy SHARE_PARAMS must be on")

    def _space(self, inputs: Inputs) -> MacroSpace:
        knobs = self._knobs
        # The authors' search has the same channels everywhere, their final network doubles them.
        channels, widening = (
            (knobs.downscaled_channels, 1) if knobs.downscale else (knobs.channels, 2)
        )
        return MacroSpace(MacroShape.of(inputs, len(self._arch.operations), channels, widening))

    def _supernet(self, inputs: Inputs) -> MacroSupernet:
        return ImageSupernet(inputs, self._space(inputs), self._knobs.search_weight_decay)

    def _final_network(self, inputs: Inputs) -> FinalMacroNetwork:
        knobs = self._knobs
        recipe = MacroRecipe(weight_decay=knobs.weight_decay, shift=knobs.shift, flip=knobs.flip)
        return FinalMacroNetwork(inputs, self._space(inputs), self._arch, recipe)

    def _search_rates(self, begin: float, end: float, count: int) -> list[float]:
        """Of `count` minibatches, while the schedule goes from epoch `begin` to `end`."""
        period, rate = float(self._knobs.restart_epochs), self._knobs.search_learning_rate
        return search_rates(begin, end, count, period=period, rate=rate)

    def _accuracies(
        self, dataset_path: str, archs: Sequence[MacroArchitecture], seed: int
    ) -> list[float]:
        data, knobs, network = load_data(dataset_path), self._knobs, self._held()
        network.inputs.check(data.images.shape[1:])
        quick_seed = seed if knobs.quick_eval else None
        return accuracies(scoring(network, archs), data, knobs.evaluation_batch_size, quick_seed)
