"""How the `rafiki` command fails: a few plain lines, never a traceback."""

import re
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from rafiki.client.cli.output import print_error
from rafiki.client.errors import RafikiError, ServerUnreachable
from rafiki.client.local import PlatformError
from rafiki.client.names import InvalidName
from rafiki.model import InvalidDataset, InvalidKnobConfig
from rafiki.wire.fields import InvalidField

# Typer has its own copy of click from some release on; this is the base in either.
_UsageError: Any = typer.BadParameter.__mro__[1]

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


class CommandFailed(Exception):
    """A command could not do what it was asked to; the message says why."""


class RafikiGroup(TyperGroup):
    """The root of the commands: turns what they raise into lines and an exit status."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,  # the signature of click
    ) -> Any:
        """Runs a command and exits."""
        try:
            status = super().main(
                args, prog_name, complete_var, False, windows_expand_args, **extra
            )
        except _UsageError as error:
            print_error(_usage_text(error))
            status = USAGE
        except ServerUnreachable as error:
            print_error(
                f"{error.message}; start one with `rafiki up`, or name another with --server"
            )
            status = FAILED
        except (RafikiError, PlatformError, CommandFailed, InvalidName, InvalidDataset) as error:
            print_error(str(error))
            status = FAILED
        except (InvalidField, InvalidKnobConfig) as error:
            print_error(f"the server's answer cannot be read: {error}")
            status = FAILED
        except typer.Abort:
            print_error("aborted")
            status = FAILED
        except OSError as error:
            if error.filename is None:
                raise
            print_error(f"{error.filename}: {error.strerror}")
            status = FAILED
        sys.exit(status if isinstance(status, int) else OK)


def _usage_text(error: Any) -> str:
    message = re.sub(r"\s*\n\s*", " ", error.format_message())
    context = getattr(error, "ctx", None)
    if context is None:
        return str(message)
    return f"{message}\nsee `{context.command_path} --help`"
