"""Resources of a small ENAS job, as a server would send them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from rafiki.model.knobs import ArchKnob
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    Candidate,
    ControlArm,
    EnasOptions,
    ScoreStats,
    Study,
    StudyPlan,
    StudyRound,
    StudySpec,
    StudyState,
    TrainJob,
    TrainJobState,
    Trial,
    TrialPhase,
    TrialState,
    TrialTimings,
)

JOB = "trainJobs/a1b2c3d4"
STUDY = f"{JOB}/studies/1"
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def stats(mean: float) -> ScoreStats:
    return ScoreStats(count=30, mean=mean, standard_deviation=0.05, best=mean + 0.1)


def _trial(number: int, phase: TrialPhase, **changes: object) -> Trial:
    made = Trial(
        name=f"{STUDY}/trials/{number}",
        phase=phase,
        state=TrialState.COMPLETED,
        worker="here-1",
        start_time=START + timedelta(seconds=10 * number),
        end_time=START + timedelta(seconds=10 * number + 5),
        timings=TrialTimings(compile_s=1.5),
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # fields of Trial


def _round(number: int, mean: float) -> StudyRound:
    return StudyRound(
        study=STUDY,
        round=number,
        checkpoint=f"{STUDY}/checkpoints/{number}-1",
        mean_reward=mean,
        baseline=mean,
        entropy=20.0 - number,
        best=Candidate(archs={"cell": (0,)}, score=mean + 0.2),
        control=stats(mean - 0.05),
        train_s=2.0,
        evaluate_s=3.0,
    )


@pytest.fixture
def make_trial() -> Callable[..., Trial]:
    """A completed trial by number and phase, with other fields as told."""
    return _trial


@pytest.fixture
def make_round() -> Callable[[int, float], StudyRound]:
    """A round by number and mean reward."""
    return _round


@pytest.fixture
def job() -> TrainJob:
    return TrainJob(
        name=JOB,
        app="digits",
        app_version=1,
        task="IMAGE_CLASSIFICATION",
        studies=(StudySpec(model="models/00000001"),),
        budget=Budget(time=timedelta(minutes=3)),
        state=TrainJobState.RUNNING,
        create_time=START,
        workers=2,
    )


@pytest.fixture
def study() -> Study:
    settings = AdvisorSettings(
        kind=AdvisorKind.ENAS, control_fraction=0.1, enas=EnasOptions(final_controls=1)
    )
    return Study(
        name=STUDY,
        spec=StudySpec(model="models/00000001", advisor=settings),
        knob_config={"cell": ArchKnob([["a", "b"]])},
        state=StudyState.RUNNING,
        phase=TrialPhase.SEARCH_EVAL,
        plan=StudyPlan(
            rounds=12,
            completed_rounds=2,
            candidates_per_round=300,
            trials=375,
            final_trains=1,
            final_reserve_s=60.0,
            remaining_s=150.0,
            measured=True,
        ),
        completed_trials=65,
        control_arm=ControlArm(search=stats(0.5), control=stats(0.4)),
    )
