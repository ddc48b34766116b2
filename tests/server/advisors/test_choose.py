"""Which scheme is chosen, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rafiki.model.knobs import (
    ArchKnob,
    FixedKnob,
    FloatKnob,
    IntegerKnob,
    Knob,
    Policy,
    PolicyKnob,
)
from rafiki.resources import AdvisorKind, AdvisorSettings, EnasOptions
from rafiki.server import advisors
from rafiki.server.advisors import create_advisor, resolve_settings
from rafiki.server.advisors.choose import default_kind
from rafiki.server.domain.errors import UnsupportedAdvisor

if TYPE_CHECKING:
    from rafiki.server.domain.advisor import AdvisorConfig

FIXED: dict[str, Knob] = {"layers": FixedKnob(3)}
TUNABLE: dict[str, Knob] = {"rate": FloatKnob(0.1, 1.0)}
SHARE: dict[str, Knob] = {"share": PolicyKnob(Policy.SHARE_PARAMS)}
STOP: dict[str, Knob] = {"stop": PolicyKnob(Policy.EARLY_STOP)}
ALL: dict[str, Knob] = {policy.lower(): PolicyKnob(policy) for policy in Policy}
ARCH: dict[str, Knob] = {"arch": ArchKnob([[1, 2]] * 16)}
LONG: dict[str, Knob] = {"arch": ArchKnob([[1, 2]] * 17)}


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (FIXED | STOP, AdvisorKind.FIXED),
        ({}, AdvisorKind.FIXED),
        (TUNABLE | SHARE, AdvisorKind.BAYES_OPT_PARAM_SHARING),
        (TUNABLE | STOP, AdvisorKind.BAYES_OPT),
        (FIXED | ARCH | ALL, AdvisorKind.ENAS),
        (FIXED | LONG | ALL, AdvisorKind.ENAS),
        (FIXED | ARCH | STOP, AdvisorKind.BAYES_OPT),
        (FIXED | LONG | STOP, AdvisorKind.EVOLUTION),
        (TUNABLE | ARCH | ALL, AdvisorKind.EVOLUTION),
    ],
)
def test_the_first_scheme_that_fits_is_chosen(
    config: Mapping[str, Knob], kind: AdvisorKind
) -> None:
    assert default_kind(config) is kind


@pytest.mark.parametrize("config", [TUNABLE | SHARE, TUNABLE, FIXED | ARCH, LONG | TUNABLE])
def test_a_scheme_not_in_this_release_is_refused_and_random_is_named(
    config: Mapping[str, Knob],
) -> None:
    with pytest.raises(UnsupportedAdvisor, match="name RANDOM") as caught:
        resolve_settings(AdvisorSettings(), config, subject="models/1")
    assert caught.value.advisor == default_kind(config)
    assert caught.value.subject == "models/1"


@pytest.mark.parametrize(
    "kind",
    [
        AdvisorKind.BAYES_OPT,
        AdvisorKind.BAYES_OPT_PARAM_SHARING,
        AdvisorKind.EVOLUTION,
        AdvisorKind.REINFORCE,
    ],
)
def test_naming_a_scheme_not_in_this_release_is_refused(kind: AdvisorKind) -> None:
    with pytest.raises(UnsupportedAdvisor, match="not in this release"):
        resolve_settings(AdvisorSettings(kind=kind), ARCH | ALL, subject="models/1")


@pytest.mark.parametrize(
    ("settings", "config", "needs"),
    [
        (AdvisorSettings(kind=AdvisorKind.FIXED), TUNABLE, "rate"),
        (AdvisorSettings(kind=AdvisorKind.FIXED), ARCH, "arch"),
        (AdvisorSettings(kind=AdvisorKind.ENAS), FIXED | ALL, "at least one arch knob"),
        (AdvisorSettings(kind=AdvisorKind.ENAS), ARCH | ALL | TUNABLE, "rate"),
        (AdvisorSettings(kind=AdvisorKind.ENAS), ARCH | SHARE, "QUICK_EVAL"),
        (AdvisorSettings(kind=AdvisorKind.RANDOM, enas=EnasOptions()), ARCH, "options"),
        (AdvisorSettings(kind=AdvisorKind.RANDOM, control_fraction=0.1), ARCH, "control"),
        (AdvisorSettings(enas=EnasOptions(final_trains=11)), ARCH | ALL, "final_trains"),
        (AdvisorSettings(enas=EnasOptions(final_controls=11)), ARCH | ALL, "final_controls"),
    ],
)
def test_settings_that_cannot_be_met_are_refused_with_what_is_needed(
    settings: AdvisorSettings, config: Mapping[str, Knob], needs: str
) -> None:
    with pytest.raises(UnsupportedAdvisor, match=needs):
        resolve_settings(settings, config, subject="models/1")


def test_resolved_settings_have_a_kind_and_the_options_of_that_kind_only() -> None:
    enas = resolve_settings(AdvisorSettings(), ARCH | ALL, subject="models/1")
    assert enas == AdvisorSettings(kind=AdvisorKind.ENAS, enas=EnasOptions())
    random = AdvisorSettings(kind=AdvisorKind.RANDOM)
    assert resolve_settings(random, ARCH | TUNABLE | ALL, subject="models/1") == random
    given = AdvisorSettings(enas=EnasOptions(hidden_size=100), control_fraction=0.2)
    resolved = resolve_settings(given, ARCH | ALL, subject="models/1")
    assert resolved.enas == given.enas and resolved.control_fraction == 0.2


def test_resolving_resolved_settings_changes_nothing() -> None:
    config = ARCH | ALL | {"units": FixedKnob(3)}
    once = resolve_settings(AdvisorSettings(), config, subject="models/1")
    assert resolve_settings(once, config, subject="models/1") == once


def test_random_searches_any_knobs() -> None:
    settings = AdvisorSettings(kind=AdvisorKind.RANDOM)
    for config in ({}, FIXED, TUNABLE, ARCH | {"n": IntegerKnob(1, 3)}):
        assert resolve_settings(settings, config, subject="models/1") == settings


def test_an_advisor_of_another_release_cannot_be_created(
    make_enas: Callable[..., AdvisorConfig],
) -> None:
    config = replace(make_enas(), settings=AdvisorSettings(kind=AdvisorKind.EVOLUTION))
    with pytest.raises(UnsupportedAdvisor):
        create_advisor(config)


def test_the_package_exports_what_the_server_needs() -> None:
    assert advisors.__all__ == ["check_budget", "create_advisor", "resolve_settings"]


def test_jax_is_not_imported_before_an_enas_advisor_is_created() -> None:
    code = "import sys, rafiki.server.advisors; sys.exit('jax' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
