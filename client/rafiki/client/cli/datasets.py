"""`rafiki dataset`: data sets."""

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from rafiki.client import names
from rafiki.client.cli.options import DEFAULT_SERVER, JsonOption, ServerOption, connect
from rafiki.client.cli.output import print_json, print_table, size_text, time_text
from rafiki.client.client import Client
from rafiki.model.tasks import TASKS
from rafiki.resources import Dataset

app = typer.Typer(no_args_is_help=True, help="Data sets: what models are trained and tested on.")


@app.command("create")
def create(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="In the format of its task: see `rafiki dataset formats`.",
        ),
    ],
    task: Annotated[
        str, typer.Option(help="What the data is for; any name will do.")
    ] = "IMAGE_CLASSIFICATION",
    name: Annotated[str, typer.Option(help="Name for people; that of the file if left out.")] = "",
    as_json: JsonOption = False,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Check a data set, then upload it; bytes the server has already are not sent again.

    Example: `rafiki dataset create train.zip --name digits-train`
    """
    with connect(server) as client:
        dataset = upload(client, file, task, name)
    if as_json:
        print_json(dataset)
    else:
        print(
            f"created {dataset.name} ({dataset.display_name}, "
            f"{size_text(dataset.digest.size_bytes)})"
        )


@app.command("list")
def list_(
    task: Annotated[str, typer.Option(help="Only data sets for this task.")] = "",
    as_json: JsonOption = False,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """List the data sets, newest first.

    Example: `rafiki dataset list --task IMAGE_CLASSIFICATION`
    """
    with connect(server) as client:
        datasets = list(client.list_datasets(task))
    if as_json:
        print_json(datasets)
        return
    print_table(
        ["DATA SET", "NAME", "TASK", "SIZE", "SHA-256", "CREATED"],
        [
            (
                names.short(d.name),
                d.display_name,
                d.task,
                size_text(d.digest.size_bytes),
                d.digest.sha256[:12],
                time_text(d.create_time),
            )
            for d in datasets
        ],
        "no data sets yet; upload one with `rafiki dataset create FILE`",
    )


@app.command("formats")
def formats(as_json: JsonOption = False) -> None:
    """List the tasks whose data is known, with its format.

    Data for any other task is uploaded as it is.

    Example: `rafiki dataset formats`
    """
    if as_json:
        print_json([{"task": known.task, "data": known.data} for known in TASKS.values()])
        return
    rows = [(known.task, known.data) for known in TASKS.values()]
    print_table(["TASK", "DATA SET"], rows, "no formats")


def check(file: Path, task: str) -> None:
    """Raises InvalidDataset unless workers will be able to read the file.

    The server takes data sets as bytes; a format it does not know is not checked here either.
    """
    if task in TASKS:
        console = Console(stderr=True)
        with console.status(f"checking {file.name}") if console.is_terminal else nullcontext():
            TASKS[task].check(file)


def upload(client: Client, file: Path, task: str, name: str = "") -> Dataset:
    """Uploads a file, with a progress bar on a terminal, once it is known to be in order.

    Raises:
        InvalidDataset: It is not what the task takes.
    """
    check(file, task)
    if not sys.stderr.isatty():
        return client.create_dataset(file, task=task, display_name=name)
    columns = (TextColumn(file.name), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, transient=True) as progress:
        bar = progress.add_task("upload", total=file.stat().st_size)
        return client.create_dataset(
            file,
            task=task,
            display_name=name,
            on_progress=lambda sent, total: progress.update(bar, completed=sent, total=total),
        )
