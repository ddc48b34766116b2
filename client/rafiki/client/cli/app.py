"""The commands of `rafiki`, put together."""

import io
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from rafiki.client.cli import (
    checkpoints,
    datasets,
    demo,
    health,
    jobs,
    models,
    programs,
    schemes,
    trials,
    up,
)
from rafiki.client.cli.failures import RafikiGroup

app = typer.Typer(
    name="rafiki",
    cls=RafikiGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help=(
        "Rafiki searches, trains and keeps machine-learning models within a budget.\n\n"
        "Begin with `rafiki demo`, or with `rafiki up` in one terminal and the other "
        "commands in another."
    ),
)


def _print_version(is_asked: bool) -> None:
    if is_asked:
        print(f"rafiki {version('rafiki')}")
        raise typer.Exit


@app.callback()
def _root(
    is_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the release."
        ),
    ] = False,
) -> None:
    pass


app.command("demo")(demo.demo)
app.command("up")(up.up)
app.command("server", context_settings=programs.PASS_THROUGH)(programs.server)
app.command("worker", context_settings=programs.PASS_THROUGH)(programs.worker)
app.add_typer(models.app, name="model")
app.add_typer(datasets.app, name="dataset")
jobs.app.command("health")(health.health)
app.add_typer(jobs.app, name="job")
app.add_typer(schemes.app, name="advisor")
app.add_typer(trials.app, name="trial")
app.add_typer(checkpoints.app, name="checkpoint")
app.command("gc")(checkpoints.collect)


def main() -> None:
    """Runs the `rafiki` command."""
    # Whoever reads a pipe follows `up` and `watch` line by line, as in a terminal.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    app(prog_name="rafiki")
