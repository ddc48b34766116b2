"""Trials: what is proposed to a worker and what comes of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from rafiki.model.knobs import Policy, Scalar
from rafiki.resources.enums import LogLevel, StopReason, TrialErrorKind, TrialPhase, TrialState
from rafiki.resources.params import Shard

# One architecture: for every arch knob by name, one index per position into its choices.
Archs = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One architecture of a trial, with its score once there is one (finite)."""

    archs: Archs
    score: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialError:
    """Why a trial failed: a kind, one line for people, the tail of the traceback."""

    kind: TrialErrorKind
    message: str
    traceback: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialTimings:
    """Where the time of one attempt went, in seconds."""

    queue_s: float = 0.0
    setup_s: float = 0.0
    compile_s: float = 0.0
    train_s: float = 0.0
    evaluate_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialCosts:
    """What a PROBE measured, in seconds without compilation; 0 means not measured."""

    steps_per_epoch: int = 0
    search_train_s: float = 0.0
    search_eval_s: float = 0.0
    final_eval_s: float = 0.0
    final_train_s: float = 0.0
    compile_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialProgress:
    """How far a trial has come: the share done in [0, 1], and seconds left if known."""

    fraction: float
    remaining_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialOutcome:
    """What a worker reports of a trial that ended well."""

    score: float | None = None
    candidate_scores: tuple[float, ...] = ()  # may hold NaN: unscored
    test_score: float | None = None
    checkpoint: str = ""  # its name
    costs: TrialCosts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One piece of work for one worker; see the message of the same name."""

    name: str
    phase: TrialPhase
    knobs: Mapping[str, Scalar] = field(default_factory=dict)
    candidates: tuple[Candidate, ...] = ()
    policies: frozenset[Policy] = frozenset()
    seed: int = 0
    start_checkpoint: str = ""
    round: int = 0
    shard: Shard | None = None
    data_seed: int = 0
    control: bool = False
    state: TrialState = TrialState.PENDING
    attempt: int = 1
    worker: str = ""
    score: float | None = None
    test_score: float | None = None
    final_checkpoint: str = ""
    stop_reason: StopReason | None = None
    error: TrialError | None = None
    timings: TrialTimings | None = None
    create_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    progress: TrialProgress | None = None
    basis: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialLog:
    """One line logged by a trial; `attempt` is set by the server."""

    sequence: int
    time: datetime
    level: LogLevel
    message: str
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialMetrics:
    """Values measured together; `attempt` is set by the server."""

    sequence: int
    time: datetime
    values: Mapping[str, float]
    step: int = 0
    score: float | None = None
    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialPlot:
    """A plot over metrics, declared by a model; an empty `x_axis` means time."""

    title: str
    metrics: tuple[str, ...]
    x_axis: str = ""
