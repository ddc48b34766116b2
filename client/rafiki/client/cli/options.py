"""Options that many commands share, and lists of `key=value`."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer

from rafiki.client.client import DEFAULT_ADDRESS, Client
from rafiki.resources import JSON

ServerOption = Annotated[
    str,
    typer.Option(
        "--server",
        envvar="RAFIKI_SERVER",
        metavar="HOST:PORT",
        help="Address of the server.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
DEFAULT_SERVER = DEFAULT_ADDRESS


def connect(server: str) -> Client:
    """A client of the server at `server`; nothing is sent yet."""
    host, _, port = server.rpartition(":")
    if not host or not port.isdecimal():
        raise typer.BadParameter(
            f"{server!r} is no address; write HOST:PORT", param_hint="--server"
        )
    return Client(server)


def pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """`key=value` texts as a dict.

    Raises:
        typer.BadParameter: A text has no `=` or no key, or a key comes twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{text!r} is not key=value", param_hint=option)
        if key in values:
            raise typer.BadParameter(f"{key!r} is given twice", param_hint=option)
        values[key] = value
    return values


def json_values(values: Mapping[str, str]) -> dict[str, JSON]:
    """Values as JSON; a text that is none stands for itself."""
    result: dict[str, JSON] = {}
    for key, text in values.items():
        try:
            result[key] = json.loads(text)
        except json.JSONDecodeError:
            result[key] = text
    return result
