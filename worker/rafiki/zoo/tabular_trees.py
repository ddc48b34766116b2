"""Boosted trees for tables: scikit-learn's histogram gradient boosting.

Friedman, "Greedy function approximation: a gradient boosting machine" (Annals of Statistics
29, 2001), as grown by scikit-learn. What is kept of a model are arrays: thresholds, children and
values of all nodes. It predicts from them with the NumPy code below, without scikit-learn.

Try it without a server:

    rafiki model test worker/rafiki/zoo/tabular_trees.py --class TreesClassifier
    rafiki model test worker/rafiki/zoo/tabular_trees.py --class TreesRegressor

Of scikit-learn's tables, 60 % to train, 20 % to validate and 20 % to test with (permuted by
NumPy's generator of seed 0),

    rafiki job create --model MODEL --train train.csv --validation validation.csv \
        --test test.csv --trials 20 --seed 1 --watch

took 26 s with two workers on a busy machine for breast_cancer (validation accuracies 0.921 to
0.991; the best, trained in full, 0.991, in the test 0.921) and 8 s for diabetes (R2 0.255 to
0.533; the best in full 0.539, in the test 0.391). So few rows differ a lot from one part to the
next.

Letters: N rows, F features, T trees, M nodes of all trees, K outputs (one per class; one for
two classes and for a regression).
"""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import ClassVar

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from threadpoolctl import threadpool_limits

from rafiki.model import (
    BaseModel,
    Feature,
    FloatKnob,
    IntegerKnob,
    KnobConfig,
    Params,
    PolicyKnob,
    Table,
    load_table,
    logger,
    query_matrix,
    table_matrix,
)

ITERATIONS_PER_REPORT = 10
# With EARLY_STOP there are a fourth of the iterations, each of four times the step.
HASTE = 4
# Values of a table that one thread is enough for: where cores are busy, waiting for the other
# threads takes many times as long as the work.
SMALL = 2**20
# Rows x trees that descend at once.
DESCENTS = 2**20


