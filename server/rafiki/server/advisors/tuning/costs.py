"""What trials of a study take, by what was measured so far."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rafiki.resources import TrialCosts, TrialPhase


@dataclass(slots=True)
class Costs:
    """The PROBE, once there is one, and the wall time of the trials that completed."""

    probe: TrialCosts | None = None
    tune_s: float = 0.0
    tunes: int = 0
    final_s: float = 0.0
    finals: int = 0

    def add(self, phase: TrialPhase, run_s: float) -> None:
        """Counts a completed trial in."""
        if phase is TrialPhase.FINAL_TRAIN:
            self.final_s += run_s
            self.finals += 1
        else:
            self.tune_s += run_s
            self.tunes += 1

    @property
    def trial_s(self) -> float:
        """Seconds that a TUNE trial takes: the mean, or by the PROBE; 0 if unknown.

        A PROBE with EARLY_STOP measures this as a search training, else as a final one.
        """
        if self.tunes:
            return self.tune_s / self.tunes
        probe = self.probe or TrialCosts()
        return probe.search_train_s or probe.final_train_s

    @property
    def full_s(self) -> float:
        """Seconds that a FINAL_TRAIN takes: the mean, or by the PROBE; 0 if unknown.

        It is compiled anew, other than what the PROBE measured. It takes no less than a
        TUNE trial, which may show that the PROBE was too short to tell.
        """
        if self.finals:
            return self.final_s / self.finals
        probe = self.probe or TrialCosts()
        return max(probe.final_train_s + probe.compile_s, self.trial_s)

    def finals_s(self, count: int, workers: int) -> float:
        """Seconds that `count` FINAL_TRAIN trials take, side by side on the workers."""
        return math.ceil(count / max(1, workers)) * self.full_s

    def dump(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        return asdict(self)

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> "Costs":
        """Restores what `dump` gave, from JSON."""
        probe = values["probe"]
        return cls(**{**values, "probe": TrialCosts(**probe) if probe else None})
