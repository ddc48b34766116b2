import dataclasses
import math

import pytest
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

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
from rafiki.v1 import studies_pb2
from rafiki.wire.advisors import (
    MAX_BATCH,
    MAX_BATCHES,
    MAX_FINAL_TRAINS,
    MAX_HIDDEN_SIZE,
    MAX_REDUCTION_FACTOR,
    MAX_SHARDS,
    MAX_STEPS,
    advisor_settings_from_proto,
    advisor_settings_to_proto,
    bayes_opt_options_from_proto,
    enas_options_from_proto,
    evolution_options_from_proto,
    reinforce_options_from_proto,
)
from rafiki.wire.fields import InvalidField

POSITIVE = st.floats(1e-12, 1e12)
BELOW_ONE = st.floats(0, 1, exclude_max=True)
ENAS = st.builds(
    EnasOptions,
    preset=st.sampled_from(EnasPreset),
    candidates_per_batch=st.integers(1, MAX_BATCH),
    batches_per_round=st.integers(1, MAX_BATCHES),
    train_shards=st.integers(0, MAX_SHARDS),
    final_evals=st.integers(10, MAX_BATCH),
    final_trains=st.integers(1, 10),
    final_controls=st.integers(0, 10),
    rank_trains=st.sampled_from([0, 3, 20]),
    controller_learning_rate=POSITIVE,
    adam_beta1=BELOW_ONE,
    adam_beta2=BELOW_ONE,
    adam_epsilon=POSITIVE,
    entropy_weight=st.floats(0, 1e12),
    baseline_decay=BELOW_ONE,
    baseline_from_zero=st.booleans(),
    hidden_size=st.integers(1, MAX_HIDDEN_SIZE),
    tanh_constant=POSITIVE,
    temperature=POSITIVE,
    op_logit_scale=POSITIVE,
    skip_target=st.floats(0.01, 0.99),
    skip_weight=st.floats(0, 1e12),
)
BAYES_OPT = st.builds(BayesOptOptions, initial_trials=st.integers(1, MAX_BATCH))
EVOLUTION = st.builds(
    EvolutionOptions, population_size=st.integers(20, 10_000), sample_size=st.integers(1, 20)
)
REINFORCE = st.builds(
    ReinforceOptions,
    batch_size=st.integers(1, MAX_BATCH),
    controller_learning_rate=POSITIVE,
    entropy_weight=st.floats(0, 1e12),
    baseline_decay=BELOW_ONE,
    tanh_constant=POSITIVE,
    temperature=POSITIVE,
)
STOPPING = st.builds(
    EarlyStopping,
    rule=st.sampled_from(EarlyStoppingRule),
    min_steps=st.integers(1, MAX_STEPS),
    min_trials=st.integers(1, MAX_BATCH),
    reduction_factor=st.floats(1, MAX_REDUCTION_FACTOR, exclude_min=True),
)
# One message of options at most: they are alternatives of each other.
OPTIONS = st.one_of(
    st.just({}),
    *(
        st.fixed_dictionaries({name: options})
        for name, options in (
            ("bayes_opt", BAYES_OPT),
            ("enas", ENAS),
            ("evolution", EVOLUTION),
            ("reinforce", REINFORCE),
        )
    ),
)


@st.composite
def all_settings(draw: st.DrawFn) -> AdvisorSettings:
    """Settings of any kind, with the options of at most one."""
    return AdvisorSettings(
        kind=draw(st.none() | st.sampled_from(AdvisorKind)),
        control_fraction=draw(st.floats(0, 0.5)),
        early_stopping=draw(st.none() | STOPPING),
        final_trains=draw(st.none() | st.integers(0, MAX_FINAL_TRAINS)),
        **draw(OPTIONS),
    )


@given(all_settings())
def test_settings_survive_the_round_trip(settings: AdvisorSettings) -> None:
    assert advisor_settings_from_proto(advisor_settings_to_proto(settings)) == settings


def test_settings_of_which_nothing_is_set_ask_for_the_defaults() -> None:
    assert advisor_settings_from_proto(studies_pb2.AdvisorSettings()) == AdvisorSettings()


def test_no_final_training_is_not_the_default_number_of_them() -> None:
    none = studies_pb2.AdvisorSettings(final_trains=0)
    assert advisor_settings_from_proto(none).final_trains == 0
    assert advisor_settings_from_proto(studies_pb2.AdvisorSettings()).final_trains is None


def test_options_of_two_kinds_have_no_message() -> None:
    both = AdvisorSettings(enas=EnasOptions(), evolution=EvolutionOptions())
    with pytest.raises(ValueError, match="options of one kind only, not of enas and evolution"):
        advisor_settings_to_proto(both)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bayes_opt", BayesOptOptions()),
        ("enas", EnasOptions()),
        ("evolution", EvolutionOptions()),
        ("reinforce", ReinforceOptions()),
        ("early_stopping", EarlyStopping()),
    ],
)
def test_options_that_are_asked_for_empty_have_their_defaults(name: str, options: object) -> None:
    message = studies_pb2.AdvisorSettings(**{name: {}})  # type: ignore[arg-type]
    assert getattr(advisor_settings_from_proto(message), name) == options


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (AdvisorSettings, studies_pb2.AdvisorSettings),
        (BayesOptOptions, studies_pb2.BayesOptOptions),
        (EarlyStopping, studies_pb2.EarlyStopping),
        (EnasOptions, studies_pb2.EnasOptions),
        (EvolutionOptions, studies_pb2.EvolutionOptions),
        (ReinforceOptions, studies_pb2.ReinforceOptions),
    ],
)
def test_every_field_is_carried(cls: type[EnasOptions], message: type[Message]) -> None:
    names = {field.name for field in message.DESCRIPTOR.fields}
    assert {field.name for field in dataclasses.fields(cls)} == names


