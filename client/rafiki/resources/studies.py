"""Studies: what is searched, how, with what plan, and how it goes."""

from dataclasses import dataclass, field
from datetime import datetime

from rafiki.model.knobs import KnobConfig
from rafiki.resources.advisors import AdvisorSettings
from rafiki.resources.enums import EndReason, StudyState, TrialPhase
from rafiki.resources.trials import Candidate


@dataclass(frozen=True, slots=True, kw_only=True)
class StudySpec:
    """What a study searches: a registered model (its name), or an inline knob config."""

    model: str = ""
    knob_config: KnobConfig | None = None
    candidate_batch_size: int = 0
    advisor: AdvisorSettings = field(default_factory=AdvisorSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlan:
    """What fits the budget by the costs known so far; durations in seconds."""

    rounds: int = 0
    completed_rounds: int = 0
    candidates_per_round: int = 0
    trials: int = 0
    final_trains: int = 0
    final_reserve_s: float = 0.0
    remaining_s: float = 0.0
    measured: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreStats:
    """The finite scores of one arm: `standard_deviation` is of the sample (n - 1)."""

    count: int
    mean: float
    standard_deviation: float
    best: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlArm:
    """The advisor's draws against uniform ones, evaluated alike.

    `rank_correlation` is Kendall's tau-b over `rank_count` candidates, between scores on
    shared weights and after training from fresh parameters; None below 3 candidates.
    """

    search: ScoreStats
    control: ScoreStats
    rank_correlation: float | None = None
    rank_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRound:
    """A completed round: one weight version and the candidates scored on it.

    Of REINFORCE: one update of the controller, with `checkpoint` "".
    """

    study: str
    round: int
    checkpoint: str
    mean_reward: float
    baseline: float
    entropy: float
    best: Candidate | None = None
    control: ScoreStats | None = None
    train_s: float = 0.0
    merge_s: float = 0.0
    evaluate_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """The search of one model or external space. `spec.advisor` is resolved."""

    name: str
    spec: StudySpec
    knob_config: KnobConfig
    state: StudyState = StudyState.RUNNING
    phase: TrialPhase | None = None
    plan: StudyPlan = field(default_factory=StudyPlan)
    completed_trials: int = 0
    errored_trials: int = 0
    cancelled_trials: int = 0
    best_trial: str = ""
    control_arm: ControlArm | None = None
    end_reason: EndReason | None = None
    end_message: str = ""
    end_time: datetime | None = None
