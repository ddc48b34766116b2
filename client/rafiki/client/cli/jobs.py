"""`rafiki job`: train jobs."""

import math
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from rafiki.client import names
from rafiki.client.cli.advisors import advisor_settings
from rafiki.client.cli.costs import costs_screen, job_costs
from rafiki.client.cli.datasets import upload
from rafiki.client.cli.failures import INTERRUPTED, CommandFailed
from rafiki.client.cli.options import (
    DEFAULT_SERVER,
    JsonOption,
    ServerOption,
    connect,
    json_values,
    pairs,
)
from rafiki.client.cli.output import (
    print_json,
    print_table,
    state_text,
    time_text,
)
from rafiki.client.cli.output import show as render
from rafiki.client.cli.plans import budget_text, end_text, plan_text, study_title
from rafiki.client.cli.progress import JobProgress
from rafiki.client.cli.screen import screen
from rafiki.client.cli.watch import watch_job
from rafiki.client.client import Client
from rafiki.resources import Budget, Direction, Model, Study, StudySpec, TrainJob, TrainJobState

app = typer.Typer(no_args_is_help=True, help="Train jobs: searches for the best model of a task.")

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="As in `job list`.")]


@app.command("create")
def create(
    model: Annotated[
        list[str],
        typer.Option("--model", metavar="MODEL", help="A model to search; may be repeated."),
    ],
    train: Annotated[
        str, typer.Option(metavar="DATASET", help="To train on: a data set, or a file to upload.")
    ],
    validation: Annotated[
        str, typer.Option(metavar="DATASET", help="To compare by: a data set, or a file.")
    ],
    test: Annotated[
        str, typer.Option(metavar="DATASET", help="To report on, once: a data set, or a file.")
    ] = "",
    time_hours: Annotated[
        float | None, typer.Option("--time-hours", metavar="H", help="Stop after this time.")
    ] = None,
    gpu_count: Annotated[int, typer.Option("--gpu-count", help="GPUs to use; 0 is CPU only.")] = 0,
    trials: Annotated[
        int | None, typer.Option("--trials", metavar="N", help="Stop after N trials per model.")
    ] = None,
    advisor: Annotated[
        str, typer.Option(metavar="KIND", help="auto: the first that fits; as in `advisor list`.")
    ] = "auto",
    advisor_option: Annotated[
        list[str] | None,
        typer.Option(
            "--advisor-option",
            metavar="KEY=VALUE",
            help="May be repeated; keys as in `advisor show KIND`.",
        ),
    ] = None,
    train_arg: Annotated[
        list[str] | None,
        typer.Option("--train-arg", metavar="KEY=VALUE", help="For the model; may be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Makes the search repeatable.")] = None,
    goal: Annotated[
        float | None, typer.Option(metavar="SCORE", help="Stop once a model is this good.")
    ] = None,
    is_minimizing: Annotated[
        bool, typer.Option("--minimize", help="Lower scores are better.")
    ] = False,
    app_name: Annotated[
        str, typer.Option("--app", help="The application; the model's name if left out.")
    ] = "",
    is_dry: Annotated[
        bool, typer.Option("--dry-run", help="Check and plan only; create nothing.")
    ] = False,
    is_watching: Annotated[bool, typer.Option("--watch", help="Follow it until it ends.")] = False,
    as_json: JsonOption = False,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Start searching within a budget: `--time-hours`, `--trials`, or both.

    Example: `rafiki job create --model a1b2c3d4 --train train.zip --validation val.zip
    --time-hours 0.5 --watch`
    """
    settings = advisor_settings(advisor, pairs(advisor_option or [], "--advisor-option"))
    train_args = json_values(pairs(train_arg or [], "--train-arg"))
    budget = _budget(time_hours, gpu_count, trials)
    with connect(server) as client:
        models = [client.get_model(names.model_name(text)) for text in model]
        task = models[0].task
        job = TrainJob(
            app=app_name or _app_name(models[0]),
            task=task,
            studies=tuple(StudySpec(model=m.name, advisor=settings) for m in models),
            budget=budget,
            train_dataset=_dataset(client, train, task),
            validation_dataset=_dataset(client, validation, task),
            test_dataset=_dataset(client, test, task) if test else "",
            train_args=train_args,
            goal_score=goal,
            direction=Direction.MINIMIZE if is_minimizing else Direction.MAXIMIZE,
            seed=seed,
        )
        created, studies = client.create_train_job(job, validate_only=is_dry)
        if as_json:
            print_json({"train_job": created, "studies": studies})
        else:
            _print_created(created, studies, is_dry)
        if is_watching and not is_dry:
            _watch(client, created.name)


@app.command("list")
def list_(
    app_name: Annotated[str, typer.Option("--app", help="Only jobs of this application.")] = "",
    state: Annotated[
        list[TrainJobState] | None,
        typer.Option("--state", case_sensitive=False, help="Only this state; may be repeated."),
    ] = None,
    as_json: JsonOption = False,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """List the jobs, newest first.

    Example: `rafiki job list --state RUNNING`
    """
    with connect(server) as client:
        jobs = list(client.list_train_jobs(app_name, state or []))
    if as_json:
        print_json(jobs)
        return
    print_table(
        ["JOB", "APP", "TASK", "STATE", "BUDGET", "BEST TRIAL", "CREATED"],
        [
            (
                names.short(j.name),
                f"{j.app} v{j.app_version}",
                j.task,
                state_text(j.state),
                budget_text(j.budget),
                names.short(j.best_trial),
                time_text(j.create_time),
            )
            for j in jobs
        ],
        "no jobs yet; start one with `rafiki job create`",
    )


@app.command("show")
def show(
    job: JobArgument, as_json: JsonOption = False, server: ServerOption = DEFAULT_SERVER
) -> None:
    """Show a job as it is now: studies, plan, rounds, best trial.

    Example: `rafiki job show a1b2c3d4`
    """
    name = names.job_name(job)
    with connect(server) as client:
        progress = JobProgress.load(client, name)
    if as_json:
        print_json(
            {
                "train_job": progress.job,
                "studies": list(progress.studies.values()),
                "rounds": {study: progress.rounds_of(study) for study in progress.studies},
                "best_trial": progress.best,
            }
        )
    else:
        render(screen(progress))


@app.command("watch")
def watch(job: JobArgument, server: ServerOption = DEFAULT_SERVER) -> None:
    """Follow a job until it ends; Ctrl-C stops following, not the job.

    Ends with status 1 if the job fails. Without a terminal it prints a line per event.

    Example: `rafiki job watch a1b2c3d4`
    """
    with connect(server) as client:
        _watch(client, names.job_name(job))


@app.command("plan")
def plan(
    job: JobArgument, as_json: JsonOption = False, server: ServerOption = DEFAULT_SERVER
) -> None:
    """Show what a job has still to do, what each part costs and what of the budget is left.

    `job create --dry-run` shows the plan of a job that is not created.

    Example: `rafiki job plan a1b2c3d4`
    """
    name = names.job_name(job)
    with connect(server) as client:
        found = client.get_train_job(name)
        studies = [(s, client.list_trials(s.name)) for s in client.list_studies(name)]
        costs = job_costs(found, studies)
    if as_json:
        print_json(costs)
    else:
        render(costs_screen(costs))


@app.command("pause")
def pause(job: JobArgument, server: ServerOption = DEFAULT_SERVER) -> None:
    """Pause a job: what runs finishes, nothing else starts, its clock stands still.

    Example: `rafiki job pause a1b2c3d4`
    """
    with connect(server) as client:
        paused = client.pause_train_job(names.job_name(job))
    short = names.short(paused.name)
    print(f"job {short} is {paused.state.lower()}; `rafiki job resume {short}` goes on with it")


@app.command("resume")
def resume(job: JobArgument, server: ServerOption = DEFAULT_SERVER) -> None:
    """Go on with a paused job.

    Example: `rafiki job resume a1b2c3d4`
    """
    with connect(server) as client:
        resumed = client.resume_train_job(names.job_name(job))
    print(f"job {names.short(resumed.name)} is {resumed.state.lower()}")


@app.command("stop")
def stop(job: JobArgument, server: ServerOption = DEFAULT_SERVER) -> None:
    """Stop a job; what it has found so far stays usable.

    Example: `rafiki job stop a1b2c3d4`
    """
    with connect(server) as client:
        stopped = client.stop_train_job(names.job_name(job))
    print(f"job {names.short(stopped.name)} is {stopped.state.lower()}")


def _watch(client: Client, name: str) -> None:
    try:
        job = watch_job(client, name).job
    except KeyboardInterrupt:
        short = names.short(name)
        print(f"\njob {short} goes on; `rafiki job watch {short}` follows it again, ", end="")
        print(f"`rafiki job stop {short}` stops it")
        raise typer.Exit(INTERRUPTED) from None
    if job.state is TrainJobState.FAILED:
        raise CommandFailed(_why_failed(client, job))


def _why_failed(client: Client, job: TrainJob) -> str:
    ends = [f"{names.short(s.name)}: {end_text(s)}" for s in client.list_studies(job.name)]
    return "\n".join([f"job {names.short(job.name)} failed", *ends])


def _budget(time_hours: float | None, gpu_count: int, trials: int | None) -> Budget:
    """The budget; the server judges it, but what has no wire form is refused here."""
    if time_hours is None and trials is None:
        raise typer.BadParameter("a budget is needed: --time-hours, --trials, or both")
    if time_hours is not None and not (math.isfinite(time_hours) and time_hours > 0):
        raise typer.BadParameter("must be above 0", param_hint="--time-hours")
    if time_hours is not None and time_hours > 24 * 366:
        raise typer.BadParameter("must be below a year", param_hint="--time-hours")
    if trials is not None and not 0 < trials < 2**31:
        raise typer.BadParameter("must be above 0", param_hint="--trials")
    if not 0 <= gpu_count < 2**31:
        raise typer.BadParameter("must not be negative", param_hint="--gpu-count")
    return Budget(
        time=None if time_hours is None else timedelta(hours=time_hours),
        gpu_count=gpu_count,
        model_trial_count=trials or 0,
    )


def _dataset(client: Client, text: str, task: str) -> str:
    """The name of a data set; a file is uploaded first."""
    path = Path(text)
    if path.is_file():
        return upload(client, path, task).name
    try:
        return names.dataset_name(text)
    except names.InvalidName:
        raise CommandFailed(f"{text!r} is neither a data set nor a file") from None


def _app_name(model: Model) -> str:
    """A name of the form of apps from that of a model."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", model.display_name).lower()
    name = re.sub(r"[^a-z0-9]+", "-", words).strip("-")[:62]
    return name if name[:1].isalpha() else f"app-{name}".strip("-")


def _print_created(job: TrainJob, studies: tuple[Study, ...], is_dry: bool) -> None:
    print("would create a job" if is_dry else f"created {job.name}", end="")
    print(f" for {job.app}" + (f" v{job.app_version}" if job.app_version else ""))
    print(f"  budget: {budget_text(job.budget)}")
    for study in studies:
        print(f"  {study_title(study)}")
        print(f"    plan: {plan_text(study)}")
        control = study.spec.advisor.control_fraction
        if control:
            print(f"    {control:.0%} of the draws go to a random control arm")
    if not is_dry:
        print(f"follow it: rafiki job watch {names.short(job.name)}")
