"""What of a study never changes, and what follows from it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from rafiki.model.knobs import KnobConfig, arch_knobs
from rafiki.resources import (
    JSON,
    AdvisorKind,
    AdvisorSettings,
    Dataset,
    Direction,
    Model,
    TrialPhase,
)
from rafiki.server.domain.advisor import AdvisorConfig
from rafiki.server.domain.names import StudyName

# Scores of these phases are of models trained on their own: only they can be best.
DEPLOYABLE_PHASES = (TrialPhase.FINAL_TRAIN, TrialPhase.TUNE)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyFacts:
    """A study as it was created. `model` is None for an external study.

    `settings` is resolved. `time_s` and `model_trial_count` are the limits of the budget,
    None for none.
    """

    name: StudyName
    knob_config: KnobConfig
    settings: AdvisorSettings
    direction: Direction
    seed: int
    batch_size: int
    has_probe: bool
    model: Model | None = None
    train_dataset: Dataset | None = None
    validation_dataset: Dataset | None = None
    test_dataset: Dataset | None = None
    train_args: Mapping[str, JSON] = field(default_factory=dict)
    gpu_count: int = 0
    time_s: float | None = None
    model_trial_count: int | None = None
    goal_score: float | None = None

    @property
    def is_external(self) -> bool:
        """Whether any program that names the study is its worker."""
        return self.model is None

    def advisor_config(self) -> AdvisorConfig:
        """What its advisor is made from."""
        return AdvisorConfig(
            study=str(self.name),
            knob_config=self.knob_config,
            settings=self.settings,
            direction=self.direction,
            seed=self.seed,
            batch_size=self.batch_size,
            has_probe=self.has_probe,
            time_s=self.time_s,
            model_trial_count=self.model_trial_count,
        )

    def reaches_goal(self, score: float) -> bool:
        """Whether a deployable trial of this score ends the job."""
        if self.goal_score is None:
            return False
        if self.direction is Direction.MINIMIZE:
            return score <= self.goal_score
        return score >= self.goal_score


def batch_size(
    knob_config: KnobConfig,
    settings: AdvisorSettings,
    *,
    takes_batches: bool,
    candidate_batch_size: int | None,
) -> int:
    """How many candidates a trial may hold: what both the worker and the scheme take.

    Args:
        knob_config: The space.
        settings: Resolved.
        takes_batches: Whether the template takes batches; ignored for external studies.
        candidate_batch_size: What an external study takes; None for a template.
    """
    if not arch_knobs(knob_config):
        return 1
    offered = max(1, candidate_batch_size or 1)
    match settings.kind:
        case AdvisorKind.ENAS if settings.enas is not None:
            wanted = settings.enas.candidates_per_batch
            if candidate_batch_size is None:
                return wanted if takes_batches else 1
            return min(offered, wanted)
        # Without a supernet a template trains every architecture by a trial of its own.
        case AdvisorKind.RANDOM:
            return offered
        case AdvisorKind.REINFORCE if settings.reinforce is not None:
            return min(offered, settings.reinforce.batch_size)
        # The others choose each point by the scores of those before.
        case _:
            return 1


def has_probe(settings: AdvisorSettings, *, is_external: bool) -> bool:
    """Whether a study measures its costs first."""
    return not is_external and settings.kind is not AdvisorKind.FIXED
