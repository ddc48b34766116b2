"""`rafiki up`: a server and workers on this machine."""

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from rafiki.client.cli.options import DEFAULT_SERVER
from rafiki.client.cli.output import console, print_fields
from rafiki.client.local import LocalPlatform, PlatformConfig


def up(
    workers: Annotated[
        int | None,
        typer.Option(min=0, help="Workers to start; one per core, at most 4, if left out."),
    ] = None,
    data_dir: Annotated[
        Path,
        typer.Option("--data-dir", file_okay=False, help="Where everything is kept."),
    ] = Path("rafiki-data"),
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where the server listens.")
    ] = DEFAULT_SERVER,
    is_verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also show what the programs log.")
    ] = False,
) -> None:
    """Run a server and workers here until Ctrl-C. What is in the data folder stays.

    With several workers each gets cores of its own. A worker that dies is started again.

    Example: `rafiki up --workers 2`
    """
    screen = console()
    echo = (
        (lambda name, line: screen.print(f"{name} | {line}", markup=False)) if is_verbose else None
    )
    config = PlatformConfig(
        data_dir=data_dir,
        listen=listen,
        workers=default_workers() if workers is None else workers,
    )
    interrupt_on_signals()
    platform = LocalPlatform(config, lambda text: screen.print(text, markup=False), echo)
    try:
        screen.print("starting the server ...", style="dim")
        with platform:
            _print_screen(platform)
            pause = threading.Event()
            while True:
                platform.tend()
                pause.wait(0.5)
    except KeyboardInterrupt:
        screen.print("stopped; `rafiki up` goes on from here")


def default_workers() -> int:
    """A worker per usable core, at most 4."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return max(1, min(cores, 4))


def interrupt_on_signals() -> None:
    """Lets SIGTERM and SIGHUP do what Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    signal.signal(signal.SIGHUP, interrupt)


def _print_screen(platform: LocalPlatform) -> None:
    workers = [_worker_text(name, cores) for name, cores in platform.cores.items()]
    is_default = platform.address == DEFAULT_SERVER
    server = "" if is_default else f" --server {platform.address}"
    print_fields(
        {
            "server": platform.address,
            "workers": ", ".join(workers) or "none; start some with `rafiki worker`",
            "data": str(platform.config.data_dir.resolve()),
            "logs": str(platform.log_folder.resolve()),
        }
    )
    print()
    print("In another terminal:")
    print(f"  rafiki model create FILE.py{server}")
    print(f"  rafiki dataset create FILE.zip{server}")
    print("  rafiki job create --help")
    print()
    print("Ctrl-C stops the server and the workers.")


def _worker_text(name: str, cores: tuple[int, ...]) -> str:
    many = "s" if len(cores) > 1 else ""
    return f"{name} (core{many} {', '.join(map(str, cores))})" if cores else name
