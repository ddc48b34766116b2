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
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    BayesOptOptions,
    EarlyStopping,
    EnasOptions,
    EvolutionOptions,
    ReinforceOptions,
)
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
SHARING = AdvisorSettings(kind=AdvisorKind.BAYES_OPT_PARAM_SHARING)
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


@pytest.mark.parametrize(
    ("config", "kind", "options"),
    [
        (TUNABLE | SHARE, AdvisorKind.BAYES_OPT_PARAM_SHARING, "bayes_opt"),
        (FIXED | ARCH, AdvisorKind.BAYES_OPT, "bayes_opt"),
        (LONG | TUNABLE, AdvisorKind.EVOLUTION, "evolution"),
    ],
)
def test_what_the_knobs_lead_to_is_resolved_with_its_defaults(
    config: Mapping[str, Knob], kind: AdvisorKind, options: str
) -> None:
    defaults = {
        "bayes_opt": BayesOptOptions(),
        "evolution": EvolutionOptions(),
        "reinforce": ReinforceOptions(),
    }
    expected = {"kind": kind, "final_trains": 0, options: defaults[options]}
    resolved = resolve_settings(AdvisorSettings(), config, subject="models/1")
    assert resolved == AdvisorSettings(**expected)  # type: ignore[arg-type]


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
        (AdvisorSettings(control_fraction=0.1), FIXED, "control"),
        (AdvisorSettings(kind=AdvisorKind.BAYES_OPT), LONG, "at most 16 arch positions.* 17"),
        (AdvisorSettings(kind=AdvisorKind.BAYES_OPT), ARCH | TUNABLE, "rate; name EVOLUTION"),
        (AdvisorSettings(kind=AdvisorKind.BAYES_OPT), FIXED, "name FIXED"),
        (SHARING, TUNABLE, "SHARE_PARAMS"),
        (SHARING, ARCH | SHARE, "no arch knobs"),
        (AdvisorSettings(kind=AdvisorKind.REINFORCE), TUNABLE, "at least one arch knob"),
        (AdvisorSettings(kind=AdvisorKind.REINFORCE), ARCH | TUNABLE, "rate"),
        (AdvisorSettings(evolution=EvolutionOptions()), TUNABLE, "those of EVOLUTION"),
        (AdvisorSettings(bayes_opt=BayesOptOptions()), FIXED, "has none"),
        (AdvisorSettings(reinforce=ReinforceOptions()), ARCH | ALL, "ENAS has others"),
        (AdvisorSettings(early_stopping=EarlyStopping()), FIXED, "ends no running trials"),
        (AdvisorSettings(early_stopping=EarlyStopping()), ARCH | ALL, "ends no running trials"),
        (
            AdvisorSettings(kind=AdvisorKind.REINFORCE, early_stopping=EarlyStopping()),
            ARCH,
            "name one of BAYES_OPT",
        ),
        (AdvisorSettings(final_trains=1), TUNABLE, "EARLY_STOP must be offered"),
        (AdvisorSettings(final_trains=1), FIXED | STOP, "trained in full"),
        (AdvisorSettings(final_trains=1), ARCH | ALL, "options of ENAS"),
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
    assert enas == AdvisorSettings(kind=AdvisorKind.ENAS, enas=EnasOptions(), final_trains=0)
    random = resolve_settings(
        AdvisorSettings(kind=AdvisorKind.RANDOM), ARCH | TUNABLE, subject="models/1"
    )
    assert random == AdvisorSettings(kind=AdvisorKind.RANDOM, final_trains=0)
    given = AdvisorSettings(enas=EnasOptions(hidden_size=100), control_fraction=0.2)
    resolved = resolve_settings(given, ARCH | ALL, subject="models/1")
    assert resolved.enas == given.enas and resolved.control_fraction == 0.2


@pytest.mark.parametrize(
    ("kind", "config", "final_trains"),
    [
        (AdvisorKind.RANDOM, TUNABLE | STOP, 1),
        (AdvisorKind.BAYES_OPT, TUNABLE | STOP, 1),
        (AdvisorKind.REINFORCE, ARCH | STOP, 1),
        (AdvisorKind.RANDOM, TUNABLE, 0),
        (AdvisorKind.FIXED, FIXED | STOP, 0),
        (AdvisorKind.ENAS, ARCH | ALL, 0),
    ],
)
def test_the_best_is_trained_again_where_the_search_stops_early(
    kind: AdvisorKind, config: Mapping[str, Knob], final_trains: int
) -> None:
    resolved = resolve_settings(AdvisorSettings(kind=kind), config, subject="models/1")
    assert resolved.final_trains == final_trains


@pytest.mark.parametrize(
    "kind",
    [
        AdvisorKind.RANDOM,
        AdvisorKind.BAYES_OPT,
        AdvisorKind.BAYES_OPT_PARAM_SHARING,
        AdvisorKind.EVOLUTION,
    ],
)
def test_schemes_of_single_settings_stop_running_trials_if_asked(kind: AdvisorKind) -> None:
    asked = AdvisorSettings(kind=kind, early_stopping=EarlyStopping(), final_trains=3)
    resolved = resolve_settings(asked, TUNABLE | SHARE | STOP, subject="models/1")
    assert resolved.early_stopping == EarlyStopping() and resolved.final_trains == 3


@pytest.mark.parametrize("kind", AdvisorKind)
def test_resolving_resolved_settings_changes_nothing(kind: AdvisorKind) -> None:
    config: dict[str, Knob] = {
        AdvisorKind.FIXED: FIXED | STOP,
        AdvisorKind.BAYES_OPT_PARAM_SHARING: TUNABLE | ALL,
    }.get(kind, ARCH | ALL | FIXED)
    once = resolve_settings(AdvisorSettings(kind=kind), config, subject="models/1")
    assert once.kind is kind
    assert resolve_settings(once, config, subject="models/1") == once


def test_random_and_evolution_search_any_knobs() -> None:
    for kind in (AdvisorKind.RANDOM, AdvisorKind.EVOLUTION):
        for config in ({}, FIXED, TUNABLE, ARCH | {"n": IntegerKnob(1, 3)}):
            resolved = resolve_settings(AdvisorSettings(kind=kind), config, subject="models/1")
            assert resolved.kind is kind


def test_an_advisor_needs_resolved_settings(make_enas: Callable[..., AdvisorConfig]) -> None:
    config = replace(make_enas(), settings=AdvisorSettings())
    with pytest.raises(ValueError, match="not resolved"):
        create_advisor(config)


def test_the_package_exports_what_the_server_needs() -> None:
    assert advisors.__all__ == ["check_budget", "create_advisor", "resolve_settings"]


def test_jax_is_not_imported_before_an_advisor_with_a_controller_is_created() -> None:
    code = """
import sys
from rafiki.model.knobs import FloatKnob
from rafiki.resources import AdvisorKind, AdvisorSettings, Direction
from rafiki.server.advisors import create_advisor
from rafiki.server.domain.advisor import AdvisorConfig
for kind in set(AdvisorKind) - {AdvisorKind.ENAS, AdvisorKind.REINFORCE}:
    create_advisor(
        AdvisorConfig(
            study="studies/1",
            knob_config={"rate": FloatKnob(0.0, 1.0)},
            settings=AdvisorSettings(kind=kind),
            direction=Direction.MAXIMIZE,
            seed=1,
            batch_size=1,
            has_probe=False,
        )
    )
sys.exit("jax" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