@dataclass(frozen=True, kw_only=True)
class Knobs:
    """The knobs of both templates, with their types."""

    iterations: int
    learning_rate: float
    leaves: int
    min_samples: int
    l2: float
    max_bins: int
    early_stop: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Forest:
    """Fitted trees, their nodes one after the other.

    Attributes:
        roots: int64 `[T / K, K]`: where each tree begins, by iteration and output.
        depth: int64 `[]`: of the deepest tree.
        feature: int64 `[M]`: the column a node looks at.
        threshold: float64 `[M]`: what is not above it goes left.
        bitset: int64 `[M]`: the row of `bitsets` with the categories that go left; -1 for
            numbers.
        missing_left: bool `[M]`: where NaN goes.
        left, right: int64 `[M]`: the children; a leaf is its own.
        value: float64 `[M]`: what a leaf adds to its output.
        bitsets: uint32 `[splits by category, 8]`: bit `c % 32` of word `c // 32` is category c.
        baseline: float64 `[K]`: the outputs before the first tree.
    """

    roots: np.ndarray
    depth: np.ndarray
    feature: np.ndarray
    threshold: np.ndarray
    bitset: np.ndarray
    missing_left: np.ndarray
    left: np.ndarray
    right: np.ndarray
    value: np.ndarray
    bitsets: np.ndarray
    baseline: np.ndarray

    def outputs(self, matrix: np.ndarray) -> np.ndarray:
        """Raw outputs `[N, K]` of rows `[N, F]` with NaN where values are missing."""
        size = max(1, DESCENTS // self.roots.size)
        parts = [self._descend(matrix[start:][:size]) for start in range(0, len(matrix), size)]
        return np.concatenate(parts)

    def _descend(self, matrix: np.ndarray) -> np.ndarray:
        rows = np.arange(len(matrix))[:, np.newaxis]
        nodes = np.repeat(self.roots.reshape(1, -1), len(matrix), axis=0)  # [N, T]
        for _ in range(int(self.depth)):
            values = matrix[rows, self.feature[nodes]]
            is_missing = np.isnan(values)
            goes_left = values <= self.threshold[nodes]
            bitset = self.bitset[nodes]
            by_category = (bitset >= 0) & ~is_missing
            codes = values[by_category].astype(np.int64)
            words = self.bitsets[bitset[by_category], codes // 32]
            goes_left[by_category] = (words >> (codes % 32).astype(np.uint32)) & 1 == 1
            goes_left = np.where(is_missing, self.missing_left[nodes], goes_left)
            nodes = np.where(goes_left, self.left[nodes], self.right[nodes])
        gains = self.value[nodes].reshape(len(matrix), *self.roots.shape)
        raw: np.ndarray = self.baseline + gains.sum(axis=1)
        return raw


def forest_of(
    model: HistGradientBoostingClassifier | HistGradientBoostingRegressor,
    columns: np.ndarray,
) -> Forest:
    """The trees of a fitted model, which took the features numbered `columns` `[F]`."""
    # scikit-learn has no public way to its trees; the tests compare with its predictions.
    trees = [tree for iteration in model._predictors for tree in iteration]
    starts = np.cumsum([0, *(len(tree.nodes) for tree in trees)])
    bitset_starts = np.cumsum([0, *(len(tree.raw_left_cat_bitsets) for tree in trees)])
    nodes = np.concatenate([tree.nodes for tree in trees])
    first = np.repeat(starts[:-1], np.diff(starts))
    bitset_first = np.repeat(bitset_starts[:-1], np.diff(starts))
    is_leaf = nodes["is_leaf"] == 1
    itself = np.arange(len(nodes))
    outputs = len(model._predictors[0])
    return Forest(
        roots=starts[:-1].reshape(-1, outputs),
        depth=np.array(nodes["depth"].max(), np.int64),
        feature=columns[np.where(is_leaf, 0, nodes["feature_idx"])],
        threshold=nodes["num_threshold"].copy(),
        bitset=np.where(nodes["is_categorical"] == 1, nodes["bitset_idx"] + bitset_first, -1),
        missing_left=nodes["missing_go_to_left"] == 1,
        left=np.where(is_leaf, itself, nodes["left"] + first),
        right=np.where(is_leaf, itself, nodes["right"] + first),
        value=nodes["value"].copy(),
        bitsets=np.concatenate([tree.raw_left_cat_bitsets for tree in trees]),
        baseline=np.ravel(model._baseline_prediction),
    )


class BoostedTrees(BaseModel):
    """What both templates have in common.

    Knobs:
        iterations: Trees per output.
        learning_rate: What each of them adds, times this.
        leaves: Of a tree, at most.
        min_samples: Rows of a leaf, at least.
        l2: Regularisation of the leaves' values.
        max_bins: Intervals that numbers are sorted into; also the categories that are told
            apart, the most frequent ones.
        early_stop: The policy. A fourth of the iterations with four times the learning rate
            tell good knobs from bad ones: the two stand in for each other (Friedman,
            section 5), and smaller steps are rarely worse.

    Parameters: "trees/..." as in `Forest`, and "columns", features and class names as JSON.
    """

    dependencies: ClassVar[Mapping[str, str]] = {"scikit-learn": version("scikit-learn")}

    @staticmethod
    def get_knob_config() -> KnobConfig:
        return {
            "iterations": IntegerKnob(40, 400, is_exp=True),
            "learning_rate": FloatKnob(0.01, 0.25, is_exp=True),
            "leaves": IntegerKnob(4, 64, is_exp=True),
            "min_samples": IntegerKnob(2, 64, is_exp=True),
            "l2": FloatKnob(1e-4, 10.0, is_exp=True),
            "max_bins": IntegerKnob(32, 255, is_exp=True),
            "early_stop": PolicyKnob("EARLY_STOP"),
        }

    def __init__(self, **knobs: object) -> None:
        super().__init__(**knobs)
        # Knobs come as objects; `Knobs` names every one of them, so a wrong name fails here.
        self._knobs = Knobs(**knobs)  # type: ignore[arg-type]
        self._features: tuple[Feature, ...] = ()
        self._class_names: tuple[str, ...] = ()
        self._forest: Forest | None = None

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        knobs = self._knobs
        table = load_table(dataset_path, self.task)
        self._features = known_features(table, knobs.max_bins)
        self._class_names = table.class_names
        matrix = table_matrix(table, self._features)
        # Categories come first, where scikit-learn moves them anyway.
        categorical = np.array([f.categories is not None for f in self._features])
        columns = np.argsort(~categorical, kind="stable")
        haste = HASTE if knobs.early_stop else 1
        model = self._new_model(
            learning_rate=min(1.0, knobs.learning_rate * haste),
            max_leaf_nodes=knobs.leaves,
            min_samples_leaf=knobs.min_samples,
            l2_regularization=knobs.l2,
            max_bins=knobs.max_bins,
            categorical_features=categorical[columns],
            early_stopping=False,
            warm_start=True,
            random_state=self.seed % 2**32,  # all that scikit-learn takes
        )
        total = max(1, knobs.iterations // haste)
        with threadpool_limits(1 if matrix.size < SMALL else None, "openmp"):
            for done in range(0, total, ITERATIONS_PER_REPORT):
                iterations = min(total, done + ITERATIONS_PER_REPORT)
                model.set_params(max_iter=iterations).fit(matrix[:, columns], table.target)
                if logger.progress(iterations / total):
                    break
        self._forest = forest_of(model, columns)

    def dump_parameters(self) -> dict[str, np.ndarray]:
        forest = self._held()
        columns = {
            "features": [[feature.name, feature.categories] for feature in self._features],
            "class_names": self._class_names,
        }
        return {
            "columns": np.frombuffer(json.dumps(columns).encode(), np.uint8),
            **{f"trees/{part.name}": getattr(forest, part.name) for part in fields(Forest)},
        }

    def load_parameters(self, params: Params) -> None:
        columns = json.loads(params["columns"].tobytes())
        self._features = tuple(
            Feature(name=name, categories=None if categories is None else tuple(categories))
            for name, categories in columns["features"]
        )
        self._class_names = tuple(columns["class_names"])
        self._forest = Forest(
            **{part.name: params[f"trees/{part.name}"] for part in fields(Forest)}
        )

    @abstractmethod
    def _new_model(
        self, **settings: object
    ) -> HistGradientBoostingClassifier | HistGradientBoostingRegressor: ...

    def _held(self) -> Forest:
        if self._forest is None:
            raise ValueError("the model was neither trained nor loaded")
        return self._forest

    def _load(self, path: str) -> tuple[Table, np.ndarray]:
        """A data set and the raw outputs `[N, K]` for it."""
        table = load_table(path, self.task, features=self._features)
        return table, self._held().outputs(table_matrix(table, self._features))

    def _answers(self, queries: Sequence[object]) -> np.ndarray:
        """Raw outputs `[N, K]`."""
        return self._held().outputs(query_matrix(queries, self._features))


class TreesClassifier(BoostedTrees):
    """Predicts classes; its score is the accuracy."""

    task = "TABULAR_CLASSIFICATION"

    def evaluate(self, dataset_path: str) -> float:
        """The share of rows whose most probable class is theirs."""
        table, outputs = self._load(dataset_path)
        guesses = np.array(self._class_names)[self._probabilities(outputs).argmax(1)]
        return float(np.mean(guesses == np.array(table.class_names)[table.target]))

    def predict(self, queries: list[object]) -> list[object]:
        """A dict of probabilities by class per query."""
        probabilities = self._probabilities(self._answers(queries)).tolist()
        return [dict(zip(self._class_names, row, strict=True)) for row in probabilities]

    def _new_model(self, **settings: object) -> HistGradientBoostingClassifier:
        return HistGradientBoostingClassifier(**settings)

    @staticmethod
    def _probabilities(outputs: np.ndarray) -> np.ndarray:
        """`[N, classes]`; one output is the log odds of the second of two classes."""
        if outputs.shape[1] == 1:
            outputs = np.concatenate([np.zeros_like(outputs), outputs], axis=1)
        powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
        probabilities: np.ndarray = powers / powers.sum(axis=1, keepdims=True)
        return probabilities


class TreesRegressor(BoostedTrees):
    """Predicts numbers; its score is R2, the share of the target's variance explained.

    1 is perfect; 0 is what the mean of the data evaluated would get; below is worse.
    """

    task = "TABULAR_REGRESSION"

    def evaluate(self, dataset_path: str) -> float:
        """R2."""
        table, outputs = self._load(dataset_path)
        left = np.sum((table.target - outputs[:, 0]) ** 2)
        return float(1 - left / np.sum((table.target - table.target.mean()) ** 2))

    def predict(self, queries: list[object]) -> list[object]:
        """A number per query."""
        return list(self._answers(queries)[:, 0].tolist())

    def _new_model(self, **settings: object) -> HistGradientBoostingRegressor:
        return HistGradientBoostingRegressor(**settings)


def known_features(table: Table, most: int) -> tuple[Feature, ...]:
    """The features of a data set with at most so many categories each, the most frequent."""
    known = []
    for feature, values in zip(table.features, table.columns, strict=True):
        categories = feature.categories
        if categories is not None and len(categories) > most:
            counts = np.bincount(values[values >= 0], minlength=len(categories))
            kept = np.sort(np.argsort(-counts, kind="stable")[:most])
            categories = tuple(categories[code] for code in kept)
        known.append(Feature(name=feature.name, categories=categories))
    return tuple(known)
