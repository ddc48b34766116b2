import math
from dataclasses import replace

import pytest
from tests.client.health.studies import (
    BAYES_OPT,
    ENAS,
    RANDOM,
    arm,
    finding,
    health,
    job,
    rounds,
    study,
    titles,
    tunes,
)

from rafiki.client.health import Level
from rafiki.client.health.arms import tau_error
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Direction,
    EnasOptions,
    TrialPhase,
)

ROUNDS = rounds([0.5] * 4)


def test_a_search_that_is_clearly_better_beats_chance() -> None:
    found = finding(health(study(ENAS, control_arm=arm(0.6, 0.5)), rounds=ROUNDS), "beats chance")
    assert found.level is Level.OK
    assert found.figures["difference"] == pytest.approx(0.1)
    assert found.figures["standard_error"] == pytest.approx(math.sqrt(2 * 0.01 / 10))
    assert "0.6" in found.explanation and "0.5" in found.explanation


# The standard error is 0.0447: two of them are 0.0894.
@pytest.mark.parametrize(
    ("mean", "title"),
    [
        (0.590, "beats chance"),
        (0.588, "not distinguishable"),
        (0.412, "not distinguishable"),
        (0.410, "worse than random"),
    ],
)
def test_only_two_standard_errors_make_a_difference(mean: float, title: str) -> None:
    finding(health(study(ENAS, control_arm=arm(mean, 0.5)), rounds=ROUNDS), title)


@pytest.mark.parametrize(
    ("mean", "title"), [(0.4, "beats chance"), (0.6, "worse than random draws")]
)
def test_lower_is_better_where_the_job_says_so(mean: float, title: str) -> None:
    minimizing = job(direction=Direction.MINIMIZE)
    found = health(study(ENAS, control_arm=arm(mean, 0.5)), rounds=ROUNDS, job_=minimizing)
    finding(found, title)


def test_a_worse_search_is_told_what_to_try() -> None:
    found = finding(health(study(ENAS, control_arm=arm(0.3, 0.5)), rounds=ROUNDS), "worse than")
    assert found.level is Level.WARNING
    assert "--advisor reinforce" in found.explanation
    assert "--advisor evolution" in found.explanation


@pytest.mark.parametrize(
    ("ended", "phase", "level"),
    [
        (False, TrialPhase.SEARCH_EVAL, Level.NOTE),
        (False, TrialPhase.FINAL_TRAIN, Level.WARNING),
        (True, None, Level.WARNING),
    ],
)
def test_a_search_that_goes_on_may_still_learn(
    ended: bool, phase: TrialPhase | None, level: Level
) -> None:
    going = study(ENAS, ended=ended, phase=phase, control_arm=arm(0.5, 0.5))
    assert finding(health(going, rounds=ROUNDS), "not distinguishable").level is level


@pytest.mark.parametrize(("count", "is_compared"), [(4, False), (5, True)])
def test_too_few_scores_are_not_compared(count: int, is_compared: bool) -> None:
    found = titles(health(study(ENAS, control_arm=arm(0.9, 0.1, count=count)), rounds=ROUNDS))
    assert ("The search beats chance" in found) is is_compared
    assert ("Too few scores to compare the search with chance" in found) is not is_compared


def test_scores_without_any_spread_are_compared_too() -> None:
    same = health(study(ENAS, control_arm=arm(0.5, 0.5, deviation=0.0)), rounds=ROUNDS)
    better = health(study(ENAS, control_arm=arm(0.6, 0.5, deviation=0.0)), rounds=ROUNDS)
    finding(same, "not distinguishable")
    finding(better, "beats chance")


def test_a_study_without_a_control_arm_is_told_how_to_get_one() -> None:
    found = finding(health(study(BAYES_OPT), trials=tunes([0.5] * 3)), "beats chance")
    assert found.level is Level.NOTE
    assert "control_fraction" in found.explanation


def test_a_running_architecture_search_compares_later() -> None:
    found = finding(health(study(ENAS, ended=False), rounds=ROUNDS), "beats chance")
    assert found.level is Level.NOTE
    assert "once the rounds are done" in found.explanation


def test_random_search_is_not_compared_with_itself() -> None:
    found = titles(health(study(RANDOM), trials=tunes([0.5] * 3)))
    assert not any("chance" in title for title in found)


def ranked(tau: float, count: int) -> Level:
    found = health(study(ENAS, control_arm=arm(0.6, 0.5, tau=tau, ranked=count)), rounds=ROUNDS)
    figures = [one for one in found.findings if "tau" in one.figures]
    assert len(figures) == 1
    assert figures[0].figures["tau"] == tau
    return figures[0].level


def test_the_error_of_tau_is_that_of_all_orders_being_equally_likely() -> None:
    # Of 3 candidates tau is 1, 1/3, 1/3, -1/3, -1/3 or -1.
    assert tau_error(3) == pytest.approx(math.sqrt((1 + 1 / 9 + 1 / 9) / 3))
    assert tau_error(2) == pytest.approx(1.0)


# By chance alone tau of 20 candidates has a standard error of 0.162.
@pytest.mark.parametrize(
    ("tau", "title", "level"),
    [
        (0.50, "rank architectures well", Level.OK),
        (0.49, "rank architectures weakly", Level.NOTE),
        (0.33, "rank architectures weakly", Level.NOTE),
        (0.32, "do not rank architectures", Level.WARNING),
        (-0.32, "do not rank architectures", Level.WARNING),
        (-0.33, "the wrong way round", Level.WARNING),
    ],
)
def test_a_rank_correlation_is_put_in_words(tau: float, title: str, level: Level) -> None:
    control = arm(0.6, 0.5, tau=tau, ranked=20)
    found = finding(health(study(ENAS, control_arm=control), rounds=ROUNDS), title)
    assert found.level is level
    assert f"{(1 + tau) / 2:.0%} of the cases" in found.explanation


@pytest.mark.parametrize(("count", "level"), [(9, Level.NOTE), (10, Level.WARNING)])
def test_no_correlation_of_few_candidates_is_no_warning(count: int, level: Level) -> None:
    assert ranked(0.0, count) is level


def test_a_rank_correlation_that_was_not_asked_for_is_told_how_to_ask() -> None:
    found = finding(health(study(ENAS), rounds=ROUNDS), "rank architectures is not measured")
    assert found.level is Level.NOTE
    assert "rank_trains=10" in found.explanation


@pytest.mark.parametrize(
    ("ended", "words"), [(False, "after the final evaluation"), (True, "fewer than 3")]
)
def test_a_rank_correlation_that_was_asked_for_says_why_it_is_missing(
    ended: bool, words: str
) -> None:
    asked = AdvisorSettings(kind=AdvisorKind.ENAS, enas=EnasOptions(rank_trains=10))
    found = health(study(asked, ended=ended), rounds=ROUNDS)
    assert words in finding(found, "rank architectures is not measured").explanation


def test_schemes_without_shared_weights_are_not_ranked() -> None:
    control = replace(arm(0.6, 0.5), rank_correlation=0.1, rank_count=10)
    found = health(study(BAYES_OPT, control_arm=control), trials=tunes([0.5] * 3))
    assert not any("rank" in title for title in titles(found))
