"""A template that is right: linear classifiers on chosen features, with shared weights."""

from collections.abc import Sequence

import numpy as np

from rafiki.model import (
    ArchKnob,
    BaseModel,
    Candidate,
    FixedKnob,
    FloatKnob,
    KnobConfig,
    KnobValue,
    Params,
    PolicyKnob,
    Scalar,
    load_images,
    logger,
    query_images,
)

FEATURES = 16
CLASSES = 4


def features(images: np.ndarray, kind: Scalar) -> np.ndarray:
    """`[N, 16]` of `[N, H, W, C]`: the mean or the largest value per patch."""
    pixels: np.ndarray = images.mean(axis=3) / 255
    patches = pixels.reshape(len(pixels), 4, pixels.shape[1] // 4, 4, pixels.shape[2] // 4)
    pooled: np.ndarray = patches.mean(axis=(2, 4)) if kind == "mean" else patches.max(axis=(2, 4))
    return pooled.reshape(len(images), FEATURES)


class LinearSupernet(BaseModel):
    task = "IMAGE_CLASSIFICATION"

    @staticmethod
    def get_knob_config() -> KnobConfig:
        mean, largest = KnobValue("mean"), KnobValue("max")
        return {
            "batch_size": FixedKnob(20),
            "learning_rate": FloatKnob(0.1, 0.5, is_exp=True),
            "ops": ArchKnob([[mean, largest], [mean, largest]]),
            "share_params": PolicyKnob("SHARE_PARAMS"),
            "early_stop": PolicyKnob("EARLY_STOP"),
            "skip_train": PolicyKnob("SKIP_TRAIN"),
            "quick_eval": PolicyKnob("QUICK_EVAL"),
            "downscale": PolicyKnob("DOWNSCALE"),
        }

    def __init__(
        self,
        batch_size: int,
        learning_rate: float,
        ops: Sequence[Scalar],
        share_params: bool = False,
        early_stop: bool = False,
        skip_train: bool = False,
        quick_eval: bool = False,
        downscale: bool = False,
    ) -> None:
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.ops = ops
        self.early_stop = early_stop
        self.quick_eval = quick_eval
        self.weights: dict[str, np.ndarray] = {}

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        data = load_images(dataset_path)
        self._start(shared_params)
        epochs = 3 if self.early_stop else 10
        for epoch in range(epochs):
            for batch in range(len(data.labels) // self.batch_size):
                rows = slice(batch * self.batch_size, (batch + 1) * self.batch_size)
                self._step(data.images[rows], data.labels[rows], self.ops)
            if logger.progress((epoch + 1) / epochs):
                break

    def evaluate(self, dataset_path: str) -> float:
        data = load_images(dataset_path)
        rows = self._rows(len(data.labels), self.seed)
        return self._accuracy(data.images[rows], data.labels[rows], self.ops)

    def predict(self, queries: list[object]) -> list[object]:
        probabilities: list[object] = self._forward(query_images(queries), self.ops).tolist()
        return probabilities

    def dump_parameters(self) -> dict[str, np.ndarray]:
        return dict(self.weights)

    def load_parameters(self, params: Params) -> None:
        self.weights = dict(params)

    def train_candidates(
        self,
        dataset_path: str,
        candidates: list[Candidate],
        *,
        shared_params: Params | None,
        shard: tuple[int, int],
        data_seed: int,
        round: int,
    ) -> dict[str, object]:
        data = load_images(dataset_path)
        self._start(shared_params)
        steps = len(data.labels) // self.batch_size
        order = np.random.default_rng(data_seed).permutation(len(data.labels))
        updates: dict[str, int] = {}
        loss = 0.0
        for number, candidate in enumerate(candidates):
            batch = (shard[0] + number * shard[1]) % steps
            rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            loss = self._step(data.images[rows], data.labels[rows], candidate["ops"])
            for path in {f"w/{place}/{op}" for place, op in enumerate(candidate["ops"])}:
                updates[path] = updates.get(path, 0) + 1
            logger.progress((number + 1) / len(candidates))
        return {"steps_per_epoch": steps, "updates": updates, "loss": loss}

    def evaluate_candidates(
        self, dataset_path: str, candidates: list[Candidate], *, seed: int
    ) -> list[float]:
        data = load_images(dataset_path)
        rows = self._rows(len(data.labels), seed)
        return [self._accuracy(data.images[rows], data.labels[rows], c["ops"]) for c in candidates]

    def _start(self, shared_params: Params | None) -> None:
        if shared_params is not None:
            self.load_parameters(shared_params)
            return
        generator = np.random.default_rng(self.seed)
        self.weights = {
            f"w/{place}/{op}": generator.normal(0, 0.01, (FEATURES, CLASSES))
            for place in range(2)
            for op in ("mean", "max")
        }

    def _rows(self, count: int, seed: int) -> np.ndarray:
        if not self.quick_eval:
            return np.arange(count)
        return np.random.default_rng(seed).permutation(count)[: self.batch_size]

    def _forward(self, images: np.ndarray, ops: Sequence[Scalar]) -> np.ndarray:
        logits = sum(
            features(images, op) @ self.weights[f"w/{place}/{op}"] for place, op in enumerate(ops)
        )
        scaled = np.exp(logits - np.max(logits, axis=1, keepdims=True))
        normalised: np.ndarray = scaled / scaled.sum(axis=1, keepdims=True)
        return normalised

    def _step(self, images: np.ndarray, labels: np.ndarray, ops: Sequence[Scalar]) -> float:
        probabilities = self._forward(images, ops)
        gradient = (probabilities - np.eye(CLASSES)[labels]) / len(labels)
        for place, op in enumerate(ops):
            path = f"w/{place}/{op}"
            step = self.learning_rate * features(images, op).T @ gradient
            self.weights[path] = self.weights[path] - step
        return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())

    def _accuracy(self, images: np.ndarray, labels: np.ndarray, ops: Sequence[Scalar]) -> float:
        return float((self._forward(images, ops).argmax(axis=1) == labels).mean())
