"""ENAS for language modelling: the recurrent cell with one shared-weight supernet.

"Efficient Neural Architecture Search via Parameter Sharing" (arXiv 1802.03268), sections 2.1 and
2.2, and the authors' later code, google-research/enas_lm; constants of the search are from its
src/child.py, those of a final training from its src/fixed_lib.py, unless they are said to be
others. Sizes, epochs and rates of dropout are not theirs: they are for a corpus and a machine
that are small. The parts are in `rafiki.supernet.recurrent`, which every worker has.

Try it without a server (half a minute):

    rafiki model test worker/rafiki/zoo/enas_rnn.py

On 200,000 words of the King James Bible (Debian's bible-kjv),

    make bench-enas-rnn ARGS="--rounds 30"

searched for 34 minutes with two workers, on a machine with ten times as much other work. Ten
finalists had 1.30 on shared weights (best 1.50), ten random cells 0.99 (best 1.32). The cell
found, trained from scratch for 10 passes, had a perplexity of 46.3 in the test, a random one
45.9, an LSTM of as many parameters 46.5; word frequencies have 258. After 15 rounds shared
weights learn so short a text by heart: more rounds want more words, or dropout.

A score is 80 / perplexity, the reward of the paper: more is better, and a perplexity of 80 is
1.0. The perplexity itself, the best of several candidates, is a metric of every evaluation.

Letters as in `rafiki.supernet.recurrent`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import ClassVar

import numpy as np

from rafiki.model import (
    BaseModel,
    Candidate,
    FixedKnob,
    KnobConfig,
    Params,
    PolicyKnob,
    Vocabulary,
    logger,
    query_words,
)
from rafiki.supernet import take_tensor
from rafiki.supernet.recurrent import (
    Dropout,
    LanguageModel,
    Recipe,
    RecurrentArchitecture,
    RecurrentSpace,
    averaging_shares,
    encoded_text,
    evaluation_minibatches,
    forget_texts,
    language_programs,
    minibatches,
    recurrent_cell_knob,
    steps_per_epoch,
    text_vocabulary,
)

REWARD = 80.0  # c of the reward c / perplexity; section 3.1 of the paper
NODES = 8  # of the published cell; the search of enas_lm has 9, the paper 12
PREDICTIONS = 5  # next words per query


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """The knobs of `EnasRnn`, with their types."""

    cell: Sequence[object]
    vocabulary: int
    hidden: int
    downscaled_hidden: int
    batch_size: int
    evaluation_batch_size: int
    steps: int
    epochs: int
    early_stop_epochs: int
    average_from: float
    learning_rate: float
    search_learning_rate: float
    clip_norm: float
    search_clip_norm: float
    weight_decay: float
    slowness: float
    search_slowness: float
    drop_words: float
    drop_embeddings: float
    drop_inputs: float
    drop_nodes: float
    drop_outputs: float
    search_dropout: float
    share_params: bool
    early_stop: bool
    skip_train: bool
    quick_eval: bool
    downscale: bool


class EnasRnn(BaseModel):
    """A recurrent network of one cell that predicts the next word.

    With SHARE_PARAMS it holds the weights of all cells, without it those of one cell, trained
    from scratch. What shared weights score ranks cells; it is far below what the same cell
    reaches once it was trained.

    Knobs:
        cell: The architecture. For each of its nodes an earlier node and an activation.
        vocabulary: The most words that are known, `<unk>` and `<eos>` among them.
        hidden, downscaled_hidden: Hidden units, without and with DOWNSCALE; an embedding has
            as many.
        batch_size: Rows of text that are read side by side in training.
        evaluation_batch_size: The same of evaluation.
        steps: Words of a row in a minibatch: how far gradients reach back. The state goes on.
        epochs, early_stop_epochs: Passes over the text of a training from scratch, without and
            with EARLY_STOP. One round is always one pass.
        average_from: The share of a training from scratch after which the mean of weights is
            begun, which replaces them in the end.
        learning_rate, search_learning_rate: Of a training from scratch and of shared weights.
        clip_norm, search_clip_norm: The largest norm of a gradient.
        weight_decay: Times a weight is added to its gradient.
        slowness, search_slowness: Times the mean square of the change of outputs from word to
            word is added to the loss.
        drop_words, drop_embeddings, drop_inputs, drop_nodes, drop_outputs: Rates of dropout,
            as of `Dropout`, in a training from scratch.
        search_dropout: Times these rates are those of shared weights.
        share_params, early_stop, skip_train, quick_eval, downscale: The policies.

    Parameters: those of `LanguageModel`.
    """

    task = "LANGUAGE_MODELLING"
    # Of `rafiki`, too: the parts of the supernet come with it.
    dependencies: ClassVar[Mapping[str, str]] = {
        name: version(name) for name in ("jax", "optax", "rafiki")
    }

    @staticmethod
    def get_knob_config() -> KnobConfig:
        return {
            "cell": recurrent_cell_knob(NODES),
            "vocabulary": FixedKnob(10_000),
            "hidden": FixedKnob(128),
            "downscaled_hidden": FixedKnob(64),
            "batch_size": FixedKnob(16),
            "evaluation_batch_size": FixedKnob(32),
            "steps": FixedKnob(35),
            "epochs": FixedKnob(10),
            "early_stop_epochs": FixedKnob(3),
            "average_from": FixedKnob(0.6),
            "learning_rate": FixedKnob(20.0),
            "search_learning_rate": FixedKnob(20.0),
            "clip_norm": FixedKnob(0.25),
            # enas_lm has 0.1, with which shared weights learnt slower here.
            "search_clip_norm": FixedKnob(0.25),
            "weight_decay": FixedKnob(8e-7),
            "slowness": FixedKnob(0.0),
            "search_slowness": FixedKnob(1.0),
            # In this order enas_lm has 0.125, 0.175, 0.725, 0.225 and 0.75, with 800 units.
            "drop_words": FixedKnob(0.0),
            "drop_embeddings": FixedKnob(0.0),
            "drop_inputs": FixedKnob(0.0),
            "drop_nodes": FixedKnob(0.0),
            "drop_outputs": FixedKnob(0.0),
            "search_dropout": FixedKnob(0.0),
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
        self._arch = RecurrentArchitecture.of(self._knobs.cell)
        self._model: LanguageModel | None = None

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        knobs = self._knobs
        start = shared_params if knobs.share_params else None
        model, words = self._model_to_train(dataset_path, start, self.seed)
        epochs = knobs.early_stop_epochs if knobs.early_stop else knobs.epochs
        steps = epochs * steps_per_epoch(len(words), knobs.batch_size, knobs.steps)
        self._train(model, words, [self._arch] * steps, self.seed, (0, 1))

    def evaluate(self, dataset_path: str) -> float:
        return self._scores(dataset_path, [self._arch], self.seed)[0]

    def predict(self, queries: list[object]) -> list[object]:
        """The likeliest next words per query, each with its probability."""
        model = self._held()
        # As in a text, a line begins after the end of another.
        texts = [model.vocabulary.encode(["<eos>", *words]) for words in query_words(queries)]
        predictions: list[object] = []
        for probabilities in model.next_words(self._arch, texts, self._knobs.steps):
            best = np.argsort(-probabilities, kind="stable")[:PREDICTIONS]
            words = model.vocabulary.words
            predictions.append([[words[k], float(probabilities[k])] for k in best])
        return predictions

    def dump_parameters(self) -> dict[str, np.ndarray]:
        return self._held().dump()

    def load_parameters(self, params: Params) -> None:
        model = self._language_model(_held_vocabulary(params))
        model.load(params)
        self._model = model

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
        # Shards that begin with fresh weights must begin with the same.
        model, words = self._model_to_train(dataset_path, shared_params, data_seed)
        archs = [RecurrentArchitecture.of(candidate["cell"]) for candidate in candidates]
        surprises = self._train(model, words, archs, data_seed, shard)
        return {
            "steps_per_epoch": steps_per_epoch(
                len(words), self._knobs.batch_size, self._knobs.steps
            ),
            "updates": model.weights.updates(archs[: len(surprises)]),
            "loss": float(np.mean(surprises)) if surprises else 0.0,
        }

    def evaluate_candidates(
        self, dataset_path: str, candidates: Sequence[Candidate], *, seed: int
    ) -> list[float]:
        self._check_sharing()
        archs = [RecurrentArchitecture.of(candidate["cell"]) for candidate in candidates]
        return self._scores(dataset_path, archs, seed)

    def destroy(self) -> None:
        self._model = None

    @classmethod
    def teardown(cls) -> None:
        language_programs.cache_clear()
        forget_texts()

    def _check_sharing(self) -> None:
        if not self._knobs.share_params:
            raise ValueError("candidates share weights: the policy SHARE_PARAMS must be on")

    def _held(self) -> LanguageModel:
        if self._model is None:
            raise ValueError("the model was neither trained nor loaded")
        return self._model

    def _recipe(self) -> Recipe:
        knobs = self._knobs
        is_shared = knobs.share_params
        rate = knobs.search_dropout if is_shared else 1.0
        return Recipe(
            rows=knobs.batch_size,
            evaluation_rows=knobs.evaluation_batch_size,
            weight_decay=knobs.weight_decay,
            clip_norm=knobs.search_clip_norm if is_shared else knobs.clip_norm,
            slowness=knobs.search_slowness if is_shared else knobs.slowness,
            dropout=Dropout(
                words=rate * knobs.drop_words,
                embeddings=rate * knobs.drop_embeddings,
                inputs=rate * knobs.drop_inputs,
                nodes=rate * knobs.drop_nodes,
                outputs=rate * knobs.drop_outputs,
            ),
            is_averaged=not is_shared,
        )

    def _language_model(self, vocabulary: Vocabulary) -> LanguageModel:
        knobs = self._knobs
        space = RecurrentSpace(
            words=len(vocabulary.words),
            hidden=knobs.downscaled_hidden if knobs.downscale else knobs.hidden,
            nodes=len(self._arch.sources),
            is_shared=knobs.share_params,
        )
        return LanguageModel(vocabulary, space, self._recipe())

    def _model_to_train(
        self, dataset_path: str, shared_params: Params | None, fresh_seed: int
    ) -> tuple[LanguageModel, np.ndarray]:
        """The model, and the text in numbers of its words."""
        if shared_params is None:
            vocabulary = text_vocabulary(dataset_path, self._knobs.vocabulary)
        else:
            vocabulary = _held_vocabulary(shared_params)
        model = self._language_model(vocabulary)
        if shared_params is None:
            model.reset(fresh_seed)
        else:
            model.load(shared_params)
        self._model = model
        return model, encoded_text(dataset_path, vocabulary)

    def _train(
        self,
        model: LanguageModel,
        words: np.ndarray,
        archs: Sequence[RecurrentArchitecture],
        data_seed: int,
        shard: tuple[int, int],
    ) -> list[float]:
        """Trains minibatch k with archs[k]; the mean of -log p in each."""
        knobs = self._knobs
        logger.define_plot("Training perplexity", ["training_perplexity"])
        batches = minibatches(words, knobs.batch_size, knobs.steps, data_seed, shard)
        rate = knobs.search_learning_rate if knobs.share_params else knobs.learning_rate
        begin = 1.0 if knobs.share_params else knobs.average_from

        def is_stopped(share: float, surprise: float) -> bool:
            if math.isfinite(surprise):
                logger.log(training_perplexity=_perplexity(surprise))
            return logger.progress(share)

        return model.train(
            batches,
            archs,
            [rate] * len(archs),
            averaging_shares(len(archs), begin),
            is_stopped,
        )

    def _scores(
        self, dataset_path: str, archs: Sequence[RecurrentArchitecture], seed: int
    ) -> list[float]:
        """80 / perplexity of each cell, on the same words for all of them."""
        knobs, model = self._knobs, self._held()
        words = encoded_text(dataset_path, model.vocabulary)
        rows, steps = knobs.evaluation_batch_size, knobs.steps
        if knobs.quick_eval:
            batch = next(minibatches(words, rows, steps, seed))
            batches = [(batch.words, np.ones((steps, rows), bool))]
        else:
            batches = list(evaluation_minibatches(words, rows, steps))
        surprises = model.surprise(archs, batches)
        if finite := [surprise for surprise in surprises if math.isfinite(surprise)]:
            logger.log(perplexity=_perplexity(min(finite)))
        return [score(surprise) for surprise in surprises]


def score(surprise: float) -> float:
    """80 / perplexity of a mean of -log p; NaN, which is no score, of one that is not finite."""
    return REWARD * math.exp(-surprise) if math.isfinite(surprise) else math.nan


def _perplexity(surprise: float) -> float:
    # exp() of much more is an error, and no figure to plot.
    return math.exp(min(surprise, 50.0))


def _held_vocabulary(params: Params) -> Vocabulary:
    if "vocabulary" not in params:
        raise ValueError("the parameters lack vocabulary; another template dumped them")
    tensor = np.asarray(params["vocabulary"])
    return Vocabulary.from_tensor(take_tensor(params, "vocabulary", tensor.shape))
