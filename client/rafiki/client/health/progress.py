"""How far a study has come: what it waits for, its budget, its failures."""

from collections import Counter
from collections.abc import Iterator

from rafiki.client.health.evidence import Evidence, counted
from rafiki.client.health.finding import Finding, Level
from rafiki.resources import (
    EndReason,
    TrainJobState,
    TrialErrorKind,
    TrialPhase,
    TrialState,
)

# One trial in five lost is a fifth of the budget, and a hole in what the search learns.
MANY_ERRORS = 0.2

_REMEDIES = {
    TrialErrorKind.MODEL_EXCEPTION: "the model raised: `rafiki trial logs` shows where",
    TrialErrorKind.INFEASIBLE: "the model refuses such knobs: narrow them",
    TrialErrorKind.NON_FINITE_SCORE: "scores came out NaN or infinite: narrow the learning rate",
    TrialErrorKind.OUT_OF_MEMORY: "smaller batches or models, or workers with more memory",
    TrialErrorKind.ENVIRONMENT: "a worker lacks what the model needs: see its log",
    TrialErrorKind.CRASHED: "the model's process died: see the log of the worker",
    TrialErrorKind.WORKER_LOST: "workers vanished: see whether they run, and the network",
}


def measured(evidence: Evidence) -> Iterator[Finding]:
    """Says so if nothing was scored yet."""
    if evidence.is_measured:
        return
    done = sum(trial.state is TrialState.COMPLETED for trial in evidence.trials)
    yield Finding(
        level=Level.WARNING if evidence.has_ended else Level.NOTE,
        title="Nothing was measured" if evidence.has_ended else "Nothing is measured yet",
        explanation=f"{counted(done, 'trial')} completed, and nothing has a score to judge by.",
        figures={"completed": float(done)},
    )


def standing(evidence: Evidence) -> Iterator[Finding]:
    """Whether the job is paused or waits for something."""
    job = evidence.job
    if job.state is TrainJobState.PAUSED:
        yield Finding(
            level=Level.NOTE,
            title="The job is paused",
            explanation="Its clock stands still; `rafiki job resume` goes on.",
        )
    elif job.waiting_for and not evidence.has_ended:
        yield Finding(
            level=Level.NOTE,
            title=f"The job waits for {job.waiting_for}",
            explanation="Nothing runs until that is there; see `rafiki job show`.",
        )


def budget(evidence: Evidence) -> Iterator[Finding]:
    """How much of the budget is used, and whether it sufficed."""
    study, limits = evidence.study, evidence.job.budget
    ended = sum(
        trial.phase is not TrialPhase.PROBE and trial.state is not TrialState.CANCELLED
        for trial in evidence.trials
        if trial.state.is_end
    )
    figures = {"trials": float(ended)}
    used = [counted(ended, "trial")]
    if limits.model_trial_count:
        figures["trial_limit"] = float(limits.model_trial_count)
        used = [f"{ended} of {counted(limits.model_trial_count, 'trial')}"]
    if evidence.job.time_used is not None:
        seconds = evidence.job.time_used.total_seconds()
        figures["time_used_s"] = seconds
        used.append(f"{seconds / 60:.1f} minutes")
        if limits.time is not None:
            figures["time_limit_s"] = limits.time.total_seconds()
            used[-1] = f"{seconds / 60:.1f} of {limits.time.total_seconds() / 60:.1f} minutes"
    reading = f"Used: {', '.join(used)}"
    end = f"{reading}; {study.end_message}" if study.end_message else reading
    finals = len(evidence.completed(TrialPhase.FINAL_TRAIN))
    if study.end_reason in (EndReason.INFEASIBLE_BUDGET, EndReason.TOO_MANY_ERRORS):
        title = {
            EndReason.INFEASIBLE_BUDGET: "The budget was too small",
            EndReason.TOO_MANY_ERRORS: "The study gave up after too many failures",
        }[study.end_reason]
        yield Finding(level=Level.WARNING, title=title, explanation=f"{end}.", figures=figures)
    elif evidence.has_ended and study.plan.final_trains and not finals:
        yield Finding(
            level=Level.WARNING,
            title="The study ended before its final training",
            explanation=(
                f"{end}. Planned were {counted(study.plan.final_trains, 'final training')}; the "
                "models there are were trained for the search only."
            ),
            figures=figures | {"final_trains": 0.0, "planned": float(study.plan.final_trains)},
        )
    else:
        title = "The study has ended" if evidence.has_ended else "The study is running"
        yield Finding(level=Level.OK, title=title, explanation=f"{end}.", figures=figures)


def errors(evidence: Evidence) -> Iterator[Finding]:
    """How many trials failed, and of what."""
    failed = [trial for trial in evidence.trials if trial.state is TrialState.ERRORED]
    ended = len(failed) + sum(trial.state is TrialState.COMPLETED for trial in evidence.trials)
    if not ended:
        return
    figures = {"errored": float(len(failed)), "ended": float(ended)}
    if not failed:
        yield Finding(
            level=Level.OK,
            title="No trial failed",
            explanation=f"{counted(ended, 'trial')} ended.",
            figures=figures,
        )
        return
    kinds = Counter(trial.error.kind for trial in failed if trial.error is not None)
    figures |= {kind.lower(): float(count) for kind, count in kinds.items()}
    share = len(failed) / ended
    named = "; ".join(f"{count} {kind} ({_REMEDIES[kind]})" for kind, count in kinds.most_common())
    latest = next((t.error.message for t in reversed(failed) if t.error is not None), "")
    yield Finding(
        level=Level.WARNING if share >= MANY_ERRORS else Level.NOTE,
        title="Many trials fail" if share >= MANY_ERRORS else "Some trials fail",
        explanation=(
            f"{len(failed)} of {counted(ended, 'trial')} failed ({share:.0%}): {named}. "
            f"The latest said: {latest}"
        ),
        figures=figures | {"share": share},
    )
