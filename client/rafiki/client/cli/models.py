"""`rafiki model`: templates."""

from pathlib import Path
from typing import Annotated

import typer

from rafiki.client import names
from rafiki.client.bench import BenchFailed, Report, run_bench
from rafiki.client.cli.failures import CommandFailed
from rafiki.client.cli.options import DEFAULT_SERVER, JsonOption, ServerOption, connect
from rafiki.client.cli.output import (
    knob_text,
    print_fields,
    print_json,
    print_table,
    size_text,
    time_text,
)
from rafiki.client.client import Client
from rafiki.model.loading import ModelRejected, pack_source
from rafiki.model.serial import config_from_json
from rafiki.resources import Model

app = typer.Typer(no_args_is_help=True, help="Model templates: what can be searched and trained.")

FileArgument = Annotated[
    Path, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="A Python file.")
]
ClassOption = Annotated[
    str, typer.Option("--class", metavar="NAME", help="The class, if the file has several.")
]
TrainOption = Annotated[
    Path | None,
    typer.Option(
        "--train", exists=True, dir_okay=False, metavar="ZIP", help="Data set to test with."
    ),
]
ValidationOption = Annotated[
    Path | None,
    typer.Option(
        "--validation", exists=True, dir_okay=False, metavar="ZIP", help="Data set to test with."
    ),
]


@app.command("test")
def test(
    file: FileArgument,
    class_name: ClassOption = "",
    train: TrainOption = None,
    validation: ValidationOption = None,
) -> None:
    """Run a template through its whole life on this machine, without a server.

    Without data sets, small made-up images are used.

    Example: `rafiki model test my_model.py`
    """
    _bench(file, class_name, train, validation, extract_only=False)


@app.command("create")
def create(
    file: FileArgument,
    class_name: ClassOption = "",
    name: Annotated[str, typer.Option(help="Name for people; the class's own if left out.")] = "",
    skip_test: Annotated[
        bool, typer.Option("--skip-test", help="Only read its knobs; do not run it.")
    ] = False,
    train: TrainOption = None,
    validation: ValidationOption = None,
    as_json: JsonOption = False,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Test a template as `model test` does, then register it.

    Example: `rafiki model create my_model.py --name "My model"`
    """
    with connect(server) as client:
        next(client.list_models(), None)  # a server that is not there is told before the test
        report = _bench(
            file, class_name, train, validation, extract_only=skip_test, is_quiet=as_json
        )
        model = register(client, file, report, name)
    if as_json:
        print_json(model)
    else:
        print(f"created {model.name} ({model.display_name})")
        print(f"search with it: rafiki job create --model {names.short(model.name)} ...")


@app.command("list")
def list_(
    task: Annotated[str, typer.Option(help="Only models of this task.")] = "",
    as_json: JsonOption = False,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """List the models, newest first.

    Example: `rafiki model list --task IMAGE_CLASSIFICATION`
    """
    with connect(server) as client:
        models = list(client.list_models(task))
    if as_json:
        print_json(models)
        return
    print_table(
        ["MODEL", "NAME", "TASK", "CLASS", "KNOBS", "CREATED"],
        [
            (
                names.short(m.name),
                m.display_name,
                m.task,
                m.model_class,
                str(len(m.knob_config)),
                time_text(m.create_time),
            )
            for m in models
        ],
        "no models yet; register one with `rafiki model create FILE`",
    )


@app.command("show")
def show(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="As in `model list`.")],
    as_json: JsonOption = False,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show a model with its knobs.

    Example: `rafiki model show a1b2c3d4`
    """
    with connect(server) as client:
        found = client.get_model(names.model_name(model))
    if as_json:
        print_json(found)
        return
    print_fields(
        {
            "model": found.name,
            "name": found.display_name,
            "task": found.task,
            "class": found.model_class,
            "source": f"{size_text(found.source.size_bytes)}, sha256 {found.source.sha256}",
            "dependencies": ", ".join(f"{k}=={v}" for k, v in sorted(found.dependencies.items())),
            "candidates": "several per trial" if found.candidate_batches else "one per trial",
            "owner": found.owner,
            "created": time_text(found.create_time),
        }
    )
    print()
    print_table(
        ["KNOB", "VALUES"],
        [(name, knob_text(knob)) for name, knob in found.knob_config.items()],
        "no knobs",
    )


def register(client: Client, file: Path, report: Report, display_name: str = "") -> Model:
    """Uploads a template that its bench has described.

    Raises:
        CommandFailed: The file is no usable source.
        RafikiError: The server refuses it.
    """
    try:
        source = pack_source(file)
    except ModelRejected as error:
        raise CommandFailed(str(error)) from error
    return client.create_model(
        source,
        display_name=display_name or report.model_class.rpartition(":")[2],
        task=report.task,
        model_class=report.model_class,
        knob_config=config_from_json(report.knob_config),
        dependencies=report.dependencies,
        candidate_batches=report.candidate_batches,
    )


def _bench(
    file: Path,
    class_name: str,
    train: Path | None,
    validation: Path | None,
    *,
    extract_only: bool,
    is_quiet: bool = False,
) -> Report:
    if (train is None) != (validation is None):
        raise typer.BadParameter("--train and --validation are given together or not at all")
    try:
        return run_bench(
            file,
            class_name,
            train,
            validation,
            extract_only=extract_only,
            is_quiet=is_quiet or extract_only,
        )
    except BenchFailed as error:
        raise CommandFailed(str(error)) from error
