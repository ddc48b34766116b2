"""`rafiki trial`: single trials."""

from typing import Annotated

import typer
from rich.text import Text

from rafiki.client import names
from rafiki.client.cli.options import DEFAULT_SERVER, JsonOption, ServerOption, connect
from rafiki.client.cli.output import (
    console,
    duration_text,
    print_fields,
    print_json,
    print_table,
    score_text,
    state_text,
    time_text,
)
from rafiki.resources import LogLevel, Trial, TrialOrder, TrialPhase, TrialState

app = typer.Typer(no_args_is_help=True, help="Trials: single pieces of work of a job.")

TrialArgument = Annotated[
    str,
    typer.Argument(metavar="TRIAL", help="Its number with --job, or job/study/trial."),
]
JobOption = Annotated[str, typer.Option("--job", help="The job of a trial given by number.")]
_LEVEL_STYLES = {LogLevel.DEBUG: "dim", LogLevel.WARNING: "yellow", LogLevel.ERROR: "red"}
_MOST_CANDIDATES = 12


@app.command("list")
def list_(
    job: Annotated[str, typer.Argument(metavar="JOB", help="A job, or a study as job/study.")],
    phase: Annotated[
        list[TrialPhase] | None,
        typer.Option("--phase", case_sensitive=False, help="Only this phase; may be repeated."),
    ] = None,
    state: Annotated[
        list[TrialState] | None,
        typer.Option("--state", case_sensitive=False, help="Only this state; may be repeated."),
    ] = None,
    is_best: Annotated[
        bool, typer.Option("--best", help="Only deployable trials, the best first.")
    ] = False,
    by_score: Annotated[
        bool, typer.Option("--by-score", help="The best first; needs one --phase.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="At most this many.")] = 1000,
    as_json: JsonOption = False,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """List the trials of a job. Scores of different phases are not comparable.

    Example: `rafiki trial list a1b2c3d4 --phase FINAL_TRAIN`
    """
    phases, states = phase or [], state or []
    if by_score and len(phases) != 1:
        raise typer.BadParameter("scores are compared within one phase only", param_hint="--phase")
    if is_best and (phases or states or by_score):
        raise typer.BadParameter("takes no --phase, --state or --by-score", param_hint="--best")
    parent = names.study_name(job) if "/studies/" in job or _is_study(job) else names.job_name(job)
    with connect(server) as client:
        if is_best:
            found = client.list_best_trials(parent)
        else:
            order = TrialOrder.SCORE if by_score else TrialOrder.PROPOSED
            found = client.list_trials(parent, states=states, phases=phases, order=order)
        trials = [trial for _, trial in zip(range(limit), found, strict=False)]
    if as_json:
        print_json(trials)
        return
    print_table(
        ["TRIAL", "PHASE", "STATE", "ROUND", "CANDIDATES", "SCORE", "TEST", "WORKER", "TOOK"],
        [
            (
                names.short(t.name),
                t.phase + (" (control)" if t.control else ""),
                state_text(t.state),
                str(t.round or ""),
                str(len(t.candidates) or ""),
                score_text(t.score),
                "" if t.test_score is None else score_text(t.test_score),
                t.worker,
                _took(t),
            )
            for t in trials
        ],
        "no trials",
    )


@app.command("show")
def show(
    trial: TrialArgument,
    job: JobOption = "",
    as_json: JsonOption = False,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show a trial: what was tried, why, and what came of it.

    Example: `rafiki trial show 3 --job a1b2c3d4`
    """
    with connect(server) as client:
        found = client.get_trial(names.trial_name(trial, job))
    if as_json:
        print_json(found)
    else:
        _print_trial(found)


@app.command("logs")
def logs(
    trial: TrialArgument,
    job: JobOption = "",
    level: Annotated[
        LogLevel, typer.Option("--level", case_sensitive=False, help="The least that matters.")
    ] = LogLevel.DEBUG,
    as_json: JsonOption = False,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Print what a trial logged, with its error if it failed.

    Example: `rafiki trial logs 3 --job a1b2c3d4 --level WARNING`
    """
    name = names.trial_name(trial, job)
    with connect(server) as client:
        found = client.get_trial(name)
        lines = list(client.list_trial_logs(name, level))
    if as_json:
        print_json(lines)
        return
    screen = console()
    for line in lines:
        time = line.time.astimezone().strftime("%H:%M:%S")
        head = f"{time} {line.attempt} {line.level:<7} "
        screen.print(Text(head, "dim") + Text(line.message, _LEVEL_STYLES.get(line.level, "")))
    if found.error is not None:
        print(f"{found.error.kind}: {found.error.message}")
        if found.error.traceback:
            print(found.error.traceback.rstrip())
    elif not lines:
        print(f"trial {names.short(name)} ({found.state}) has logged nothing")


def _print_trial(trial: Trial) -> None:
    on = sorted(trial.policies)
    timings = trial.timings
    print_fields(
        {
            "trial": trial.name,
            "phase": trial.phase + (" (random control)" if trial.control else ""),
            "state": state_text(trial.state),
            "score": "" if trial.score is None else score_text(trial.score),
            "test score": "" if trial.test_score is None else score_text(trial.test_score),
            "round": str(trial.round or ""),
            "policies": ", ".join(on) or "none on",
            "knobs": ", ".join(f"{name}={value}" for name, value in trial.knobs.items()),
            "based on": ", ".join(f"{k}={v:g}" for k, v in trial.basis.items()),
            "starts from": trial.start_checkpoint or "fresh parameters",
            "saved": trial.final_checkpoint,
            "seed": str(trial.seed),
            "worker": trial.worker,
            "attempt": str(trial.attempt),
            "stopped": str(trial.stop_reason or ""),
            "error": "" if trial.error is None else f"{trial.error.kind}: {trial.error.message}",
            "created": time_text(trial.create_time),
            "took": _took(trial),
            "of that": ""
            if timings is None
            else ", ".join(
                f"{name} {duration_text(seconds)}"
                for name, seconds in (
                    ("queue", timings.queue_s),
                    ("setup", timings.setup_s),
                    ("compile", timings.compile_s),
                    ("train", timings.train_s),
                    ("evaluate", timings.evaluate_s),
                )
                if seconds > 0
            ),
        }
    )
    if trial.candidates:
        print()
        shown = trial.candidates[:_MOST_CANDIDATES]
        print_table(
            ["CANDIDATE", "SCORE", "ARCHITECTURE (choices by position)"],
            [
                (
                    str(number),
                    score_text(candidate.score),
                    "  ".join(f"{k} {' '.join(map(str, v))}" for k, v in candidate.archs.items()),
                )
                for number, candidate in enumerate(shown, 1)
            ],
            "",
        )
        if len(trial.candidates) > len(shown):
            print(f"... and {len(trial.candidates) - len(shown)} more; all with --json")


def _took(trial: Trial) -> str:
    if trial.start_time is None or trial.end_time is None:
        return ""
    return duration_text((trial.end_time - trial.start_time).total_seconds())


def _is_study(text: str) -> bool:
    return text.count("/") == 1 and not text.startswith("trainJobs/")
