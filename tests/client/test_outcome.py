import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from rafiki.client.demo.outcome import Outcome, compilations, result, span_s
from rafiki.resources import (
    Candidate,
    Study,
    StudyRound,
    TrainJob,
    Trial,
    TrialMetrics,
    TrialPhase,
    TrialState,
)

MakeTrial = Callable[..., Trial]
NOW = datetime(2026, 1, 2, tzinfo=UTC)
KEYS = [
    "test_accuracy",
    "validation_accuracy",
    "control_test_accuracy",
    "search_mean",
    "control_mean",
    "rounds",
    "trials",
    "candidates",
    "distinct_candidates",
    "weight_versions",
    "compilations_per_program",
    "search_s",
    "final_train_s",
    "compile_s",
]


def metrics(program: str, count: float) -> TrialMetrics:
    return TrialMetrics(sequence=1, time=NOW, values={f"compilations/{program}": count})


def test_the_result_has_exactly_its_keys_and_counts_right(
    job: TrainJob,
    study: Study,
    make_trial: MakeTrial,
    make_round: Callable[[int, float], StudyRound],
) -> None:
    scored = tuple(
        Candidate(archs={"cell": (k,)}, score=s) for k, s in ((0, 0.5), (1, 0.4), (0, 0.6))
    )
    unscored = Candidate(archs={"cell": (2,)})
    trials = (
        make_trial(1, TrialPhase.PROBE, candidates=scored),
        make_trial(2, TrialPhase.SEARCH_TRAIN, candidates=(unscored,)),
        make_trial(3, TrialPhase.SEARCH_EVAL, candidates=(*scored, unscored)),
        make_trial(4, TrialPhase.FINAL_EVAL, candidates=scored[:2]),
        make_trial(5, TrialPhase.FINAL_TRAIN, score=0.98, test_score=0.97),
        make_trial(6, TrialPhase.FINAL_TRAIN, score=0.96, test_score=0.95, control=True),
    )
    outcome = Outcome(
        job=job,
        study=study,
        plan=study.plan,
        round_plan=None,
        rounds=(make_round(1, 0.4), make_round(2, 0.5)),
        trials=trials,
        metrics={trials[1].name: (metrics("train", 1),)},
        final=trials[4],
        control=trials[5],
    )
    values = result(outcome)
    assert list(values) == KEYS
    assert json.loads(json.dumps(values)) == {
        "test_accuracy": 0.97,
        "validation_accuracy": 0.98,
        "control_test_accuracy": 0.95,
        "search_mean": 0.5,
        "control_mean": 0.4,
        "rounds": 2,
        "trials": 6,
        "candidates": 5,
        "distinct_candidates": 2,
        "weight_versions": 2,
        "compilations_per_program": {"train": 1},
        "search_s": 25.0,
        "final_train_s": 5.0,
        "compile_s": 9.0,
    }


def test_compilations_are_counted_by_worker(make_trial: MakeTrial) -> None:
    trials = [
        make_trial(1, TrialPhase.SEARCH_EVAL, worker="a"),
        make_trial(2, TrialPhase.SEARCH_EVAL, worker="b"),
        make_trial(3, TrialPhase.SEARCH_EVAL, worker="b", state=TrialState.COMPLETED),
    ]
    counts = {
        trials[0].name: [metrics("evaluate", 1)],
        trials[1].name: [metrics("evaluate", 1), metrics("train", 1)],
        trials[2].name: [metrics("train", 1)],
    }
    assert compilations(trials, counts) == {"evaluate": 1, "train": 2}


def test_a_trial_without_times_takes_none(make_trial: MakeTrial) -> None:
    assert span_s([replace(make_trial(1, TrialPhase.TUNE), end_time=None)]) == 0.0
