"""A template that learns nothing and saves four megabytes, other ones in every trial."""

from typing import Any

import numpy as np

from rafiki.model import BaseModel, FloatKnob, KnobConfig, Params

VALUES = 1 << 19


class Bulky(BaseModel):
    task = "IMAGE_CLASSIFICATION"

    @staticmethod
    def get_knob_config() -> KnobConfig:
        return {"rate": FloatKnob(0.0, 1.0)}

    def __init__(self, **knobs: Any) -> None:
        self.rate = knobs["rate"]
        self.weights = np.zeros(VALUES)

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        self.weights = np.random.default_rng(self.seed).normal(size=VALUES)

    def evaluate(self, dataset_path: str) -> float:
        return float(self.rate)

    def predict(self, queries: list[object]) -> list[object]:
        return [[1.0, 0.0] for _ in queries]

    def dump_parameters(self) -> dict[str, np.ndarray]:
        return {"weights": self.weights}

    def load_parameters(self, params: Params) -> None:
        self.weights = params["weights"]
