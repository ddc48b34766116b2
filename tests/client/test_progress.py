import io
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from rafiki.client.cli.lines import JobLines
from rafiki.client.cli.progress import Event, JobProgress
from rafiki.client.cli.screen import screen, sparkline
from rafiki.resources import (
    Direction,
    EndReason,
    Study,
    StudyRound,
    TrainJob,
    Trial,
    TrialError,
    TrialErrorKind,
    TrialPhase,
    TrialProgress,
    TrialState,
)

MakeTrial = Callable[..., Trial]
MakeRound = Callable[[int, float], StudyRound]


def shown(progress: JobProgress, width: int = 100) -> str:
    out = Console(file=io.StringIO(), width=width)
    out.print(screen(progress, "Ctrl-C leaves the job running"))
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def said(*events: Event) -> list[str]:
    lines = JobLines()
    return [line for event in events for line in lines.lines(event)]


@pytest.fixture
def progress(job: TrainJob, study: Study, make_round: MakeRound) -> JobProgress:
    progress = JobProgress(job)
    for event in (study, make_round(1, 0.41), make_round(2, 0.52)):
        progress.apply(event)
    return progress


def test_a_running_trial_is_kept_until_it_ends(job: TrainJob, make_trial: MakeTrial) -> None:
    progress = JobProgress(job)
    running = make_trial(3, TrialPhase.SEARCH_EVAL, state=TrialState.RUNNING)
    progress.apply(running)
    assert list(progress.running) == [running.name]
    progress.apply(replace(running, state=TrialState.COMPLETED))
    assert progress.running == {}


def test_search_scores_and_controls_are_never_the_best(
    job: TrainJob, make_trial: MakeTrial
) -> None:
    progress = JobProgress(job)
    progress.apply(make_trial(3, TrialPhase.SEARCH_EVAL, score=0.9))
    progress.apply(make_trial(4, TrialPhase.FINAL_TRAIN, score=0.9, control=True))
    assert progress.best is None


@pytest.mark.parametrize(("direction", "best"), [("MAXIMIZE", 4), ("MINIMIZE", 5)])
def test_the_best_follows_the_direction_of_the_job(
    direction: str, best: int, job: TrainJob, make_trial: MakeTrial
) -> None:
    progress = JobProgress(replace(job, direction=Direction(direction)))
    for number, score in ((4, 0.9), (5, 0.8)):
        progress.apply(make_trial(number, TrialPhase.TUNE, score=score))
    assert progress.best is not None
    assert progress.best.name.endswith(f"/{best}")


def test_a_final_training_beats_any_tuning(job: TrainJob, make_trial: MakeTrial) -> None:
    progress = JobProgress(job)
    progress.apply(make_trial(4, TrialPhase.TUNE, score=0.9))
    progress.apply(make_trial(5, TrialPhase.FINAL_TRAIN, score=0.8))
    progress.apply(make_trial(6, TrialPhase.TUNE, score=0.95))
    assert progress.best is not None
    assert progress.best.name.endswith("/5")


def test_a_trial_that_still_runs_is_not_the_best_even_if_the_job_names_it(
    job: TrainJob, make_trial: MakeTrial
) -> None:
    ended = make_trial(5, TrialPhase.FINAL_TRAIN, score=0.8)
    progress = JobProgress(replace(job, best_trial=ended.name))
    progress.apply(replace(ended, score=None, state=TrialState.RUNNING))
    assert progress.best is None
    progress.apply(ended)
    assert progress.best == ended


def test_the_first_measured_plan_is_remembered(job: TrainJob, study: Study) -> None:
    progress = JobProgress(job)
    progress.apply(replace(study, plan=replace(study.plan, measured=False, rounds=3)))
    progress.apply(study)
    progress.apply(replace(study, plan=replace(study.plan, rounds=14)))
    assert progress.first_plans[study.name].rounds == 12


