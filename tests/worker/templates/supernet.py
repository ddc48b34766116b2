"""A template with the pair of candidate methods: a weight per choice, no arithmetic to speak of.

It logs what it is asked, for the tests to see.
"""

import time
from collections.abc import Sequence

import numpy as np

from rafiki.model import (
    ArchKnob,
    BaseModel,
    Candidate,
    FixedKnob,
    KnobConfig,
    Params,
    PolicyKnob,
    logger,
)

STEPS_PER_EPOCH = 40
STEP_S = 0.004


class Supernet(BaseModel):
    """The score of a candidate is the sum of the weights of its choices."""

    task = "NUMBERS"

    def __init__(self, **knobs: object) -> None:
        logger.log(f"constructed {knobs}")
        self.knobs = knobs
        self.weights: np.ndarray = np.zeros((2, 3))

    @staticmethod
    def get_knob_config() -> KnobConfig:
        return {
            "width": FixedKnob(4),
            "cell": ArchKnob([[0, 1, 2], [0, 1, 2]]),
            "share": PolicyKnob("SHARE_PARAMS"),
            "early": PolicyKnob("EARLY_STOP"),
            "skip": PolicyKnob("SKIP_TRAIN"),
            "quick": PolicyKnob("QUICK_EVAL"),
            "small": PolicyKnob("DOWNSCALE"),
        }

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        for step in range(2000):
            time.sleep(0.005)
            if logger.progress((step + 1) / 2000):
                return

    def evaluate(self, dataset_path: str) -> float:
        time.sleep(0.05)
        return 0.5

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
        self.weights = np.zeros((2, 3)) if shared_params is None else shared_params["weights"]
        updates = 0
        for number, candidate in enumerate(candidates):
            time.sleep(STEP_S)
            for position, choice in enumerate(candidate["cell"]):
                self.weights[position, int(choice)] += 1
            updates += 1
            if logger.progress((number + 1) / len(candidates)):
                break
        logger.log(f"trained {len(candidates)} shard={shard} data_seed={data_seed} round={round}")
        return {"steps_per_epoch": STEPS_PER_EPOCH, "updates": {"weights": updates}, "loss": 0.25}

    def evaluate_candidates(
        self, dataset_path: str, candidates: Sequence[Candidate], *, seed: int
    ) -> list[float]:
        time.sleep(0.01 * len(candidates))
        scores = [
            float(
                sum(
                    self.weights[position, int(choice)] for position, choice in enumerate(c["cell"])
                )
            )
            for c in candidates
        ]
        return [
            float("nan") if c["cell"] == [2, 2] else score
            for c, score in zip(candidates, scores, strict=False)
        ]

    def predict(self, queries: list[object]) -> list[object]:
        return [0 for _ in queries]

    def dump_parameters(self) -> dict[str, np.ndarray]:
        return {"weights": self.weights}

    def load_parameters(self, params: Params) -> None:
        logger.log("loaded")
        self.weights = params["weights"]
