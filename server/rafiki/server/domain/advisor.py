"""The port between a study and the scheme that searches for it.

An advisor is a fold: its state is a function of its configuration and of the events
applied so far, in their order. `decide` reads that state and changes nothing; only
`apply` changes it, and it is called only with what has been committed. So a server that
was killed restores the latest `dump`, applies the events after it, and decides the same.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rafiki.model.knobs import KnobConfig, Policy, Scalar
from rafiki.resources import (
    AdvisorSettings,
    Archs,
    Candidate,
    ControlArm,
    Direction,
    EndReason,
    Shard,
    StudyPlan,
    StudyRound,
    TrialCosts,
    TrialError,
    TrialPhase,
    TrialState,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisorConfig:
    """What an advisor is made from, all of it fixed for the life of the study.

    `settings` is resolved: `kind`, the options of the kind and `final_trains` are set.
    `batch_size` is how many candidates one trial may hold: 1 for a template (or an
    external study) that takes no batches. `time_s` and `model_trial_count` are the
    limits of the budget, None for none. `has_probe` is False for external studies.
    """

    study: str
    knob_config: KnobConfig
    settings: AdvisorSettings
    direction: Direction
    seed: int
    batch_size: int
    has_probe: bool
    time_s: float | None = None
    model_trial_count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A trial before it has run. `basis` says, in numbers, what it was based on."""

    phase: TrialPhase
    knobs: Mapping[str, Scalar] = field(default_factory=dict)
    candidates: tuple[Archs, ...] = ()
    policies: frozenset[Policy] = frozenset()
    start_checkpoint: str = ""
    round: int = 0
    shard: Shard | None = None
    data_seed: int = 0
    control: bool = False
    evaluate: bool = True
    save: bool = True
    basis: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to propose until a running trial ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Nothing will be proposed again; the study ends once its running trials have."""

    reason: EndReason
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """The checkpoints of all shards of a round are to be merged into one.

    `base` is the checkpoint that they started from, `shards` are theirs in shard order,
    `number` is the last of their trials to end.
    """

    number: int
    round: int
    base: str
    shards: tuple[str, ...]


Decision = Proposal | Merge | Wait | Finish


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a decision may depend on beside the events: it is recorded with the proposal.

    `number` is the number the proposed trial will get, `elapsed_s` the used part of the
    time budget in seconds, `workers` the sessions open that can run trials of the study.
    """

    number: int
    elapsed_s: float
    workers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """A proposal was committed as trial `number`, at `at_s` of the time budget."""

    number: int
    at_s: float
    proposal: Proposal


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """Trial `number` ended for good, at `at_s` of the time budget.

    `candidates` are those of the proposal with their scores (None: unscored).
    `run_s` is the wall time of the last attempt, from assignment to outcome.
    """

    number: int
    at_s: float
    state: TrialState
    score: float | None = None
    candidates: tuple[Candidate, ...] = ()
    checkpoint: str = ""
    error: TrialError | None = None
    costs: TrialCosts | None = None
    run_s: float = 0.0
    compile_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """Running trial `number` has the intermediate score `score` after `step` steps.

    Comes only if the settings have `early_stopping`, and for finite scores.
    """

    number: int
    at_s: float
    step: int
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """What a `Merge` asked for is done: `checkpoint` is the weight version `round`.

    Or it cannot be done, as `error` says; then `checkpoint` is "".
    """

    number: int
    at_s: float
    round: int
    checkpoint: str
    merge_s: float
    error: str = ""


Event = Proposed | Reported | Ended | Merged


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisorState:
    """A snapshot: `values` is plain JSON, `arrays` are NumPy arrays by name."""

    values: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, "np.ndarray[Any, Any]"] = field(default_factory=dict)


class Advisor(ABC):
    """Decides what a study tries next. Not thread-safe: its study serialises all calls."""

    @abstractmethod
    def decide(self, situation: Situation) -> Decision:
        """What to do next. Pure: the same state and situation give the same decision."""

    @abstractmethod
    def apply(self, event: Event) -> None:
        """Folds in the next committed event."""

    @abstractmethod
    def plan(self, elapsed_s: float) -> StudyPlan:
        """The plan by the costs known so far, at `elapsed_s` of the time budget."""

    @abstractmethod
    def phase(self) -> TrialPhase:
        """The phase of the trials now proposed."""

    @abstractmethod
    def dump(self) -> AdvisorState:
        """The state after the events applied so far, for `load` of a fresh instance."""

    @abstractmethod
    def load(self, state: AdvisorState) -> None:
        """Restores what `dump` gave; the instance must be made from an equal config."""

    @property
    def proposes_ahead(self) -> bool:
        """Whether outcomes that are still to come would not change what is proposed now."""
        return False

    def stops(self) -> frozenset[int]:
        """The running trials to be told to stop, because their scores are behind."""
        return frozenset()

    def needed_checkpoints(self) -> frozenset[str]:
        """The checkpoints that a trial may yet start from, or that may yet be merged.

        One that is not among them now is never again, unless an event after this one names it.
        """
        return frozenset()

    def rounds(self) -> tuple[StudyRound, ...]:
        """The rounds completed so far, in order. None for schemes without rounds."""
        return ()

    def control_arm(self) -> ControlArm | None:
        """The scheme's draws against uniform ones, if it has a control arm."""
        return None
