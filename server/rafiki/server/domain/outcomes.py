"""Outcomes: what a worker may report of a trial, and what it comes to."""

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

from rafiki.resources import (
    Candidate,
    Direction,
    Trial,
    TrialError,
    TrialOutcome,
    TrialPhase,
    TrialState,
)
from rafiki.server.domain.errors import InvalidArgument
from rafiki.server.domain.names import CheckpointName, TrialName


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The trial ended without an outcome because the server said so."""


Outcome: TypeAlias = TrialOutcome | TrialError | Cancelled


def is_behind(score: float, other: float, direction: Direction) -> bool:
    """Whether `score` is worse than `other`."""
    return score > other if direction is Direction.MINIMIZE else score < other


def completed(
    trial: Trial,
    outcome: TrialOutcome,
    *,
    evaluate: bool,
    save: bool,
    direction: Direction,
    has_test_dataset: bool,
) -> Trial:
    """`trial` with its outcome.

    Raises:
        InvalidArgument: The outcome lacks what the trial was to give, holds what it cannot
            have, or a score is not finite.
    """
    _check_numbers(outcome)
    if outcome.test_score is not None and not (
        has_test_dataset and trial.phase is TrialPhase.FINAL_TRAIN
    ):
        raise _invalid("test_score", "must be unset: only FINAL_TRAIN on test data has one")
    if trial.phase is TrialPhase.PROBE and outcome.costs is None:
        raise _invalid("costs", "must be set: measuring them is what a PROBE is for")
    _check_checkpoint(trial, outcome.checkpoint, is_needed=save)
    if outcome.costs is not None and trial.phase is not TrialPhase.PROBE:
        outcome = replace(outcome, costs=None)
    score, candidates = _scores(trial, outcome, direction) if evaluate else (None, trial.candidates)
    return replace(
        trial,
        state=TrialState.COMPLETED,
        score=score,
        candidates=candidates,
        test_score=outcome.test_score,
        final_checkpoint=outcome.checkpoint,
        error=None,
    )


def _scores(
    trial: Trial, outcome: TrialOutcome, direction: Direction
) -> tuple[float | None, tuple[Candidate, ...]]:
    count = len(trial.candidates)
    if count > 1:
        if len(outcome.candidate_scores) != count:
            raise _invalid(
                "candidate_scores",
                f"must have {count} entries, one per candidate, "
                f"not {len(outcome.candidate_scores)}",
            )
        scores = [None if math.isnan(score) else score for score in outcome.candidate_scores]
        candidates = tuple(
            replace(candidate, score=score)
            for candidate, score in zip(trial.candidates, scores, strict=True)
        )
        finite = [score for score in scores if score is not None]
        best = min if direction is Direction.MINIMIZE else max
        return best(finite, default=None), candidates
    if outcome.candidate_scores:
        raise _invalid("candidate_scores", "must be empty: the trial has no several candidates")
    if outcome.score is None:
        raise _invalid("score", "must be set")
    return outcome.score, tuple(replace(c, score=outcome.score) for c in trial.candidates)


def _check_numbers(outcome: TrialOutcome) -> None:
    for field, score in (("score", outcome.score), ("test_score", outcome.test_score)):
        if score is not None and not math.isfinite(score):
            raise _invalid(
                field, f"must be finite, not {score}; report a NON_FINITE_SCORE error instead"
            )
    for number, score in enumerate(outcome.candidate_scores):
        if math.isinf(score):
            raise _invalid(f"candidate_scores[{number}]", "must be finite, or NaN for unscored")


def _check_checkpoint(trial: Trial, checkpoint: str, *, is_needed: bool) -> None:
    if not checkpoint:
        if is_needed:
            raise _invalid("checkpoint", "must be set: the trial is to be saved")
        return
    name = TrialName.parse(trial.name)
    own = CheckpointName(name.job, name.study, name.trial, trial.attempt)
    if checkpoint != str(own):
        raise _invalid("checkpoint", f"must be the one this attempt saved, {own}")


def _invalid(field: str, description: str) -> InvalidArgument:
    return InvalidArgument([(f"completed.{field}", description)])