def test_the_screen_shows_plan_rounds_control_and_running_trials(
    progress: JobProgress, make_trial: MakeTrial
) -> None:
    running = make_trial(
        66,
        TrialPhase.SEARCH_EVAL,
        state=TrialState.RUNNING,
        progress=TrialProgress(fraction=0.25, remaining_s=3.0),
    )
    progress.apply(running)
    text = shown(progress)
    for part in (
        "a1b2c3d4",
        "2 workers",
        "round 3 of 12",
        "12 rounds of 300 candidates",
        "1 of them random control",
        "expect them well below the final accuracy",
        "0.5200",  # mean of round 2
        "0.4700",  # its control
        "18.00",  # its entropy
        "trial 66",
        "25%",
        "Ctrl-C leaves the job running",
    ):
        assert part in text


def test_the_screen_says_what_the_job_waits_for(progress: JobProgress) -> None:
    progress.apply(replace(progress.job, waiting_for="a worker", workers=0))
    assert "waiting for a worker" in shown(progress)


@pytest.mark.parametrize("width", [60, 80, 140])
def test_the_screen_fits_the_terminal(width: int, progress: JobProgress) -> None:
    assert max(map(len, shown(progress, width).splitlines())) <= width


def test_rounds_become_a_curve() -> None:
    assert sparkline([0.0, 0.5, 1.0]) == "▁▅█"
    assert sparkline([0.3, 0.3]) == "▁▁"
    assert sparkline([]) == ""


def test_lines_say_each_thing_once(job: TrainJob, study: Study, make_round: MakeRound) -> None:
    lines = said(job, study, make_round(1, 0.41), make_round(1, 0.41), study, job)
    assert [line.split(":")[0] for line in lines] == [
        "job a1b2c3d4",
        "study a1b2c3d4/1",
        "study a1b2c3d4/1",
        "(shared-weight scores",
        "round 1",
    ]


def test_lines_tell_rounds_with_their_control(make_round: MakeRound) -> None:
    line = said(make_round(1, 0.41))[-1]
    assert line == (
        "round 1: mean 0.4100 control 0.3600 best 0.6100 entropy 19.00 "
        "(train 2.0 s, evaluate 3.0 s)"
    )


def test_lines_tell_failed_and_final_trials_only(make_trial: MakeTrial) -> None:
    error = TrialError(kind=TrialErrorKind.MODEL_EXCEPTION, message="no such layer")
    lines = said(
        make_trial(2, TrialPhase.SEARCH_EVAL, score=0.5),
        make_trial(3, TrialPhase.SEARCH_EVAL, state=TrialState.ERRORED, error=error),
        make_trial(4, TrialPhase.FINAL_TRAIN, score=0.98, test_score=0.97),
    )
    assert lines == [
        "trial a1b2c3d4/1/3 SEARCH_EVAL failed: MODEL_EXCEPTION: no such layer",
        "trial a1b2c3d4/1/4 FINAL_TRAIN done: score 0.9800, test 0.9700",
    ]


def test_lines_tell_why_a_study_ended(study: Study) -> None:
    ended = replace(study, end_reason=EndReason.SEARCH_COMPLETE, end_message="the plan is done")
    assert said(ended)[-1] == "study a1b2c3d4/1: search complete: the plan is done"


def test_lines_tell_a_wait_only_once_it_lasts(job: TrainJob) -> None:
    clock = iter(range(100))
    lines = JobLines(lambda: float(next(clock)))
    waiting = replace(job, waiting_for="a worker")
    told = [line for event in (job, waiting, job, *[waiting] * 5) for line in lines.lines(event)]
    assert told == ["job a1b2c3d4: running", "job a1b2c3d4: waiting for a worker"]


def test_lines_tell_a_plan_again_only_if_it_changes_much(study: Study) -> None:
    plans = [replace(study.plan, rounds=rounds, trials=31 * rounds) for rounds in (12, 13, 14, 40)]
    lines = said(*(replace(study, plan=plan) for plan in plans))
    assert [line.split()[3] for line in lines if ": plan: " in line] == ["12", "40"]
