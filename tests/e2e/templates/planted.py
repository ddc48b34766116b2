"""A supernet of numbers, fast and exact, whose best architecture is known.

Its shared weights are one number per position and choice. Training adds to the numbers of
the chosen path; a score is the share of positions that match the planted architecture,
plus a little of the weights, so that it changes when they do. With a file named in the
environment variable PLANTED_SLOW, every step of training and evaluating takes a while.
"""

import contextlib
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rafiki.model import (
    ArchKnob,
    BaseModel,
    Candidate,
    FixedKnob,
    KnobConfig,
    KnobValue,
    Params,
    Policy,
    PolicyKnob,
    load_images,
    logger,
)

POSITIONS = 6
CHOICES = 4
STEPS_PER_EPOCH = 5
VALUES = [KnobValue(choice) for choice in range(CHOICES)]


def _pause() -> None:
    name = os.environ.get("PLANTED_SLOW")
    if name:
        # The file may go away at any moment.
        with contextlib.suppress(FileNotFoundError):
            time.sleep(float(Path(name).read_text()))


class Planted(BaseModel):
    task = "IMAGE_CLASSIFICATION"

    @staticmethod
    def get_knob_config() -> KnobConfig:
        return {
            "epochs": FixedKnob(4),
            "path": ArchKnob([VALUES] * POSITIONS),
            "share_params": PolicyKnob(Policy.SHARE_PARAMS),
            "early_stop": PolicyKnob(Policy.EARLY_STOP),
            "skip_train": PolicyKnob(Policy.SKIP_TRAIN),
            "quick_eval": PolicyKnob(Policy.QUICK_EVAL),
            "downscale": PolicyKnob(Policy.DOWNSCALE),
        }

    def __init__(self, **knobs: Any) -> None:
        self.knobs = knobs
        self.table = np.zeros((POSITIONS, CHOICES))

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        load_images(dataset_path)
        self.table = np.zeros((POSITIONS, CHOICES))
        if shared_params is not None:
            self.load_parameters(shared_params)
        random = np.random.default_rng(self.seed)
        for epoch in range(self.knobs["epochs"]):
            _pause()
            self._step(self.knobs["path"], random)
            logger.log(epoch=epoch, norm=float(np.abs(self.table).sum()))
            if logger.progress((epoch + 1) / self.knobs["epochs"]):
                break

    def evaluate(self, dataset_path: str) -> float:
        load_images(dataset_path)
        return self._score(self.knobs["path"])

    def predict(self, queries: list[object]) -> list[object]:
        return [[1.0, 0.0] for _ in queries]

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
        load_images(dataset_path)
        self.table = np.zeros((POSITIONS, CHOICES))
        if shared_params is not None:
            self.load_parameters(shared_params)
        random = np.random.default_rng(data_seed)
        updates: dict[str, int] = {}
        for number, candidate in enumerate(candidates):
            _pause()
            self._step(candidate["path"], random)
            for position in range(POSITIONS):
                path = f"table/{position}"
                updates[path] = updates.get(path, 0) + 1
            logger.progress((number + 1) / len(candidates))
        return {"steps_per_epoch": STEPS_PER_EPOCH, "updates": updates, "loss": 0.5}

    def evaluate_candidates(
        self, dataset_path: str, candidates: Sequence[Candidate], *, seed: int
    ) -> list[float]:
        load_images(dataset_path)
        _pause()
        noise = np.random.default_rng(seed).normal(scale=0.01)
        return [self._score(candidate["path"]) + noise for candidate in candidates]

    def dump_parameters(self) -> dict[str, np.ndarray]:
        return {f"table/{position}": row.copy() for position, row in enumerate(self.table)}

    def load_parameters(self, params: Params) -> None:
        self.table = np.stack([params[f"table/{position}"] for position in range(POSITIONS)])

    def _step(self, path: Sequence[Any], random: np.random.Generator) -> None:
        for position, choice in enumerate(path):
            self.table[position, choice] += random.uniform(0.5, 1.5)

    def _score(self, path: Sequence[Any]) -> float:
        planted = sum(choice == position % CHOICES for position, choice in enumerate(path))
        weights = sum(self.table[position, choice] for position, choice in enumerate(path))
        return float(planted / POSITIONS + 1e-3 * np.tanh(weights / 100))
