"""Parameter sharing: which trials start from the best parameters so far."""

import math
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rafiki.server.domain.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class Start:
    """What a trial starts from ("" for fresh parameters), and what that was based on."""

    checkpoint: str
    basis: Mapping[str, float]


@dataclass(slots=True)
class BestParams:
    """The checkpoint of the best scored trial that has one; `trial` is 0 if there is none."""

    checkpoint: str = ""
    trial: int = 0
    reward: float = -math.inf

    def offer(self, checkpoint: str, trial: int, reward: float) -> None:
        """Takes in a scored trial; of equals the first stays."""
        if checkpoint and (not self.checkpoint or reward > self.reward):
            self.checkpoint, self.trial, self.reward = checkpoint, trial, reward

    def start(self, used_fraction: float, seed: int, number: int) -> Start:
        """What trial `number` starts from: the best with probability 1 - exp(-4 f), else fresh.

        Args:
            used_fraction: f, the used part of the tightest limit of the budget, in [0, 1].
            seed: That of the study.
            number: That of the trial.
        """
        fresh = math.exp(-4 * used_fraction)
        draw = random.Random(derive_seed(seed, "start", number)).random()
        is_fresh = not self.checkpoint or draw < fresh
        return Start(
            "" if is_fresh else self.checkpoint,
            {
                "used_fraction": used_fraction,
                "fresh_probability": fresh,
                "start_trial": 0.0 if is_fresh else float(self.trial),
            },
        )

    def dump(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        return asdict(self) if self.checkpoint else {}

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> "BestParams":
        """Restores what `dump` gave, from JSON."""
        return cls(**values)
