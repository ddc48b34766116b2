from dataclasses import replace

import pytest
from tests.client.health.studies import (
    BAYES_OPT,
    ENAS,
    EVOLUTION,
    RANDOM,
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
from rafiki.resources import (
    AdvisorSettings,
    Direction,
    EarlyStopping,
    StopReason,
    Trial,
    TrialPhase,
)

STOPPING = replace(RANDOM, early_stopping=EarlyStopping())


@pytest.mark.parametrize(("ended", "level"), [(False, Level.NOTE), (True, Level.WARNING)])
def test_trials_within_the_random_start_are_random_search(ended: bool, level: Level) -> None:
    found = finding(
        health(study(BAYES_OPT, ended=ended), trials=tunes([0.5] * 10)), "random draws so far"
    )
    assert found.level is level
    assert found.figures == {"scored": 10, "random_start": 10}
    assert "initial_trials" in found.explanation


def test_an_improvement_on_the_random_start_is_told() -> None:
    found = finding(health(study(BAYES_OPT), trials=tunes([0.5] * 10 + [0.6])), "has improved on")
    assert found.level is Level.OK
    assert found.figures["improvement"] == pytest.approx(0.1)


# After 10 random trials, 30 more random ones improve with a probability of 0.75.
@pytest.mark.parametrize(("more", "level"), [(29, Level.NOTE), (30, Level.WARNING)])
def test_no_improvement_is_a_warning_once_chance_would_have_made_one(
    more: int, level: Level
) -> None:
    scores = [0.5] * 10 + [0.4] * more
    found = finding(health(study(BAYES_OPT), trials=tunes(scores)), "not improved on its random")
    assert found.level is level
    assert found.figures["chance_to_improve"] == pytest.approx(more / (10 + more))


def test_the_random_start_of_evolution_is_its_population() -> None:
    found = finding(health(study(EVOLUTION), trials=tunes([0.5] * 4 + [0.6])), "has improved on")
    assert found.figures["random_start"] == 4


def test_a_lower_loss_is_an_improvement() -> None:
    losses = tunes([0.5] * 10 + [0.4])
    minimizing = job(direction=Direction.MINIMIZE)
    finding(health(study(BAYES_OPT), trials=losses, job_=minimizing), "has improved on")


def test_controls_are_not_taken_for_the_search() -> None:
    better = trial(11, TrialPhase.TUNE, 0.9, control=True)
    found = health(study(BAYES_OPT), trials=[*tunes([0.5] * 10), better])
    finding(found, "random draws so far")
    assert finding(found, "The best so far").figures["best"] == 0.5


def test_random_search_has_no_start_to_improve_on() -> None:
    found = titles(health(study(RANDOM), trials=tunes([0.5] * 30)))
    assert not any("random start" in title for title in found)


@pytest.mark.parametrize(
    ("best_at", "total", "title"),
    [
        (10, 20, "has not improved for long"),
        (11, 20, "The best so far"),
        (1, 19, "The best so far"),
    ],
)
def test_a_standstill_is_half_of_many_trials(best_at: int, total: int, title: str) -> None:
    scores = [0.5] * total
    scores[best_at - 1] = 0.7
    found = finding(health(study(RANDOM), trials=tunes(scores)), title)
    assert found.figures["latest_improvement"] == best_at
    assert found.figures["scored"] == total


def stopped(count: int, total: int) -> list[Trial]:
    return [
        replace(one, stop_reason=StopReason.EARLY_STOPPED if number < count else None)
        for number, one in enumerate(tunes([0.5] * total))
    ]


@pytest.mark.parametrize(
    ("count", "total", "title", "level"),
    [
        (18, 20, "Nearly all trials are stopped early", Level.WARNING),
        (17, 20, "Early stopping", Level.OK),
        (1, 20, "Early stopping", Level.OK),
        (0, 20, "Early stopping stops nothing", Level.NOTE),
        (0, 19, "Early stopping", Level.OK),
        (19, 19, "Early stopping", Level.OK),
    ],
)
def test_early_stopping_is_judged_by_its_share(
    count: int, total: int, title: str, level: Level
) -> None:
    found = health(study(STOPPING), trials=stopped(count, total))
    told = [one for one in found.findings if one.title == title]
    assert [one.level for one in told] == [level]
    assert told[0].figures["share"] == pytest.approx(count / total)


def test_a_study_that_stops_nothing_early_is_not_judged_by_it() -> None:
    found = titles(health(study(RANDOM), trials=tunes([0.5] * 30)))
    assert not any("arly stop" in title for title in found)


def test_rank_trainings_of_enas_are_no_tuning() -> None:
    settings: AdvisorSettings = ENAS
    found = health(
        study(settings),
        rounds=rounds([0.5]),
        trials=[trial(1, TrialPhase.TUNE, 0.9, control=True)],
    )
    assert not any("best so far" in title for title in titles(found))
