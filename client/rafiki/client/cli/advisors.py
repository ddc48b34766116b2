"""Advisor settings from options of the command line."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from enum import StrEnum
from typing import Any, NoReturn

import typer

from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    BayesOptOptions,
    EarlyStopping,
    EarlyStoppingRule,
    EnasOptions,
    EnasPreset,
    EvolutionOptions,
    ReinforceOptions,
    enas_preset,
)

AUTO = "auto"
NO_RULE = "none"

_ENUMS: dict[str, type[StrEnum]] = {"preset": EnasPreset, "early_stopping": EarlyStoppingRule}

# The field of AdvisorSettings that holds the options of a kind, and their class.
_OWN: dict[AdvisorKind, tuple[str, type[Any]]] = {
    AdvisorKind.BAYES_OPT: ("bayes_opt", BayesOptOptions),
    AdvisorKind.BAYES_OPT_PARAM_SHARING: ("bayes_opt", BayesOptOptions),
    AdvisorKind.ENAS: ("enas", EnasOptions),
    AdvisorKind.EVOLUTION: ("evolution", EvolutionOptions),
    AdvisorKind.REINFORCE: ("reinforce", ReinforceOptions),
}

# Fields of EarlyStopping are options with this before their name, but for the rule.
_STOPPING = "early_stopping"
_RULE_OF = {"min_trials": EarlyStoppingRule.MEDIAN, "reduction_factor": EarlyStoppingRule.ASHA}
_MAY_STOP = (
    AdvisorKind.RANDOM,
    AdvisorKind.BAYES_OPT,
    AdvisorKind.BAYES_OPT_PARAM_SHARING,
    AdvisorKind.EVOLUTION,
)
_WITHOUT_CONTROL = (AdvisorKind.FIXED, AdvisorKind.RANDOM)
# ENAS has an option of its own by that name.
_WITHOUT_FINALS = (AdvisorKind.FIXED, AdvisorKind.ENAS)


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a kind: what its value is, and the default as people write it."""

    name: str
    type: type[object]
    default: str


def options_of(kind: AdvisorKind) -> dict[str, Option]:
    """What `--advisor-option` takes for `kind`, by name: its own first, then the shared ones."""
    return {option.name: option for option in [*_own_options(kind), *_shared_options(kind)]}


def advisor_kind(text: str) -> AdvisorKind:
    """The kind of that name, in any case and with `-` for `_`.

    Raises:
        typer.BadParameter: There is none.
    """
    try:
        return AdvisorKind(_enum_name(text))
    except ValueError:
        known = ", ".join([AUTO, *AdvisorKind])
        raise typer.BadParameter(
            f"no advisor is called {text!r}; there are {known}", param_hint="--advisor"
        ) from None


def advisor_settings(advisor: str, options: Mapping[str, str]) -> AdvisorSettings:
    """The settings that `--advisor` and `--advisor-option` ask for.

    With `auto`, options that only one kind has ask for that kind.

    Raises:
        typer.BadParameter: A name or value is not known.
    """
    kind = _kind_with(options) if advisor.lower() == AUTO else advisor_kind(advisor)
    known = options_of(kind) if kind is not None else _shared_by_all()
    for name in options:
        if name not in known:
            _refuse(f"{kind} has no option {name}; {_listed(known)}")
    values = {name: _value(known[name], text) for name, text in options.items()}
    own = {name: values[name] for name in _own_names(kind) if name in values}
    return AdvisorSettings(
        kind=kind,
        control_fraction=values.get("control_fraction", 0.0),
        early_stopping=_early_stopping(values),
        final_trains=None if kind in _WITHOUT_FINALS else values.get("final_trains"),
        **_own_settings(kind, own),
    )


def _own_options(kind: AdvisorKind) -> list[Option]:
    if kind not in _OWN:
        return []
    return [_option(field.name, field.type, field.default) for field in fields(_OWN[kind][1])]


def _shared_options(kind: AdvisorKind) -> list[Option]:
    options = []
    if kind not in _WITHOUT_CONTROL:
        options.append(_option("control_fraction", float, AdvisorSettings().control_fraction))
    if kind not in _WITHOUT_FINALS:
        options.append(Option("final_trains", int, "1 if the model offers EARLY_STOP, else 0"))
    if kind in _MAY_STOP:
        options.append(Option(_STOPPING, EarlyStoppingRule, NO_RULE))
        options += [
            _option(f"{_STOPPING}_{field.name}", field.type, field.default)
            for field in fields(EarlyStopping)
            if field.name != "rule"
        ]
    return options


