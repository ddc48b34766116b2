"""What a study has to show, in the terms in which it is judged."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rafiki.resources import (
    AdvisorKind,
    Direction,
    ScoreStats,
    Study,
    StudyRound,
    StudyState,
    TrainJob,
    Trial,
    TrialPhase,
    TrialState,
)

# Differences of so many standard errors are told: chance alone makes one in about twenty.
CLEAR_ERRORS = 2.0

LEARNERS = (AdvisorKind.ENAS, AdvisorKind.REINFORCE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A study with its rounds that scored something, in order, and its trials by number."""

    job: TrainJob
    study: Study
    rounds: tuple[StudyRound, ...]
    trials: tuple[Trial, ...]

    @property
    def kind(self) -> AdvisorKind | None:
        """The scheme."""
        return self.study.spec.advisor.kind

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will come of the study."""
        return self.study.state is not StudyState.RUNNING

    @property
    def sign(self) -> int:
        """What scores are multiplied with so that higher is better."""
        return 1 if self.job.direction is Direction.MAXIMIZE else -1

    def best(self, scores: Sequence[float]) -> float:
        """The best of some scores."""
        return max(scores) if self.sign > 0 else min(scores)

    def completed(self, phase: TrialPhase, *, control: bool = False) -> list[Trial]:
        """The completed trials of a phase, of the control arm or of the search."""
        return [
            trial
            for trial in self.trials
            if trial.phase is phase
            and trial.control is control
            and trial.state is TrialState.COMPLETED
        ]

    def scores(self, phase: TrialPhase, *, control: bool = False) -> list[float]:
        """Their scores, in order; those of the candidates where trials hold several."""
        return [
            score for trial in self.completed(phase, control=control) for score in scores_of(trial)
        ]

    @property
    def is_measured(self) -> bool:
        """Whether anything was scored."""
        return bool(self.rounds) or any(
            self.scores(phase) for phase in (TrialPhase.TUNE, TrialPhase.FINAL_TRAIN)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """By how much one mean is better than another: positive for better, and its error."""

    value: float
    standard_error: float

    @property
    def is_clear(self) -> bool:
        """Whether chance would hardly make it."""
        return abs(self.value) > CLEAR_ERRORS * self.standard_error


def difference(first: ScoreStats, second: ScoreStats, sign: int) -> Difference:
    """Of the means of two arms, which must not be empty.

    The error is that of Welch: the variances of the two need not be equal.
    """
    variance = sum(stats.standard_deviation**2 / stats.count for stats in (first, second))
    return Difference(value=sign * (first.mean - second.mean), standard_error=math.sqrt(variance))


def stats_of(scores: Sequence[float], sign: int) -> ScoreStats:
    """The stats of at least one score."""
    return ScoreStats(
        count=len(scores),
        mean=statistics.fmean(scores),
        standard_deviation=statistics.stdev(scores) if len(scores) > 1 else 0.0,
        best=max(scores) if sign > 0 else min(scores),
    )


def scores_of(trial: Trial) -> list[float]:
    """The scores of a trial: its own, or of several candidates those of them that have one."""
    if len(trial.candidates) > 1:
        return [candidate.score for candidate in trial.candidates if candidate.score is not None]
    return [] if trial.score is None else [trial.score]


def text(value: float) -> str:
    """A figure in a sentence."""
    return f"{value:.4g}"


def counted(number: int, noun: str) -> str:
    """A number of things: `1 round`, `2 rounds`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
