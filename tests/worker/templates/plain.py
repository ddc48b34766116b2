"""Templates in NumPy for tests of the worker; the data set is a file with one number."""

import os
import signal
import time
from typing import Any

import numpy as np

from rafiki.model import (
    BaseModel,
    CategoricalKnob,
    FixedKnob,
    FloatKnob,
    KnobConfig,
    Params,
    PolicyKnob,
    logger,
)


class Line(BaseModel):
    """Learns the number in the data set; `weight` and `steps` come from knobs."""

    task = "NUMBERS"

    def __init__(self, **knobs: Any) -> None:
        self.knobs = knobs
        self.drawn_in_constructor = np.random.default_rng(self.seed).integers(1 << 30)
        self.weight: np.ndarray = np.zeros((), np.float64)
        self.steps = 0

    @staticmethod
    def get_knob_config() -> KnobConfig:
        return {
            "rate": FloatKnob(0.0, 1.0),
            "mode": CategoricalKnob(
                ["ok", "raise", "nan", "exit", "segv", "sigkill", "memory", "slow", "deaf", "print"]
            ),
            "epochs": FixedKnob(5),
            "share": PolicyKnob("SHARE_PARAMS"),
            "early": PolicyKnob("EARLY_STOP"),
        }

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: Any
    ) -> None:
        if shared_params is not None:
            self.load_parameters(shared_params)
        target = float(open(dataset_path).read())
        match self.knobs["mode"]:
            case "raise":
                raise RuntimeError("the loss exploded\nin epoch 3")
            case "exit":
                os._exit(3)
            case "segv":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "sigkill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "memory":
                hoard = [np.ones(1 << 22) for _ in range(10_000)]
                logger.log(str(len(hoard)))
            case "slow":
                self._train_slowly()
            case "deaf":
                logger.log("cannot hear")
                time.sleep(60)
            case "print":
                print("printed to standard output")
                logger.log("logged", step=1, loss=0.5)
                logger.define_plot("Loss", ["loss"])
        self.weight = np.asarray(target * self.knobs["rate"] + train_args.get("offset", 0))
        self.steps += 5

    def _train_slowly(self) -> None:
        for step in range(6000):
            self.steps += 1
            if logger.progress(step / 6000):
                return
            time.sleep(0.01)

    def evaluate(self, dataset_path: str) -> float:
        if self.knobs["mode"] == "nan":
            return float("nan")
        return float(self.weight) - float(open(dataset_path).read())

    def predict(self, queries: list[object]) -> list[object]:
        return [float(self.weight)] * len(queries)

    def dump_parameters(self) -> dict[str, np.ndarray]:
        return {
            "weight": self.weight,
            "optimizer/steps": np.asarray(self.steps),
            "seed/constructor": np.asarray(self.drawn_in_constructor),
        }

    def load_parameters(self, params: Params) -> None:
        self.weight = params["weight"]