def _shared_by_all() -> dict[str, Option]:
    """What may be given whichever kind is chosen."""
    return {option.name: option for kind in AdvisorKind for option in _shared_options(kind)}


def _option(name: str, kind: Any, default: Any) -> Option:
    assert default is not MISSING
    text = str(default).lower().replace("_", "-") if not isinstance(default, float) else ""
    return Option(name, _ENUMS.get(name, kind), text or f"{default:g}")


def _own_names(kind: AdvisorKind | None) -> list[str]:
    return [] if kind is None else [option.name for option in _own_options(kind)]


def _kind_with(options: Mapping[str, str]) -> AdvisorKind | None:
    """The only kind that has all these options; None if they are of any kind."""
    shared = _shared_by_all()
    own = [name for name in options if name not in shared]
    if not own:
        return None
    for name in own:
        if not any(name in _own_names(kind) for kind in AdvisorKind):
            _refuse(f"no advisor has an option {name}; see `rafiki advisor show KIND`")
    kinds = [kind for kind in AdvisorKind if set(own) <= set(_own_names(kind))]
    if len(kinds) == 1:
        return kinds[0]
    if kinds:
        named = " and ".join(kinds)
        _refuse(f"{', '.join(own)} may be meant for {named}: name one with --advisor")
    _refuse(f"no advisor has all of {', '.join(own)}: name one with --advisor")


def _own_settings(kind: AdvisorKind | None, own: dict[str, Any]) -> dict[str, Any]:
    """The field of AdvisorSettings with the options of the kind, if any are given."""
    if kind is None or not own:
        return {}
    name, cls = _OWN[kind]
    if kind is AdvisorKind.ENAS:
        preset = own.pop("preset", EnasPreset.DEFAULT)
        return {name: enas_preset(preset, **own)}
    if kind is AdvisorKind.EVOLUTION and "sample_size" not in own:
        # A sample is part of the population: the default must fit a small one.
        own["sample_size"] = min(EvolutionOptions().sample_size, own["population_size"])
    return {name: cls(**own)}


def _early_stopping(values: Mapping[str, Any]) -> EarlyStopping | None:
    rule = values.get(_STOPPING)
    given = {
        name.removeprefix(f"{_STOPPING}_"): value
        for name, value in values.items()
        if name.startswith(f"{_STOPPING}_")
    }
    if rule is None:
        if given:
            _refuse(f"{_STOPPING}_{next(iter(given))} needs {_STOPPING}=median or asha")
        return None
    for name in given:
        if _RULE_OF.get(name, rule) is not rule:
            _refuse(f"{_STOPPING}_{name} is of {_RULE_OF[name].lower()}, not of {rule.lower()}")
    return EarlyStopping(rule=rule, **given)


def _value(option: Option, text: str) -> Any:
    if issubclass(option.type, StrEnum):
        return _enum(option, option.type, text)
    if option.type is bool:
        if text.lower() not in ("true", "false"):
            _refuse(f"{option.name} is true or false, not {text!r}")
        return text.lower() == "true"
    try:
        return int(text) if option.type is int else float(text)
    except ValueError:
        kind = "an integer" if option.type is int else "a number"
        _refuse(f"{option.name} is {kind}, not {text!r}")


def _enum(option: Option, cls: type[StrEnum], text: str) -> StrEnum | None:
    if option.name == _STOPPING and text.lower() == NO_RULE:
        return None
    try:
        return cls(_enum_name(text))
    except ValueError:
        _refuse(f"{option.name} is one of {values_text(option)}, not {text!r}")


def values_text(option: Option) -> str:
    """What an option takes, in a word or in its values."""
    if issubclass(option.type, StrEnum):
        names = [value.lower().replace("_", "-") for value in option.type]
        return ", ".join([NO_RULE, *names] if option.name == _STOPPING else names)
    if option.type is bool:
        return "true, false"
    return "integer" if option.type is int else "number"


def _enum_name(text: str) -> str:
    return text.upper().replace("-", "_")


def _listed(known: Mapping[str, Option]) -> str:
    return f"it has {', '.join(known)}" if known else "it has none"


def _refuse(message: str) -> NoReturn:
    raise typer.BadParameter(message, param_hint="--advisor-option")
