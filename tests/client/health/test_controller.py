import math
from dataclasses import replace

import pytest
from tests.client.health.studies import (
    BAYES_OPT,
    ENAS,
    REINFORCE,
    evaluation,
    finding,
    health,
    job,
    rounds,
    study,
    titles,
    trial,
    tunes,
)

from rafiki.client.health import Level
from rafiki.model.knobs import ArchKnob, NodeRef
from rafiki.resources import Candidate, Direction, StudyPlan, TrialPhase

UNIFORM = 4 * math.log(4)


def test_too_few_rounds_are_warned_of() -> None:
    plan = StudyPlan(rounds=4, trials=100)
    found = finding(health(study(ENAS, plan=plan), rounds=rounds([0.5])), "too short")
    assert found.level is Level.WARNING
    assert found.figures["planned_rounds"] == 4
    assert found.figures["planned_updates"] == 120


def test_five_rounds_of_the_default_size_are_enough() -> None:
    plan = StudyPlan(rounds=5, trials=100)
    found = finding(health(study(ENAS, plan=plan), rounds=rounds([0.5])), "long enough")
    assert found.level is Level.OK


# A batch of REINFORCE is 10 trials.
@pytest.mark.parametrize(("trials", "title"), [(999, "too short"), (1000, "long enough")])
def test_reinforce_needs_a_hundred_updates(trials: int, title: str) -> None:
    plan = StudyPlan(trials=trials)
    going = study(REINFORCE, ended=False, plan=plan)
    finding(health(going, rounds=rounds([0.5])), title)


def test_a_search_without_a_known_end_is_not_called_short() -> None:
    going = study(REINFORCE, ended=False, plan=StudyPlan())
    assert "The search is too short to learn much" not in titles(
        health(going, rounds=rounds([0.5]))
    )


@pytest.mark.parametrize(
    ("entropy", "title", "level"),
    [
        (0.09 * UNIFORM, "has settled", Level.WARNING),
        (0.11 * UNIFORM, "still searching", Level.OK),
        (0.89 * UNIFORM, "still searching", Level.OK),
        (0.91 * UNIFORM, "almost uniformly", Level.NOTE),
    ],
)
def test_the_entropy_is_judged_by_that_of_uniform_draws(
    entropy: float, title: str, level: Level
) -> None:
    done = rounds([0.5] * 4, [UNIFORM, UNIFORM, UNIFORM, entropy])
    found = finding(health(study(ENAS), rounds=done), title)
    assert found.level is level
    assert found.figures["entropy"] == entropy
    assert found.figures["uniform_entropy"] == pytest.approx(UNIFORM)


def test_the_choices_left_are_told_per_position() -> None:
    done = rounds([0.5] * 2, [UNIFORM, 4 * math.log(2)])
    found = finding(health(study(ENAS), rounds=done), "still searching")
    assert "among 2.0 of 4.0 choices per position" in found.explanation


def test_a_collapse_names_its_round_and_says_that_nothing_is_lost() -> None:
    done = rounds([0.5] * 4, [UNIFORM, 3.0, 0.1, 0.05])
    found = finding(health(study(ENAS), rounds=done), "has settled")
    assert found.figures["settled_round"] == 3
    assert "best architectures seen" in found.explanation


def test_few_updates_leave_the_draws_uniform_as_they_must() -> None:
    done = rounds([0.5] * 3, [UNIFORM] * 3)  # 90 updates
    assert "The controller still draws almost uniformly" not in titles(
        health(study(ENAS), rounds=done)
    )


def test_a_round_in_which_nothing_was_scored_is_no_collapse() -> None:
    scored = rounds([0.5, 0.6], [UNIFORM, 4.0])
    empty = replace(scored[1], round=3, best=None, entropy=0.0, mean_reward=0.0)
    finding(health(study(ENAS), rounds=[*scored, empty]), "still searching")


def test_rewards_that_rise_are_told_with_their_means_and_baseline() -> None:
    done = rounds([0.1, 0.12, 0.3, 0.4, 0.5, 0.52])
    found = finding(health(study(ENAS), rounds=done), "Rewards improve")
    assert found.figures["first_mean_reward"] == pytest.approx(0.11)
    assert found.figures["last_mean_reward"] == pytest.approx(0.51)
    assert found.figures["baseline"] == pytest.approx(0.51)
    assert "only the control arm tells" in found.explanation


