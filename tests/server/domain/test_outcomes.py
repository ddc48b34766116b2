"""What a worker may report of a trial, and what it comes to."""

import math
from dataclasses import replace

import pytest

from rafiki.resources import (
    Candidate,
    Direction,
    Trial,
    TrialCosts,
    TrialOutcome,
    TrialPhase,
    TrialState,
)
from rafiki.server.domain.errors import InvalidArgument
from rafiki.server.domain.outcomes import completed, is_behind

STUDY = "trainJobs/0123abcd/studies/1"
TUNE = Trial(name=f"{STUDY}/trials/3", phase=TrialPhase.TUNE, attempt=2)
BATCH = replace(TUNE, candidates=tuple(Candidate(archs={"cell": (n,)}) for n in range(3)))
SINGLE = replace(TUNE, candidates=BATCH.candidates[:1])
PROBE = replace(TUNE, phase=TrialPhase.PROBE)
FINAL = replace(TUNE, phase=TrialPhase.FINAL_TRAIN)
OWN = f"{STUDY}/checkpoints/3-2"


def end(
    trial: Trial,
    outcome: TrialOutcome,
    *,
    evaluate: bool = True,
    save: bool = False,
    direction: Direction = Direction.MAXIMIZE,
    has_test_dataset: bool = False,
) -> Trial:
    return completed(
        trial,
        outcome,
        evaluate=evaluate,
        save=save,
        direction=direction,
        has_test_dataset=has_test_dataset,
    )


@pytest.mark.parametrize(
    ("direction", "best"), [(Direction.MAXIMIZE, 0.75), (Direction.MINIMIZE, 0.25)]
)
def test_the_score_of_a_batch_is_that_of_its_best_candidate(
    direction: Direction, best: float
) -> None:
    outcome = TrialOutcome(candidate_scores=(0.25, math.nan, 0.75))
    trial = end(BATCH, outcome, direction=direction)
    assert (trial.state, trial.score) == (TrialState.COMPLETED, best)
    assert [candidate.score for candidate in trial.candidates] == [0.25, None, 0.75]


def test_a_batch_that_is_all_nan_has_no_score() -> None:
    trial = end(BATCH, TrialOutcome(candidate_scores=(math.nan,) * 3))
    assert (trial.state, trial.score) == (TrialState.COMPLETED, None)


def test_the_only_candidate_has_the_score_of_its_trial() -> None:
    assert end(SINGLE, TrialOutcome(score=0.5)).candidates[0].score == 0.5


def test_a_trial_that_does_not_evaluate_has_no_score() -> None:
    trial = end(TUNE, TrialOutcome(score=0.5, checkpoint=OWN), evaluate=False, save=True)
    assert (trial.score, trial.final_checkpoint) == (None, OWN)


def test_a_test_score_is_kept_where_there_is_test_data() -> None:
    outcome = TrialOutcome(score=0.5, test_score=0.4)
    assert end(FINAL, outcome, has_test_dataset=True).test_score == 0.4


@pytest.mark.parametrize(
    ("trial", "outcome", "field"),
    [
        (TUNE, TrialOutcome(), "score"),
        (TUNE, TrialOutcome(score=math.nan), "score"),
        (TUNE, TrialOutcome(score=math.inf), "score"),
        (SINGLE, TrialOutcome(candidate_scores=(0.5,)), "candidate_scores"),
        (BATCH, TrialOutcome(score=0.5), "candidate_scores"),
        (BATCH, TrialOutcome(candidate_scores=(0.5, 0.5)), "candidate_scores"),
        (BATCH, TrialOutcome(candidate_scores=(0.5, 0.5, -math.inf)), "candidate_scores[2]"),
        (FINAL, TrialOutcome(score=0.5, test_score=0.5), "test_score"),
        (TUNE, TrialOutcome(score=0.5, checkpoint=f"{STUDY}/checkpoints/3-1"), "checkpoint"),
        (TUNE, TrialOutcome(score=0.5, checkpoint=f"{STUDY}/checkpoints/2-2"), "checkpoint"),
        (PROBE, TrialOutcome(score=0.5), "costs"),
    ],
)
def test_an_outcome_that_cannot_be_names_its_field(
    trial: Trial, outcome: TrialOutcome, field: str
) -> None:
    with pytest.raises(InvalidArgument) as raised:
        end(trial, outcome)
    assert raised.value.violations[0][0] == f"completed.{field}"


def test_what_is_to_be_saved_needs_a_checkpoint() -> None:
    with pytest.raises(InvalidArgument, match=r"completed\.checkpoint"):
        end(TUNE, TrialOutcome(score=0.5), save=True)


def test_a_probe_is_complete_with_its_costs() -> None:
    trial = end(PROBE, TrialOutcome(costs=TrialCosts(steps_per_epoch=3)), evaluate=False)
    assert trial.state is TrialState.COMPLETED


def test_the_direction_says_which_score_is_behind() -> None:
    assert is_behind(0.1, 0.2, Direction.MAXIMIZE)
    assert is_behind(0.2, 0.1, Direction.MINIMIZE)
    assert not is_behind(0.1, 0.1, Direction.MINIMIZE)
