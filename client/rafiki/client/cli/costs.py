"""What the trials of a study have cost, and what of its budget is used and left."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rafiki.client import names
from rafiki.client.cli.output import duration_text, state_text
from rafiki.client.cli.plans import PHASES, budget_text, plan_text, study_title
from rafiki.resources import Study, TrainJob, TrainJobState, Trial, TrialPhase, TrialState

_COUNTED = (TrialState.COMPLETED, TrialState.ERRORED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseCosts:
    """The trials of one phase. Times are of the last attempts of those that completed.

    `mean_s` is the mean from assignment to outcome, `compile_s` how much of it went into
    compiling, `total_s` the sum; in seconds, None before the first has completed.
    """

    phase: TrialPhase
    completed: int
    errored: int
    running: int
    mean_s: float | None = None
    compile_s: float | None = None
    total_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyCosts:
    """A study with what it has cost so far, by phase in the order they come."""

    study: Study
    costs: tuple[PhaseCosts, ...]
    trials_used: int
    trials_left: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobCosts:
    """A job with its studies; times in seconds without pauses, None where there is no limit."""

    train_job: TrainJob
    studies: tuple[StudyCosts, ...]
    time_used_s: float
    time_left_s: float | None


def job_costs(job: TrainJob, studies: Iterable[tuple[Study, Iterable[Trial]]]) -> JobCosts:
    """What a job has used of its budget and what is left, given the trials of its studies."""
    used = job.time_used or timedelta(0)
    left = None if job.budget.time is None else max(timedelta(0), job.budget.time - used)
    return JobCosts(
        train_job=job,
        studies=tuple(_study_costs(job, study, list(trials)) for study, trials in studies),
        time_used_s=used.total_seconds(),
        time_left_s=None if left is None else left.total_seconds(),
    )


def costs_screen(costs: JobCosts) -> RenderableType:
    """The plans of a job beside what has been measured."""
    job = costs.train_job
    head = Text.assemble(
        (f"job {names.short(job.name)}", "bold"), f"  {job.app} v{job.app_version}"
    )
    head += Text("  ") + state_text(job.state)
    parts: list[RenderableType] = [head, _budget(costs)]
    for study in costs.studies:
        parts += [Text(), Text(study_title(study.study), "bold"), *_study(study)]
    return Group(*parts)


def _study_costs(job: TrainJob, study: Study, trials: list[Trial]) -> StudyCosts:
    phases = [phase for phase in TrialPhase if any(t.phase is phase for t in trials)]
    used = sum(t.state in _COUNTED and t.phase is not TrialPhase.PROBE for t in trials)
    limit = job.budget.model_trial_count
    return StudyCosts(
        study=study,
        costs=tuple(
            _phase_costs(phase, [t for t in trials if t.phase is phase]) for phase in phases
        ),
        trials_used=used,
        trials_left=max(0, limit - used) if limit else None,
    )


def _phase_costs(phase: TrialPhase, trials: list[Trial]) -> PhaseCosts:
    seconds = [
        (t.end_time - t.start_time).total_seconds()
        for t in trials
        if t.state is TrialState.COMPLETED and t.start_time is not None and t.end_time is not None
    ]
    compiles = [
        t.timings.compile_s
        for t in trials
        if t.state is TrialState.COMPLETED and t.timings is not None
    ]
    return PhaseCosts(
        phase=phase,
        completed=sum(t.state is TrialState.COMPLETED for t in trials),
        errored=sum(t.state is TrialState.ERRORED for t in trials),
        running=sum(t.state is TrialState.RUNNING for t in trials),
        mean_s=math.fsum(seconds) / len(seconds) if seconds else None,
        compile_s=math.fsum(compiles) / len(compiles) if compiles else None,
        total_s=math.fsum(seconds) if seconds else None,
    )


def _budget(costs: JobCosts) -> Text:
    job = costs.train_job
    text = Text(f"budget {budget_text(job.budget)}; {duration_text(costs.time_used_s)} used")
    if costs.time_left_s is not None:
        text.append(f", {duration_text(costs.time_left_s)} left")
    if job.time_used is None:
        text.append("; its clock starts with the first trial after measuring")
    elif job.state is TrainJobState.PAUSED:
        text.append("; its clock stands still")
    return text


def _study(costs: StudyCosts) -> list[RenderableType]:
    study = costs.study
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    facts.add_row("plan", plan_text(study))
    if study.end_reason is None and study.phase is not None:
        facts.add_row("now", PHASES[study.phase])
    left = "" if costs.trials_left is None else f", {costs.trials_left} left"
    facts.add_row("trials", f"{costs.trials_used} used{left}")
    measured = "measured on its own trials" if study.plan.measured else "assumed, not yet measured"
    facts.add_row("costs", measured)
    parts: list[RenderableType] = [facts]
    if costs.costs:
        parts += [Text(), _table(costs.costs)]
    return [Padding(part, (0, 0, 0, 2)) for part in parts]


def _table(costs: Iterable[PhaseCosts]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("phase")
    for column in ("done", "each", "of that compiling", "together"):
        table.add_column(column, justify="right")
    table.add_column("")
    for item in costs:
        others = [f"{item.running} running"] if item.running else []
        others += [f"{item.errored} failed"] if item.errored else []
        table.add_row(
            item.phase,
            str(item.completed),
            _seconds(item.mean_s),
            _seconds(item.compile_s),
            _seconds(item.total_s),
            ", ".join(others),
        )
    return table


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else duration_text(seconds)