def test_one_option_set_leaves_the_others_at_their_defaults() -> None:
    read = enas_options_from_proto(studies_pb2.EnasOptions(adam_beta1=0.0, hidden_size=8))
    assert read == EnasOptions(adam_beta1=0.0, hidden_size=8)


def test_a_preset_sets_its_constants() -> None:
    message = studies_pb2.EnasOptions(preset=studies_pb2.ENAS_PRESET_PAPER_MICRO)
    read = enas_options_from_proto(message)
    assert read == enas_preset(EnasPreset.PAPER_MICRO)
    assert (read.adam_beta1, read.tanh_constant, read.baseline_from_zero) == (0.0, 1.1, True)


def test_an_option_overrides_its_preset_even_by_zero_or_false() -> None:
    message = studies_pb2.EnasOptions(
        preset=studies_pb2.ENAS_PRESET_PAPER_MACRO, skip_weight=0.0, baseline_from_zero=False
    )
    expected = enas_preset(EnasPreset.PAPER_MACRO, skip_weight=0.0, baseline_from_zero=False)
    assert enas_options_from_proto(message) == expected
    assert expected.candidates_per_batch == 20


def test_the_default_sample_of_evolution_fits_a_small_population() -> None:
    read = evolution_options_from_proto(studies_pb2.EvolutionOptions(population_size=4))
    assert read == EvolutionOptions(population_size=4, sample_size=4)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("candidates_per_batch", 0),
        ("candidates_per_batch", 1001),
        ("batches_per_round", 0),
        ("batches_per_round", 10_001),
        ("train_shards", -1),
        ("train_shards", 65),
        ("final_evals", 0),
        ("final_evals", 1001),
        ("final_trains", 0),
        ("final_trains", 11),
        ("final_controls", -1),
        ("final_controls", 11),
        ("rank_trains", -1),
        ("rank_trains", 1),
        ("rank_trains", 2),
        ("rank_trains", 21),
        ("controller_learning_rate", 0.0),
        ("controller_learning_rate", math.nan),
        ("adam_beta1", 1.0),
        ("adam_beta2", -0.1),
        ("adam_beta2", math.nan),
        ("adam_epsilon", 0.0),
        ("entropy_weight", -1e-9),
        ("entropy_weight", math.inf),
        ("baseline_decay", 1.0),
        ("hidden_size", 0),
        ("hidden_size", 1025),
        ("tanh_constant", 0.0),
        ("temperature", -1.0),
        ("op_logit_scale", 0.0),
        ("op_logit_scale", math.inf),
        ("skip_target", 0.0),
        ("skip_target", 1.0),
        ("skip_target", math.nan),
        ("skip_weight", -0.1),
        ("skip_weight", math.nan),
        ("preset", 99),
    ],
)
def test_an_option_of_enas_out_of_range_is_refused_by_path(option: str, value: float) -> None:
    message = studies_pb2.AdvisorSettings(enas={option: value})  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match=rf"^advisor\.enas\.{option}: "):
        advisor_settings_from_proto(message, "advisor")


@pytest.mark.parametrize(
    ("options", "option", "value"),
    [
        ("bayes_opt", "initial_trials", 0),
        ("bayes_opt", "initial_trials", 1001),
        ("evolution", "population_size", 1),
        ("evolution", "population_size", 10_001),
        ("evolution", "sample_size", 0),
        ("evolution", "sample_size", 51),
        ("reinforce", "batch_size", 0),
        ("reinforce", "batch_size", 1001),
        ("reinforce", "controller_learning_rate", 0.0),
        ("reinforce", "entropy_weight", -1.0),
        ("reinforce", "baseline_decay", 1.0),
        ("reinforce", "tanh_constant", math.nan),
        ("reinforce", "temperature", 0.0),
        ("early_stopping", "rule", 99),
        ("early_stopping", "min_steps", 0),
        ("early_stopping", "min_steps", 10**9 + 1),
        ("early_stopping", "min_trials", 0),
        ("early_stopping", "min_trials", 1001),
        ("early_stopping", "reduction_factor", 1.0),
        ("early_stopping", "reduction_factor", 101.0),
        ("early_stopping", "reduction_factor", math.nan),
    ],
)
def test_an_option_out_of_range_is_refused_by_path(options: str, option: str, value: float) -> None:
    message = studies_pb2.AdvisorSettings(**{options: {option: value}})  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match=rf"^advisor\.{options}\.{option}: "):
        advisor_settings_from_proto(message, "advisor")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", 99),
        ("control_fraction", -0.1),
        ("control_fraction", 0.51),
        ("control_fraction", math.nan),
        ("final_trains", -1),
        ("final_trains", 1001),
    ],
)
def test_a_setting_out_of_range_is_refused_by_path(field: str, value: float) -> None:
    message = studies_pb2.AdvisorSettings(**{field: value})  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match=rf"^advisor\.{field}: "):
        advisor_settings_from_proto(message, "advisor")


def test_an_option_at_the_top_of_a_message_is_named_without_a_path() -> None:
    with pytest.raises(InvalidField, match=r"^initial_trials: must be in \[1, 1000\], not -5"):
        bayes_opt_options_from_proto(studies_pb2.BayesOptOptions(initial_trials=-5))
    with pytest.raises(InvalidField, match=r"^batch_size: must be in \[1, 1000\], not 0"):
        reinforce_options_from_proto(studies_pb2.ReinforceOptions(batch_size=0))
