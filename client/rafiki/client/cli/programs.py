"""`rafiki server` and `rafiki worker`: the programs themselves, flags passed through."""

import importlib.util
import os
import sys
from typing import NoReturn

import typer

from rafiki.client.cli.failures import CommandFailed

# Every flag, `--help` included, is the program's.
PASS_THROUGH = {
    "allow_extra_args": True,
    "ignore_unknown_options": True,
    "help_option_names": [],
}


def server(context: typer.Context) -> None:
    """Run a server in the foreground; flags are those of `rafiki-server`.

    Example: `rafiki server --data-dir /srv/rafiki --listen 0.0.0.0:8780`
    """
    _become("rafiki.server", context.args)


def worker(context: typer.Context) -> None:
    """Run a worker in the foreground; flags are those of `rafiki-worker`.

    Example: `rafiki worker --server 10.0.0.5:8780`
    """
    _become("rafiki.worker", context.args)


def _become(module: str, arguments: list[str]) -> NoReturn:
    extra = module.rpartition(".")[2]
    if importlib.util.find_spec(module) is None:
        raise CommandFailed(f"{module} is not installed; try pip install 'rafiki[{extra}]'")
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])
