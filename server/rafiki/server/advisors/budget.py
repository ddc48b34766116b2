"""Counting trials against the limits of a budget."""

from collections.abc import Mapping
from typing import TypedDict

from rafiki.resources import EndReason, TrialPhase, TrialState
from rafiki.server.domain.advisor import AdvisorConfig, Finish


class TallyValues(TypedDict):
    """A `Tally` as plain JSON."""

    counted: int
    outstanding: int


class Tally:
    """How much of a trial count is used: trials of every phase but PROBE count.

    A trial counts once it is COMPLETED or ERRORED, and holds a place until then; a
    cancelled one gives its place back.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self.counted = 0
        self.outstanding = 0

    @property
    def free(self) -> float:
        """How many more trials may be proposed now; infinite without a limit."""
        if self.limit is None:
            return float("inf")
        return self.limit - self.counted - self.outstanding

    @property
    def is_spent(self) -> bool:
        """Whether the limit is reached by trials that have ended."""
        return self.limit is not None and self.counted >= self.limit

    def propose(self, phase: TrialPhase) -> None:
        """Takes a place for a trial of `phase`."""
        if phase is not TrialPhase.PROBE:
            self.outstanding += 1

    def end(self, phase: TrialPhase, state: TrialState) -> None:
        """Counts the end of a trial of `phase`."""
        if phase is TrialPhase.PROBE:
            return
        self.outstanding -= 1
        if state is not TrialState.CANCELLED:
            self.counted += 1

    def dump(self) -> TallyValues:
        """The counts as plain JSON."""
        return {"counted": self.counted, "outstanding": self.outstanding}

    def load(self, values: Mapping[str, int]) -> None:
        """Restores what `dump` gave."""
        self.counted = values["counted"]
        self.outstanding = values["outstanding"]


def is_time_over(config: AdvisorConfig, elapsed_s: float) -> bool:
    """Whether the time limit of the budget, if there is one, has passed."""
    return config.time_s is not None and elapsed_s >= config.time_s


def time_over(config: AdvisorConfig) -> Finish:
    """The end of a study whose time has passed."""
    return Finish(reason=EndReason.TIME, message=f"the time of {config.time_s or 0:.0f} s is over")


def count_over(config: AdvisorConfig) -> Finish:
    """The end of a study whose trial count is used up."""
    return Finish(
        reason=EndReason.TRIAL_COUNT,
        message=f"the trial count of {config.model_trial_count} is used up",
    )