@pytest.mark.parametrize(
    ("means", "title", "level"),
    [
        ([0.1, 0.12, 0.3, 0.4, 0.5, 0.52], "Rewards improve", Level.OK),
        ([0.5, 0.52, 0.3, 0.4, 0.1, 0.12], "Rewards get worse", Level.WARNING),
        ([0.4, 0.6, 0.5, 0.5, 0.45, 0.65], "Rewards do not improve", Level.NOTE),
    ],
)
def test_rewards_are_judged_by_the_last_rounds_and_the_first(
    means: list[float], title: str, level: Level
) -> None:
    assert finding(health(study(REINFORCE), rounds=rounds(means)), title).level is level


def test_falling_losses_are_rising_rewards() -> None:
    losses = rounds([0.5, 0.52, 0.3, 0.4, 0.1, 0.12])
    minimizing = job(direction=Direction.MINIMIZE)
    finding(health(study(ENAS), rounds=losses, job_=minimizing), "Rewards improve")


def test_five_rounds_make_no_trend() -> None:
    found = titles(health(study(ENAS), rounds=rounds([0.1, 0.2, 0.3, 0.4, 0.5])))
    assert not any(title.startswith("Rewards") for title in found)


def test_trials_without_a_controller_have_no_updates() -> None:
    found = titles(health(study(BAYES_OPT), trials=tunes([0.5] * 3)))
    assert not any("controller" in title for title in found)


CELLS = [(a, b, 0, 0) for a in range(4) for b in range(4)]


@pytest.mark.parametrize(("distinct", "title"), [(2, "differ"), (1, "repeats itself")])
def test_repeated_candidates_are_counted(distinct: int, title: str) -> None:
    drawn = [*CELLS[:distinct], *[CELLS[0]] * (10 - distinct)]
    found = health(study(ENAS), rounds=rounds([0.5]), trials=[evaluation(1, drawn)])
    assert finding(found, title).figures["distinct"] == distinct


def test_only_the_latest_round_and_the_search_arm_are_counted() -> None:
    trials = [
        evaluation(1, CELLS, round=1),
        evaluation(2, CELLS, round=2, control=True),
        evaluation(3, [CELLS[0]] * 10, round=2),
    ]
    found = health(study(ENAS), rounds=rounds([0.5, 0.5]), trials=trials)
    finding(found, "repeats itself")


def test_a_choice_that_has_taken_over_is_named() -> None:
    # "skip" is choice 2: 15 of 20 draws, three of four.
    drawn = [(2, 2, 2, 2)] * 3 + [(2, 2, 2, 0)] + [(0, 1, 3, 0)]
    found = health(study(ENAS), rounds=rounds([0.5]), trials=[evaluation(1, drawn)])
    told = finding(found, "prefers skip")
    assert told.level is Level.NOTE
    assert told.figures["share"] == pytest.approx(0.75)
    assert told.figures["uniform_share"] == pytest.approx(0.25)
    assert told.figures["positions"] == 4


def test_a_choice_below_three_of_four_is_not_named() -> None:
    drawn = [(2, 2, 2, 2)] * 3 + [(2, 2, 0, 0)] + [(0, 1, 3, 0)]
    found = health(study(ENAS), rounds=rounds([0.5]), trials=[evaluation(1, drawn)])
    assert not any("prefers" in title for title in titles(found))


def test_a_preference_for_skips_is_called_so() -> None:
    bits = {"cell": ArchKnob([[0, 1]] * 4, skips=[True] * 4)}
    drawn = evaluation(1, [(1, 1, 1, 1)] * 3 + [(1, 1, 1, 0)] + [(1, 0, 1, 0)])
    macro = study(ENAS, knob_config=bits)
    told = finding(health(macro, rounds=rounds([0.5]), trials=[drawn]), "prefers a skip")
    assert told.figures["share"] == pytest.approx(0.85)
    assert told.figures["uniform_share"] == pytest.approx(0.5)


def test_earlier_nodes_are_no_preference() -> None:
    nodes = {"cell": ArchKnob([[NodeRef(0), NodeRef(1)]] * 4)}
    drawn = evaluation(1, [(1, 1, 1, 1)] * 5)
    found = health(study(ENAS, knob_config=nodes), rounds=rounds([0.5]), trials=[drawn])
    assert not any("prefers" in title for title in titles(found))


def test_what_reinforce_prefers_is_taken_from_its_latest_trials() -> None:
    trials = [
        trial(
            number,
            TrialPhase.TUNE,
            0.5,
            candidates=(Candidate(archs={"cell": (cell, cell, cell, cell)}),),
        )
        for number, cell in enumerate([1] * 100 + [2] * 50, 1)
    ]
    found = health(study(REINFORCE), rounds=rounds([0.5]), trials=trials)
    finding(found, "prefers skip")
