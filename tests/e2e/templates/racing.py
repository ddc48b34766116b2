"""A template that is as good as its knob says, and reports so all the way."""

import time
from typing import Any

import numpy as np

from rafiki.model import BaseModel, FixedKnob, FloatKnob, KnobConfig, Params, logger

STEPS = 150
STEP_S = 0.02


class Racing(BaseModel):
    task = "IMAGE_CLASSIFICATION"

    @staticmethod
    def get_knob_config() -> KnobConfig:
        return {"quality": FloatKnob(0.0, 1.0), "steps": FixedKnob(STEPS)}

    def __init__(self, **knobs: Any) -> None:
        self.quality = knobs["quality"]
        self.steps = knobs["steps"]
        self.done = 0

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        for step in range(1, self.steps + 1):
            time.sleep(STEP_S)
            self.done = step
            logger.log(step=step, score=self.quality)
            if logger.progress(step / self.steps):
                logger.log("told to stop")
                return

    def evaluate(self, dataset_path: str) -> float:
        return float(self.quality)

    def predict(self, queries: list[object]) -> list[object]:
        return [[1.0, 0.0] for _ in queries]

    def dump_parameters(self) -> dict[str, np.ndarray]:
        return {"done": np.array(self.done)}

    def load_parameters(self, params: Params) -> None:
        self.done = int(params["done"])
