from dataclasses import fields

import pytest
import typer
from typer.testing import CliRunner

from rafiki.client.cli.advisors import advisor_settings, options_of
from rafiki.client.cli.app import app
from rafiki.client.cli.schemes import MEANINGS, SCHEMES
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


def settings(advisor: str, *options: str) -> AdvisorSettings:
    return advisor_settings(advisor, dict(text.split("=", 1) for text in options))


def refusal(advisor: str, *options: str) -> str:
    with pytest.raises(typer.BadParameter) as raised:
        settings(advisor, *options)
    return str(raised.value)


@pytest.mark.parametrize("kind", AdvisorKind)
@pytest.mark.parametrize("write", [str.lower, str.upper, lambda text: text.replace("_", "-")])
def test_an_advisor_is_named_in_any_way_of_writing(kind: AdvisorKind, write: object) -> None:
    assert callable(write)
    assert settings(write(kind.value)) == AdvisorSettings(kind=kind)


def test_nothing_said_leaves_everything_to_the_server() -> None:
    assert settings("auto") == AdvisorSettings()
    assert settings("AUTO") == AdvisorSettings()


def test_an_advisor_that_does_not_exist_is_answered_with_those_that_do() -> None:
    told = refusal("hyperband")
    assert all(kind in told for kind in ["auto", *AdvisorKind])


@pytest.mark.parametrize("kind", ["BAYES_OPT", "BAYES_OPT_PARAM_SHARING"])
def test_both_bayesian_advisors_take_the_same_options(kind: str) -> None:
    expected = AdvisorSettings(kind=AdvisorKind(kind), bayes_opt=BayesOptOptions(initial_trials=20))
    assert settings(kind, "initial_trials=20") == expected


def test_options_of_evolution_are_read() -> None:
    read = settings("evolution", "population_size=30", "sample_size=7")
    assert read.evolution == EvolutionOptions(population_size=30, sample_size=7)


@pytest.mark.parametrize(("population", "sample"), [(4, 4), (10, 10), (100, 10)])
def test_the_default_sample_fits_the_population(population: int, sample: int) -> None:
    read = settings("evolution", f"population_size={population}")
    assert read.evolution == EvolutionOptions(population_size=population, sample_size=sample)


def test_options_of_reinforce_are_read() -> None:
    read = settings("reinforce", "batch_size=5", "temperature=2.5")
    assert read.reinforce == ReinforceOptions(batch_size=5, temperature=2.5)


def test_options_of_enas_are_read_booleans_included() -> None:
    read = settings("enas", "hidden_size=32", "baseline_from_zero=true", "rank_trains=5")
    assert read.enas == EnasOptions(hidden_size=32, baseline_from_zero=True, rank_trains=5)


def test_a_preset_sets_its_constants_and_options_override_them() -> None:
    read = settings("enas", "preset=paper-micro", "temperature=2", "baseline_from_zero=false")
    expected = enas_preset(EnasPreset.PAPER_MICRO, temperature=2.0, baseline_from_zero=False)
    assert read.enas == expected
    assert expected.tanh_constant == 1.1


def test_the_order_of_preset_and_overrides_does_not_matter() -> None:
    assert settings("enas", "temperature=2", "preset=PAPER_MACRO") == settings(
        "enas", "preset=paper-macro", "temperature=2"
    )


def test_the_control_arm_and_final_trainings_belong_to_no_kind() -> None:
    read = settings("evolution", "control_fraction=0.2", "final_trains=3")
    assert read == AdvisorSettings(kind=AdvisorKind.EVOLUTION, control_fraction=0.2, final_trains=3)


def test_final_trainings_of_enas_are_its_own() -> None:
    assert settings("enas", "final_trains=2") == AdvisorSettings(
        kind=AdvisorKind.ENAS, enas=EnasOptions(final_trains=2)
    )


def test_early_stopping_is_named_by_its_rule() -> None:
    read = settings("random", "early_stopping=median", "early_stopping_min_trials=3")
    assert read.early_stopping == EarlyStopping(rule=EarlyStoppingRule.MEDIAN, min_trials=3)
    read = settings(
        "bayes-opt",
        "early_stopping=asha",
        "early_stopping_min_steps=2",
        "early_stopping_reduction_factor=4",
    )
    assert read.early_stopping == EarlyStopping(
        rule=EarlyStoppingRule.ASHA, min_steps=2, reduction_factor=4.0
    )


def test_no_early_stopping_can_be_said() -> None:
    assert settings("random", "early_stopping=none") == settings("random")


@pytest.mark.parametrize("rule", [[], ["early_stopping=none"]])
def test_settings_of_early_stopping_need_a_rule(rule: list[str]) -> None:
    told = refusal("random", *rule, "early_stopping_min_steps=2")
    assert "early_stopping_min_steps needs early_stopping=median or asha" in told


@pytest.mark.parametrize(
    ("rule", "option"),
    [("median", "reduction_factor=2"), ("asha", "min_trials=2")],
)
def test_a_setting_of_the_other_rule_is_refused(rule: str, option: str) -> None:
    told = refusal("random", f"early_stopping={rule}", f"early_stopping_{option}")
    assert f"not of {rule}" in told


