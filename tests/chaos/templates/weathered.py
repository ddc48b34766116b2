"""A template for storms: quick, with a score that follows from knobs and seed alone.

It notes the score of every run in a file, synced, in the folder that CHAOS_RUNS names. What it
saves is small as a rule and now and then a megabyte: then uploads are long enough to be cut. The
train argument `pause_s` says how long it trains.
"""

import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from rafiki.model import (
    BaseModel,
    CategoricalKnob,
    FloatKnob,
    IntegerKnob,
    KnobConfig,
    Params,
    logger,
)

STEPS = 3
BONUS = {"plain": 0.0, "good": 0.1, "bad": -0.1}
# Values in a checkpoint, drawn by the seed.
SIZES = (16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 16, 4096, 4096, 1 << 14, 1 << 17)


class Weathered(BaseModel):
    task = "IMAGE_CLASSIFICATION"

    @staticmethod
    def get_knob_config() -> KnobConfig:
        return {
            "rate": FloatKnob(1e-4, 1.0, is_exp=True),
            "units": IntegerKnob(1, 64),
            "kind": CategoricalKnob(list(BONUS)),
        }

    def __init__(self, **knobs: Any) -> None:
        self.knobs = knobs
        self.drawn = np.zeros(0)

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: Any
    ) -> None:
        for step in range(1, STEPS + 1):
            time.sleep(train_args["pause_s"] / STEPS)
            logger.log(step=step, loss=1 / step)
            logger.progress(step / STEPS)
        size = SIZES[self.seed % len(SIZES)]
        self.drawn = np.random.default_rng(self.seed).normal(size=size)

    def evaluate(self, dataset_path: str) -> float:
        score = self._score()
        path = Path(os.environ["CHAOS_RUNS"]) / f"child-{os.getpid()}.jsonl"
        with path.open("a") as file:
            file.write(json.dumps({"seed": self.seed, "score": score}) + "\n")
            file.flush()
            os.fsync(file.fileno())
        return score

    def predict(self, queries: list[object]) -> list[object]:
        return [[1.0, 0.0] for _ in queries]

    def dump_parameters(self) -> dict[str, np.ndarray]:
        return {
            "seed": np.array(self.seed),
            "drawn": self.drawn,
            "same": np.arange(64.0),
        }

    def load_parameters(self, params: Params) -> None:
        self.drawn = params["drawn"]

    def _score(self) -> float:
        distance = (math.log10(self.knobs["rate"]) + 2) ** 2 / 4 + (self.knobs["units"] / 64 - 0.5)
        return (
            math.exp(-abs(distance))
            + BONUS[self.knobs["kind"]]
            + 1e-3 * math.tanh(self.drawn[:16].sum())
        )
