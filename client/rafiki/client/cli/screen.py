"""The live screen of `job watch`."""

from datetime import UTC, datetime

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from rafiki.client import names
from rafiki.client.cli.output import duration_text, score_text, state_text
from rafiki.client.cli.plans import (
    PHASES,
    SHARED_WEIGHTS,
    budget_text,
    control_text,
    count,
    end_text,
    plan_text,
    planned_done,
    rounds_text,
    share_done,
    study_title,
)
from rafiki.client.cli.progress import JobProgress
from rafiki.resources import Study, StudyRound, TrainJob, Trial, TrialPhase

_MOST_ROUNDS = 8
_LEAST_ROUNDS = 3
_OTHER_LINES = 22  # of the screen of a job with one study
_MOST_TRIALS = 8
_BARS = "▁▂▃▄▅▆▇█"


def screen(progress: JobProgress, hint: str = "", height: int = 100) -> RenderableType:
    """The whole picture of a job now, with the line `hint` at its end.

    In a terminal of few lines (`height`), it shows fewer rounds.
    """
    latest = max(_LEAST_ROUNDS, min(_MOST_ROUNDS, height - _OTHER_LINES))
    job = progress.job
    parts: list[RenderableType] = [_head(job)]
    if job.waiting_for:
        parts.append(Text(f"waiting for {job.waiting_for}", "yellow"))
    for study in progress.studies.values():
        parts += [Text(), *_study(progress, study, latest)]
    if progress.best is not None:
        parts += [Text(), _best(progress.best)]
    if hint:
        parts += [Text(), Text(hint, "dim")]
    return Group(*parts)


def _head(job: TrainJob) -> Text:
    text = Text.assemble(
        ("job ", "bold"), (names.short(job.name), "bold"), "  ", f"{job.app} v{job.app_version}  "
    )
    text += state_text(job.state)
    if job.create_time is not None:
        end = job.end_time or datetime.now(UTC)
        text.append(f"  after {duration_text((end - job.create_time).total_seconds())}")
    text.append(f"  budget {budget_text(job.budget)}", "dim")
    if job.budget.time is not None and job.time_used is not None:
        text.append(f" ({duration_text(job.time_used.total_seconds())} used)", "dim")
    if not job.state.is_end:
        text.append(f"  {count(job.workers, 'worker')}", "dim")
    return text


def _study(progress: JobProgress, study: Study, latest: int) -> list[RenderableType]:
    rounds = progress.rounds_of(study.name)
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_column(style="dim")
    facts.add_column(overflow="fold")
    phase = PHASES[study.phase] if study.phase is not None else ""
    if study.phase in (TrialPhase.SEARCH_TRAIN, TrialPhase.SEARCH_EVAL) and study.plan.rounds:
        phase = f"{rounds_text(study.plan)}, {phase}"
    if study.end_reason is None:
        facts.add_row("phase", phase)
    facts.add_row("plan", plan_text(study))
    failed = f", {study.errored_trials} failed" if study.errored_trials else ""
    total = f" of {study.plan.trials}" if study.plan.trials else ""
    facts.add_row("trials", f"{planned_done(study)}{total} done{failed}")
    if study.control_arm is not None:
        facts.add_row("control", control_text(study.control_arm))
    if study.end_reason is not None:
        facts.add_row("ended", end_text(study))
    title = Text.assemble((study_title(study), "bold"), "  ")
    parts: list[RenderableType] = [title + state_text(study.state), facts]
    parts.append(ProgressBar(total=1.0, completed=share_done(study), width=60))
    if rounds:
        parts += [Text(), *_rounds(rounds, latest)]
    running = progress.running_of(study.name)
    if running:
        parts += [Text(), _running(running)]
    return [parts[0], *(Padding(part, (0, 0, 0, 2)) for part in parts[1:])]


def _rounds(rounds: list[StudyRound], latest: int) -> list[RenderableType]:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("round", "mean", "control", "best", "entropy", "train", "evaluate"):
        table.add_column(column, justify="right")
    for r in rounds[-latest:]:
        table.add_row(
            str(r.round),
            score_text(r.mean_reward),
            score_text(r.control.mean if r.control is not None and r.control.count else None),
            score_text(r.best.score if r.best is not None else None),
            f"{r.entropy:.2f}",
            duration_text(r.train_s),
            duration_text(r.evaluate_s),
        )
    curve = Text.assemble(("mean by round ", "dim"), sparkline([r.mean_reward for r in rounds]))
    return [Text(SHARED_WEIGHTS, "italic dim"), table, curve]


def _running(trials: list[Trial]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    for trial in trials[:_MOST_TRIALS]:
        many = f"{len(trial.candidates)} candidates" if len(trial.candidates) > 1 else ""
        done: RenderableType = ""
        left = ""
        if trial.progress is not None:
            done = ProgressBar(total=1.0, completed=trial.progress.fraction, width=20)
            left = f"{trial.progress.fraction:.0%}"
            if trial.progress.remaining_s is not None:
                left += f", {duration_text(trial.progress.remaining_s)} left"
        number = trial.name.rpartition("/")[2]
        kind = trial.phase + (" (control)" if trial.control else "")
        table.add_row(Text(f"trial {number}", "cyan"), kind, many, trial.worker, done, left)
    if len(trials) > _MOST_TRIALS:
        table.add_row(f"and {len(trials) - _MOST_TRIALS} more")
    return table


def _best(trial: Trial) -> Text:
    text = Text.assemble(
        ("best ", "bold"),
        f"trial {names.short(trial.name)} ({trial.phase}) ",
        (f"score {score_text(trial.score)}", "bold green"),
    )
    if trial.test_score is not None:
        text.append(f"  test {score_text(trial.test_score)}")
    return text


def sparkline(values: list[float], width: int = 60) -> str:
    """Values as a line of block characters, the lowest to the highest; the latest `width`."""
    values = values[-width:]
    if not values:
        return ""
    low, high = min(values), max(values)
    scale = (len(_BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(_BARS[round((value - low) * scale)] for value in values)
