from datetime import timedelta

import pytest
from tests.client.health.studies import (
    BAYES_OPT,
    ENAS,
    RANDOM,
    arm,
    errored,
    finding,
    health,
    job,
    rounds,
    study,
    titles,
    trial,
    tunes,
)

from rafiki.client.health import Finding, Level
from rafiki.resources import (
    Budget,
    EndReason,
    StudyPlan,
    StudyState,
    TrainJobState,
    Trial,
    TrialErrorKind,
    TrialPhase,
    TrialState,
)


@pytest.mark.parametrize("settings", [ENAS, BAYES_OPT, RANDOM])
def test_a_study_that_has_just_begun_says_that_nothing_is_measured(settings: object) -> None:
    assert isinstance(settings, type(ENAS))
    probe = trial(1, TrialPhase.PROBE)
    for trials in ([], [probe]):
        found = health(study(settings, ended=False), trials=trials)
        assert finding(found, "Nothing is measured yet").level is Level.NOTE
        # And claims nothing else than how far it has come.
        assert set(titles(found)) <= {
            "Nothing is measured yet",
            "The study is running",
            "No trial failed",
        }


def test_a_study_that_ended_without_a_score_is_a_warning() -> None:
    found = finding(health(study(RANDOM), trials=[errored(1)]), "Nothing was measured")
    assert found.level is Level.WARNING


def test_what_a_job_waits_for_is_told() -> None:
    waiting = job(waiting_for="a worker")
    finding(health(study(RANDOM, ended=False), job_=waiting), "waits for a worker")
    assert not any("waits" in t for t in titles(health(study(RANDOM), job_=waiting)))


def test_a_paused_job_is_told_how_to_go_on() -> None:
    paused = job(state=TrainJobState.PAUSED, waiting_for="a worker")
    found = finding(health(study(RANDOM, ended=False), job_=paused), "is paused")
    assert "rafiki job resume" in found.explanation


def test_the_budget_used_is_told_without_the_probe_and_cancelled_trials() -> None:
    trials = [
        trial(1, TrialPhase.PROBE),
        *[trial(number, TrialPhase.TUNE, 0.5) for number in (2, 3)],
        errored(4),
        trial(5, TrialPhase.TUNE, state=TrialState.CANCELLED),
        trial(6, TrialPhase.TUNE, state=TrialState.RUNNING),
    ]
    limits = Budget(time=timedelta(minutes=10), model_trial_count=8)
    used = job(budget=limits, time_used=timedelta(minutes=4))
    found = finding(health(study(RANDOM, ended=False), trials=trials, job_=used), "is running")
    assert found.level is Level.OK
    assert found.figures == {
        "trials": 3,
        "trial_limit": 8,
        "time_used_s": 240,
        "time_limit_s": 600,
    }
    assert "3 of 8 trials, 4.0 of 10.0 minutes" in found.explanation


@pytest.mark.parametrize(
    ("reason", "title"),
    [
        (EndReason.INFEASIBLE_BUDGET, "budget was too small"),
        (EndReason.TOO_MANY_ERRORS, "gave up after too many failures"),
    ],
)
def test_a_study_that_failed_says_why(reason: EndReason, title: str) -> None:
    failed = study(
        RANDOM, state=StudyState.FAILED, end_reason=reason, end_message="it takes 90 s at least"
    )
    found = finding(health(failed, trials=tunes([0.5])), title)
    assert found.level is Level.WARNING
    assert "it takes 90 s at least" in found.explanation


@pytest.mark.parametrize(("finals", "level"), [(0, Level.WARNING), (1, Level.OK)])
def test_a_study_that_ended_before_its_final_training_is_a_warning(
    finals: int, level: Level
) -> None:
    ended = study(BAYES_OPT, plan=StudyPlan(trials=10, final_trains=1))
    trials = [
        *tunes([0.5] * 3),
        *[trial(9, TrialPhase.FINAL_TRAIN, 0.5)] * finals,
    ]
    found = finding(health(ended, trials=trials), "The study")
    assert found.level is level
    assert ("before its final training" in found.title) is (finals == 0)


@pytest.mark.parametrize(
    ("failed", "title", "level"),
    [
        (0, "No trial failed", Level.OK),
        (1, "Some trials fail", Level.NOTE),
        (2, "Many trials fail", Level.WARNING),
    ],
)
def test_failures_are_counted_by_kind(failed: int, title: str, level: Level) -> None:
    # One of ten, then two: a fifth.
    trials: list[Trial] = tunes([0.5] * (10 - failed))
    trials += [errored(20 + n, TrialErrorKind.OUT_OF_MEMORY) for n in range(failed)]
    found = finding(health(study(RANDOM), trials=trials), title)
    assert found.level is level
    assert found.figures["errored"] == failed
    assert found.figures.get("out_of_memory", 0) == failed
    if failed:
        assert "it died" in found.explanation
        assert "more memory" in found.explanation


@pytest.mark.parametrize("kind", TrialErrorKind)
def test_every_kind_of_failure_has_a_remedy(kind: TrialErrorKind) -> None:
    trials = [*tunes([0.5]), errored(2, kind)]
    found = finding(health(study(RANDOM), trials=trials), "Many trials fail")
    assert f"1 {kind} (" in found.explanation


def test_warnings_come_first() -> None:
    found = health(study(ENAS, control_arm=arm(0.3, 0.5)), rounds=rounds([0.5] * 4))
    order = [one.level for one in found.findings]
    assert order == sorted(order, key=[Level.WARNING, Level.NOTE, Level.OK].index)
    assert order[0] is Level.WARNING
    assert found.at(Level.WARNING) == tuple(
        one for one in found.findings if one.level is Level.WARNING
    )


def test_there_is_no_warning_without_figures() -> None:
    with pytest.raises(ValueError, match="without figures"):
        Finding(level=Level.WARNING, title="Doubtful", explanation="")