@pytest.mark.parametrize(
    ("option", "kind"),
    [
        ("population_size=30", AdvisorKind.EVOLUTION),
        ("batch_size=5", AdvisorKind.REINFORCE),
        ("preset=paper-rnn", AdvisorKind.ENAS),
        ("batches_per_round=2", AdvisorKind.ENAS),
    ],
)
def test_an_option_of_one_advisor_alone_asks_for_it(option: str, kind: AdvisorKind) -> None:
    assert settings("auto", option).kind is kind


def test_options_together_may_be_of_one_advisor_alone() -> None:
    read = settings("auto", "temperature=2", "hidden_size=8", "final_trains=2")
    assert read.enas == EnasOptions(temperature=2.0, hidden_size=8, final_trains=2)


@pytest.mark.parametrize("option", ["control_fraction=0.1", "early_stopping=asha"])
def test_an_option_of_many_advisors_leaves_the_choice_to_the_server(option: str) -> None:
    assert settings("auto", option).kind is None


@pytest.mark.parametrize(
    ("option", "kinds"),
    [
        ("initial_trials=5", "BAYES_OPT and BAYES_OPT_PARAM_SHARING"),
        ("temperature=2", "ENAS and REINFORCE"),
    ],
)
def test_an_option_of_two_advisors_asks_which(option: str, kinds: str) -> None:
    assert f"may be meant for {kinds}: name one with --advisor" in refusal("auto", option)


def test_options_of_no_common_advisor_ask_for_one() -> None:
    told = refusal("auto", "batch_size=5", "population_size=30")
    assert "no advisor has all of batch_size, population_size" in told


def test_an_option_that_does_not_exist_is_answered_with_those_that_do() -> None:
    told = refusal("evolution", "mutation_rate=0.1")
    assert "EVOLUTION has no option mutation_rate" in told
    assert all(name in told for name in options_of(AdvisorKind.EVOLUTION))
    assert "no advisor has an option mutation_rate" in refusal("auto", "mutation_rate=0.1")


def test_an_option_of_another_advisor_is_refused() -> None:
    assert "BAYES_OPT has no option batches_per_round" in refusal(
        "bayes_opt", "batches_per_round=3"
    )
    assert "FIXED has no option control_fraction; it has none" in refusal(
        "fixed", "control_fraction=0.1"
    )
    assert "ENAS has no option early_stopping" in refusal("enas", "early_stopping=asha")
    assert "ENAS has no option early_stopping" in refusal(
        "auto", "preset=default", "early_stopping=asha"
    )


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        ("hidden_size=many", "hidden_size is an integer, not 'many'"),
        ("hidden_size=1.5", "hidden_size is an integer, not '1.5'"),
        ("temperature=hot", "temperature is a number, not 'hot'"),
        ("baseline_from_zero=1", "baseline_from_zero is true or false, not '1'"),
        ("preset=paper", "preset is one of default, paper-micro, paper-macro, paper-rnn"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(option: str, rule: str) -> None:
    assert rule in refusal("enas", option)


def test_an_unknown_rule_of_early_stopping_is_answered_with_the_rules() -> None:
    assert "one of none, median, asha" in refusal("random", "early_stopping=hyperband")


def test_every_option_of_every_class_can_be_given() -> None:
    for kind, cls in (
        (AdvisorKind.BAYES_OPT, BayesOptOptions),
        (AdvisorKind.ENAS, EnasOptions),
        (AdvisorKind.EVOLUTION, EvolutionOptions),
        (AdvisorKind.REINFORCE, ReinforceOptions),
    ):
        assert {field.name for field in fields(cls)} <= set(options_of(kind))
    stopping = {f"early_stopping_{field.name}" for field in fields(EarlyStopping)}
    assert stopping - {"early_stopping_rule"} <= set(options_of(AdvisorKind.RANDOM))


def test_every_option_has_a_meaning_and_no_other_has() -> None:
    names = {name for kind in AdvisorKind for name in options_of(kind)}
    assert set(MEANINGS) == names
    assert set(SCHEMES) == set(AdvisorKind)


@pytest.mark.parametrize("kind", AdvisorKind)
def test_an_advisor_is_shown_with_every_option_and_its_default(kind: AdvisorKind) -> None:
    shown = CliRunner().invoke(app, ["advisor", "show", kind.lower()])
    assert shown.exit_code == 0
    lines = {line.split("  ")[0]: line for line in shown.stdout.splitlines()}
    for option in options_of(kind).values():
        assert option.default in lines[option.name]


def test_the_defaults_shown_are_those_of_the_class() -> None:
    shown = options_of(AdvisorKind.ENAS)
    assert shown["controller_learning_rate"].default == "0.0035"
    assert shown["adam_epsilon"].default == "1e-08"
    assert shown["baseline_from_zero"].default == "false"
    assert shown["preset"].default == "default"
    assert shown["temperature"].default == "5"


def test_the_advisors_are_listed() -> None:
    listed = CliRunner().invoke(app, ["advisor", "list"])
    assert listed.exit_code == 0
    assert all(kind in listed.stdout for kind in AdvisorKind)


def test_presets_are_shown_by_what_they_change() -> None:
    shown = CliRunner().invoke(app, ["advisor", "show", "ENAS"]).stdout
    line = next(line for line in shown.splitlines() if line.startswith("paper-micro"))
    assert "op_logit_scale=0.4" in line
    assert "baseline_from_zero=true" in line
