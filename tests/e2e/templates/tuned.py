"""A template of numbers with a score that follows from knobs, seed and shared parameters.

Every epoch reports its score. It logs what it was given, for tests to read, and fails for the
kind that the train argument `failing_kind` names. With a file
named in the environment variable PLANTED_SLOW, every epoch takes as many seconds as it says.
"""

import contextlib
import hashlib
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from rafiki.model import (
    BaseModel,
    CategoricalKnob,
    FixedKnob,
    FloatKnob,
    IntegerKnob,
    KnobConfig,
    Params,
    Policy,
    PolicyKnob,
    logger,
)

WEIGHTS = 4
BONUS = {"plain": 0.0, "good": 0.1, "bad": -0.1}


def _pause() -> None:
    name = os.environ.get("PLANTED_SLOW")
    if name:
        # The file may go away at any moment.
        with contextlib.suppress(FileNotFoundError):
            time.sleep(float(Path(name).read_text()))


class Tuned(BaseModel):
    task = "IMAGE_CLASSIFICATION"

    @staticmethod
    def get_knob_config() -> KnobConfig:
        return {
            "rate": FloatKnob(1e-4, 1.0, is_exp=True),
            "units": IntegerKnob(1, 64),
            "kind": CategoricalKnob(list(BONUS)),
            "epochs": FixedKnob(4),
            "share_params": PolicyKnob(Policy.SHARE_PARAMS),
            "early_stop": PolicyKnob(Policy.EARLY_STOP),
        }

    def __init__(self, **knobs: Any) -> None:
        self.knobs = knobs
        self.weights = np.zeros(WEIGHTS)

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        if train_args.get("failing_kind") == self.knobs["kind"]:
            raise RuntimeError("this kind fails")
        self.weights = np.zeros(WEIGHTS)
        given = "nothing"
        if self.knobs["share_params"] and shared_params is not None:
            self.load_parameters(shared_params)
            given = hashlib.sha256(self.weights.tobytes()).hexdigest()
        logger.log(f"shared_params {given}")
        logger.log(f"early_stop {self.knobs['early_stop']}")
        random = np.random.default_rng(self.seed)
        epochs = self.knobs["epochs"] // (2 if self.knobs["early_stop"] else 1)
        for epoch in range(1, epochs + 1):
            _pause()
            self.weights += self.knobs["rate"] * random.normal(size=WEIGHTS)
            logger.log(step=epoch, score=self._score())
            if logger.progress(epoch / epochs):
                break

    def evaluate(self, dataset_path: str) -> float:
        return self._score()

    def predict(self, queries: list[object]) -> list[object]:
        return [[1.0, 0.0] for _ in queries]

    def dump_parameters(self) -> dict[str, np.ndarray]:
        return {"weights": self.weights.copy()}

    def load_parameters(self, params: Params) -> None:
        self.weights = np.array(params["weights"], np.float64)

    def _score(self) -> float:
        distance = (math.log10(self.knobs["rate"]) + 2) ** 2 / 4 + (self.knobs["units"] / 64 - 0.5)
        return float(
            math.exp(-abs(distance))
            + BONUS[self.knobs["kind"]]
            + 0.01 * np.tanh(self.weights.sum())
        )
