"""Settings of a program: flags, then `RAFIKI_*` variables, then a TOML file, then defaults.

A program declares a subclass of `Settings`. A field `lease_s` of the server is the flag
`--lease-s`, the variable `RAFIKI_LEASE_S` (or `RAFIKI_SERVER_LEASE_S`, for the server alone) and
the key `lease_s` in the table `[server]` of the file; its description is its line in `--help`.
"""

import argparse
import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, NoReturn, TypeAlias, TypeVar, get_args, get_origin

from pydantic import BeforeValidator, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.exceptions import SettingsError as SourceError

_PREFIX = "RAFIKI_"
_CONFIG_VARIABLE = "RAFIKI_CONFIG"
# The tables that a file may have; a program reads its own.
_TABLES = ("server", "worker")
# How alike a name must be to a known one to be taken for a slip.
_ALIKE = 0.8


class Settings(BaseSettings):
    """The settings of one program; each field is one. Ask `read_settings` for them."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False
    )

    program: ClassVar[str]  # as in its table and its variables

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is given: `read_settings` asks the sources, and knows what came whence."""
        return (init_settings,)


class SettingsError(ValueError):
    """A setting is unknown or makes no sense; the message has a line for each."""


_Settings = TypeVar("_Settings", bound=Settings)


def _split(value: object) -> object:
    return value.split() if isinstance(value, str) else value


# Several words: separate arguments of a flag, apart by spaces in a variable, a list in a file.
Words: TypeAlias = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]


def read_settings(
    kind: type[_Settings], arguments: Sequence[str], description: str = ""
) -> tuple[_Settings, list[str]]:
    """The settings, and warnings of variables that look like misspelt ones.

    `--help` prints them and exits.

    Raises:
        SettingsError: A flag or a key of the file is unknown, or a value not allowed.
    """
    flags = _read_flags(kind, arguments, description)
    config = flags.pop("config", None) or os.environ.get(_CONFIG_VARIABLE)
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    if config:
        for name, value in _read_file(kind, Path(str(config))).items():
            values[name], origins[name] = value, f"from [{kind.program}] in {config}"
    for prefix in (_PREFIX, _own_prefix(kind)):
        for name, value in _read_environment(kind, prefix).items():
            values[name], origins[name] = value, f"from {prefix}{name.upper()}"
    for name, value in flags.items():
        values[name], origins[name] = value, f"from {_flag(name)}"
    try:
        settings = kind(**values)
    except ValidationError as error:
        raise SettingsError(_explain(error, origins)) from None
    return settings, _suspicious(kind, os.environ)


def setting_defaults(kind: type[Settings]) -> dict[str, str]:
    """The default of every setting as `--help` and the documentation show it."""
    return {name: _default(field) for name, field in kind.model_fields.items()}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Instead of usage and exit: what is wrong comes with the other settings' problems."""
        raise SettingsError(f"{message}; see --help")


def _read_flags(
    kind: type[Settings], arguments: Sequence[str], description: str
) -> dict[str, object]:
    parser = _Parser(
        prog=f"rafiki-{kind.program}",
        description=description,
        epilog=f"Flags come before variables, these before the table [{kind.program}] of the "
        f"file, this before defaults. A variable {_own_prefix(kind)}X comes before {_PREFIX}X.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--config", metavar="FILE", help=f"a TOML file with settings ({_CONFIG_VARIABLE})"
    )
    for name, field in kind.model_fields.items():
        default = f"default {_default(field)}; " if _default(field) else ""
        text = f"{field.description} ({default}{_PREFIX}{name.upper()})"
        parser.add_argument(
            _flag(name),
            dest=name,
            nargs="*" if get_origin(field.annotation) is tuple else None,
            metavar=_metavar(field),
            help=text.replace("%", "%%"),
        )
    values, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = ["--config", "--help", *map(_flag, kind.model_fields)]
        raise SettingsError(
            "\n".join(
                f"there is no flag {flag}{_suggestion(flag, known)}"
                if (flag := word.partition("=")[0]).startswith("-")
                else f"unexpected argument {word!r}; see --help"
                for word in unknown
            )
        )
    return vars(values)


def _read_file(kind: type[Settings], path: Path) -> Mapping[str, object]:
    try:
        tables = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no TOML file: {error}") from None
    problems = [
        f"{path}: there is no table [{name}]; settings are in {_listed(_TABLES)}"
        for name, table in tables.items()
        if name not in _TABLES or not isinstance(table, dict)
    ]
    table = tables.get(kind.program, {})
    if not problems:
        problems = [
            f"{path}: there is no setting {name} in [{kind.program}]"
            + _suggestion(name, kind.model_fields)
            for name in table
            if name not in kind.model_fields
        ]
    if problems:
        raise SettingsError("\n".join(problems))
    assert isinstance(table, dict)
    return table


def _read_environment(kind: type[Settings], prefix: str) -> Mapping[str, object]:
    source = EnvSettingsSource(kind, env_prefix=prefix, env_ignore_empty=True)
    try:
        return source()
    except SourceError as error:
        raise SettingsError(str(error)) from None


def _suspicious(kind: type[Settings], environment: Mapping[str, str]) -> list[str]:
    """Other programs share the prefix, so only what is nearly a setting's name is told."""
    known = {name.upper() for name in kind.model_fields}
    warnings = []
    for variable in sorted(environment):
        own = variable.startswith(_own_prefix(kind))
        prefix = _own_prefix(kind) if own else _PREFIX
        name = variable.removeprefix(prefix)
        if not variable.startswith(prefix) or name in known or variable == _CONFIG_VARIABLE:
            continue
        hint = _suggestion(name, known, prefix)
        if hint or own:
            warnings.append(f"the variable {variable} is not read{hint}")
    return warnings


def _explain(error: ValidationError, origins: Mapping[str, str]) -> str:
    lines = []
    for problem in error.errors(include_url=False):
        name = str(problem["loc"][0]) if problem["loc"] else ""
        message = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
        origin = origins.get(name, "the default")
        lines.append(f"{name} {message}, not {problem['input']!r} ({origin})")
    return "\n".join(lines)


def _suggestion(name: str, known: Iterable[str], prefix: str = "") -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=_ALIKE)
    return f"; did you mean {prefix}{near[0]}?" if near else ""


def _default(field: FieldInfo) -> str:
    """Empty for none, and for one that is made up at each start."""
    if field.default_factory is not None or field.default in (None, ()):
        return ""
    if isinstance(field.default, bool):
        return str(field.default).lower()
    return f"{field.default:g}" if isinstance(field.default, float) else str(field.default)


def _metavar(field: FieldInfo) -> str:
    kinds = {bool: "true|false", int: "N", float: "N", Path: "PATH"}
    if get_origin(field.annotation) is Literal:
        return "|".join(map(str, get_args(field.annotation)))
    return next((text for kind, text in kinds.items() if field.annotation is kind), "TEXT")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _own_prefix(kind: type[Settings]) -> str:
    return f"{_PREFIX}{kind.program.upper()}_"


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f"[{name}]" for name in names)
