"""`rafiki demo`: the whole path once."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from rafiki.client.cli.failures import INTERRUPTED, CommandFailed
from rafiki.client.cli.up import interrupt_on_signals

_NEEDED = ("sklearn", "matplotlib", "PIL", "safetensors", "rafiki.server", "rafiki.worker")


def demo(
    folder: Annotated[
        Path, typer.Option(file_okay=False, help="Where the results are written.")
    ] = Path("demo"),
    time_s: Annotated[
        float,
        typer.Option(
            "--time-s",
            min=30,
            metavar="S",
            help="Most time for the search, once costs are measured.",
        ),
    ] = 300.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the search.")] = 1,
) -> None:
    """Search a network for real images with ENAS, train it, and use it: about 3 minutes.

    Starts a server and two workers of its own, and stops them at the end.

    Example: `rafiki demo`
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise CommandFailed(f"{missing[0]} is not installed; try pip install 'rafiki[all]'")
    from rafiki.client.demo.outcome import DemoFailed
    from rafiki.client.demo.run import DemoConfig, run_demo

    interrupt_on_signals()
    try:
        run_demo(DemoConfig(folder=folder, time_s=time_s, seed=seed))
    except DemoFailed as error:
        raise CommandFailed(str(error)) from error
    except KeyboardInterrupt:
        print("\nthe demo was stopped; nothing it started is left running")
        raise typer.Exit(INTERRUPTED) from None
