"""Advisor settings from options of the command line."""

from collections.abc import Mapping
from dataclasses import fields

import typer

from rafiki.resources import AdvisorKind, AdvisorSettings, EnasOptions

CONTROL = "control_fraction"
AUTO = "auto"


def advisor_settings(advisor: str, options: Mapping[str, str]) -> AdvisorSettings:
    """The settings that `--advisor` and `--advisor-option` ask for.

    Raises:
        typer.BadParameter: A name or value is not known.
    """
    rest = dict(options)
    control = _number(CONTROL, rest.pop(CONTROL)) if CONTROL in rest else 0.0
    kind = _kind(advisor)
    if rest and kind not in (None, AdvisorKind.ENAS):
        raise typer.BadParameter(f"{kind} has no option {next(iter(rest))}", param_hint="--advisor")
    enas = _enas(rest) if rest else None
    return AdvisorSettings(
        kind=AdvisorKind.ENAS if enas is not None else kind, control_fraction=control, enas=enas
    )


def option_names() -> list[str]:
    """What `--advisor-option` takes."""
    return [CONTROL, *(field.name for field in fields(EnasOptions))]


def _kind(advisor: str) -> AdvisorKind | None:
    if advisor.lower() == AUTO:
        return None
    try:
        return AdvisorKind(advisor.upper().replace("-", "_"))
    except ValueError:
        known = ", ".join([AUTO, *AdvisorKind])
        raise typer.BadParameter(
            f"no advisor is called {advisor!r}; there are {known}", param_hint="--advisor"
        ) from None


def _enas(options: Mapping[str, str]) -> EnasOptions:
    types = {field.name: field.type for field in fields(EnasOptions)}
    integers: dict[str, int] = {}
    floats: dict[str, float] = {}
    for name, text in options.items():
        if name not in types:
            raise typer.BadParameter(
                f"no option is called {name!r}; there are {', '.join(option_names())}",
                param_hint="--advisor-option",
            )
        if types[name] is int:
            integers[name] = _integer(name, text)
        else:
            floats[name] = _number(name, text)
    return EnasOptions(**integers, **floats)  # type: ignore[arg-type]  # by the types above


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(
            f"{name} is an integer, not {text!r}", param_hint="--advisor-option"
        ) from None


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(
            f"{name} is a number, not {text!r}", param_hint="--advisor-option"
        ) from None
