"""What came of the demo's job, read from the server, and `result.json` made from it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rafiki.client.cli.progress import JobProgress
from rafiki.client.client import Client
from rafiki.resources import (
    Archs,
    Study,
    StudyPlan,
    StudyRound,
    TrainJob,
    Trial,
    TrialMetrics,
    TrialPhase,
    TrialState,
)

COMPILATIONS = "compilations/"
SEARCH_PHASES = (TrialPhase.SEARCH_TRAIN, TrialPhase.SEARCH_EVAL)
SCORED_PHASES = (TrialPhase.SEARCH_EVAL, TrialPhase.FINAL_EVAL)


class DemoFailed(RuntimeError):
    """The demo's job did not end as it should; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The job with its only study, and everything that the report needs of it.

    `plan` is the first one made from measured costs, `round_plan` the first one after a
    round, None if it was not seen. `metrics` are by trial name, of the
    trials that have any. `final` is the best trial, `control` the random one beside it.
    """

    job: TrainJob
    study: Study
    plan: StudyPlan
    round_plan: StudyPlan | None
    rounds: tuple[StudyRound, ...]
    trials: tuple[Trial, ...]
    metrics: Mapping[str, tuple[TrialMetrics, ...]]
    final: Trial
    control: Trial | None


def read_outcome(client: Client, progress: JobProgress) -> Outcome:
    """The outcome of a job that was followed to its end.

    Raises:
        DemoFailed: It has no finally trained model.
    """
    job = progress.job
    study = next(client.list_studies(job.name))
    trials = tuple(client.list_trials(study.name))
    done = [trial for trial in trials if trial.state is TrialState.COMPLETED]
    final = next((trial for trial in done if trial.name == job.best_trial), None)
    if final is None or final.phase is not TrialPhase.FINAL_TRAIN:
        reason = study.end_message or f"it is {job.state.lower()}"
        raise DemoFailed(f"the search ended without a final model: {reason}")
    controls = [t for t in done if t.phase is TrialPhase.FINAL_TRAIN and t.control]
    return Outcome(
        job=job,
        study=study,
        plan=progress.first_plans.get(study.name, study.plan),
        round_plan=progress.round_plans.get(study.name),
        rounds=tuple(client.list_study_rounds(study.name)),
        trials=trials,
        metrics={trial.name: tuple(client.list_trial_metrics(trial.name)) for trial in done},
        final=final,
        control=controls[0] if controls else None,
    )


def result(outcome: Outcome) -> dict[str, object]:
    """The contents of `demo/result.json`.

    Accuracies are shares in [0, 1]; `search_mean` and `control_mean` are the shared-weight
    scores of FINAL_EVAL. `candidates` counts scores, `distinct_candidates` architectures
    scored. `compilations_per_program` is the most that one worker compiled a program.
    """
    arm = outcome.study.control_arm
    scored = list(scored_architectures(outcome.trials))
    final, control = outcome.final, outcome.control
    search = [t for t in outcome.trials if t.phase in (*SEARCH_PHASES, TrialPhase.FINAL_EVAL)]
    return {
        "test_accuracy": final.test_score,
        "validation_accuracy": final.score,
        "control_test_accuracy": None if control is None else control.test_score,
        "search_mean": None if arm is None else arm.search.mean,
        "control_mean": None if arm is None else arm.control.mean,
        "rounds": len(outcome.rounds),
        "trials": len(outcome.trials),
        "candidates": len(scored),
        "distinct_candidates": len({architecture_key(archs) for archs in scored}),
        "weight_versions": len({r.checkpoint for r in outcome.rounds}),
        "compilations_per_program": compilations(outcome.trials, outcome.metrics),
        "search_s": round(span_s(search), 1),
        "final_train_s": round(span_s([final]), 1),
        "compile_s": round(sum(t.timings.compile_s for t in outcome.trials if t.timings), 1),
    }


def scored_architectures(trials: Iterable[Trial]) -> Iterable[Archs]:
    """The architectures that got a score on shared weights, one for every score."""
    for trial in trials:
        if trial.phase in SCORED_PHASES:
            yield from (c.archs for c in trial.candidates if c.score is not None)


def architecture_key(archs: Archs) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Equal for equal architectures."""
    return tuple(sorted((name, tuple(choices)) for name, choices in archs.items()))


def compilations(
    trials: Iterable[Trial], metrics: Mapping[str, Sequence[TrialMetrics]]
) -> dict[str, int]:
    """By program, the most compilations in one worker."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for trial in trials:
        for measured in metrics.get(trial.name, ()):
            for name, value in measured.values.items():
                if name.startswith(COMPILATIONS):
                    counts[name.removeprefix(COMPILATIONS)][trial.worker] += int(value)
    return {program: max(by.values()) for program, by in sorted(counts.items())}


def span_s(trials: Iterable[Trial]) -> float:
    """Seconds from the first start to the last end of trials."""
    starts = [t.start_time for t in trials if t.start_time is not None]
    ends = [t.end_time for t in trials if t.end_time is not None]
    return (max(ends) - min(starts)).total_seconds() if starts and ends else 0.0
