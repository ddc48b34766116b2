import pytest
from tests.client.health.studies import (
    BAYES_OPT,
    ENAS,
    arm,
    finding,
    health,
    rounds,
    study,
    titles,
    trial,
    tunes,
)

from rafiki.client.health import Level
from rafiki.resources import Candidate, Trial, TrialPhase

ROUNDS = rounds([0.4, 0.5])
CELL = {"cell": (0, 1, 2, 3)}
OTHER = {"cell": (3, 2, 1, 0)}
EVALUATED = trial(
    1,
    TrialPhase.FINAL_EVAL,
    0.67,
    candidates=(Candidate(archs=CELL, score=0.67), Candidate(archs=OTHER, score=0.6)),
)


def trained(
    number: int, score: float, *, control: bool = False, test_score: float | None = None
) -> Trial:
    return trial(
        number,
        TrialPhase.FINAL_TRAIN,
        score,
        control=control,
        test_score=test_score,
        candidates=(Candidate(archs=CELL),),
    )


def test_scores_on_shared_weights_are_labelled_while_there_are_no_others() -> None:
    found = finding(health(study(ENAS, ended=False), rounds=ROUNDS), "Scores on shared weights")
    assert found.level is Level.OK
    assert "expected, and no bug" in found.explanation
    assert found.figures == {"mean_reward": 0.5}


def test_the_gap_to_the_final_score_is_told_and_expected() -> None:
    trials = [EVALUATED, trained(2, 0.96, test_score=0.95)]
    found = finding(health(study(ENAS), rounds=ROUNDS, trials=trials), "Scores on shared weights")
    assert found.level is Level.OK
    assert found.figures["shared_weight_score"] == 0.67
    assert found.figures["final_score"] == 0.96
    assert found.figures["test_score"] == 0.95


# Random architectures differ by 0.1, the standard deviation of their arm.
@pytest.mark.parametrize(("score", "level"), [(0.66, Level.NOTE), (0.56, Level.WARNING)])
def test_a_final_training_far_below_the_shared_weights_is_a_warning(
    score: float, level: Level
) -> None:
    trials = [EVALUATED, trained(2, score)]
    ended = study(ENAS, control_arm=arm(0.6, 0.5))
    found = finding(health(ended, rounds=ROUNDS, trials=trials), "model no better")
    assert found.level is level
    assert found.figures["shared_weight_score"] == 0.67
    assert found.figures["final_score"] == score
    assert found.figures["random_spread"] == 0.1


def compared(found: list[float], controls: list[float]) -> tuple[str, Level]:
    trials = [trained(number, score) for number, score in enumerate(found, 10)]
    trials += [trained(number, score, control=True) for number, score in enumerate(controls, 100)]
    told = [
        one
        for one in health(study(ENAS), rounds=ROUNDS, trials=trials).findings
        if "random" in one.title and "random_count" in one.figures
    ]
    assert len(told) == 1
    return told[0].title, told[0].level


@pytest.mark.parametrize(
    ("found", "controls", "level"),
    [
        ([0.9], [0.8, 0.8], Level.NOTE),  # too few
        ([0.7], [0.8, 0.8], Level.NOTE),
        ([0.9], [0.8, 0.85, 0.89], Level.OK),
        ([0.9], [0.8, 0.85, 0.9], Level.NOTE),  # one of three is as good
        ([0.9], [0.8, 0.95, 0.9], Level.WARNING),  # two of three
        ([0.90, 0.91, 0.92], [0.80, 0.81, 0.82], Level.OK),
        ([0.90, 0.91, 0.92], [0.90, 0.91, 0.92], Level.WARNING),
        ([0.80, 0.81, 0.82], [0.90, 0.91, 0.92], Level.WARNING),
    ],
)
def test_the_model_found_is_compared_with_random_ones(
    found: list[float], controls: list[float], level: Level
) -> None:
    assert compared(found, controls)[1] is level


def test_a_few_random_models_decide_nothing() -> None:
    assert "Too few" in compared([0.9], [0.8])[0]


def test_a_model_without_random_ones_beside_it_is_told_how_to_get_them() -> None:
    found = health(study(ENAS), rounds=ROUNDS, trials=[trained(2, 0.9)])
    told = finding(found, "beats a random one is not measured")
    assert "final_controls=3" in told.explanation


@pytest.mark.parametrize(
    ("score", "title", "level"),
    [
        (0.8, "confirmed the search", Level.OK),
        (0.7, "confirmed the search", Level.OK),
        (0.69, "worse than the search promised", Level.NOTE),
    ],
)
def test_full_training_is_compared_with_the_same_setting_in_the_search(
    score: float, title: str, level: Level
) -> None:
    final = trial(50, TrialPhase.FINAL_TRAIN, score, knobs={"rate": 0.002}, test_score=0.5)
    found = finding(health(study(BAYES_OPT), trials=[*tunes([0.9, 0.7, 0.6]), final]), title)
    assert found.level is level
    assert found.figures == {"tune_score": 0.7, "final_score": score, "test_score": 0.5}


def test_full_training_of_a_setting_never_searched_is_compared_with_nothing() -> None:
    final = trial(50, TrialPhase.FINAL_TRAIN, 0.5, knobs={"rate": 0.9})
    found = titles(health(study(BAYES_OPT), trials=[*tunes([0.9, 0.7]), final]))
    assert not any("raining in full" in title for title in found)
