"""A template without anything to tune. For PLANTED_SLOW see `planted.py`."""

import contextlib
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from rafiki.model import BaseModel, FixedKnob, KnobConfig, Params, logger

EPOCHS = 4


class Settled(BaseModel):
    task = "IMAGE_CLASSIFICATION"

    @staticmethod
    def get_knob_config() -> KnobConfig:
        return {"rate": FixedKnob(0.1)}

    def __init__(self, **knobs: Any) -> None:
        self.rate = knobs["rate"]
        self.weight = 0.0

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        random = np.random.default_rng(self.seed)
        name = os.environ.get("PLANTED_SLOW")
        for epoch in range(EPOCHS):
            if name:
                # The file may go away at any moment.
                with contextlib.suppress(FileNotFoundError):
                    time.sleep(float(Path(name).read_text()))
            self.weight += self.rate * random.normal()
            logger.progress((epoch + 1) / EPOCHS)

    def evaluate(self, dataset_path: str) -> float:
        return self.weight

    def predict(self, queries: list[object]) -> list[object]:
        return [[1.0, 0.0] for _ in queries]

    def dump_parameters(self) -> dict[str, np.ndarray]:
        return {"weight": np.array(self.weight)}

    def load_parameters(self, params: Params) -> None:
        self.weight = float(params["weight"])
