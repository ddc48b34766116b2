import pytest

from rafiki.resources import EnasOptions, EnasPreset, enas_preset


def test_the_preset_of_the_defaults_is_the_defaults() -> None:
    assert enas_preset(EnasPreset.DEFAULT) == EnasOptions()


@pytest.mark.parametrize("preset", EnasPreset)
def test_every_preset_says_which_one_it_is(preset: EnasPreset) -> None:
    assert enas_preset(preset).preset is preset


def test_an_override_changes_that_option_alone() -> None:
    changed = enas_preset(EnasPreset.PAPER_MACRO, temperature=2.0)
    assert changed.temperature == 2.0
    assert enas_preset(EnasPreset.PAPER_MACRO, temperature=1.0) == enas_preset(
        EnasPreset.PAPER_MACRO
    )
    assert changed.skip_weight == 0.8


def test_an_option_that_does_not_exist_is_no_override() -> None:
    with pytest.raises(TypeError, match="patience"):
        enas_preset(EnasPreset.DEFAULT, patience=3)


# By the scripts of the authors (micro and macro: their CIFAR code; RNN: enas_lm).
@pytest.mark.parametrize(
    ("preset", "rate", "beta1", "epsilon", "temperature", "tanh", "op_scale", "decay"),
    [
        (EnasPreset.DEFAULT, 0.0035, 0.9, 1e-8, 5.0, 2.5, 1.0, 0.95),
        (EnasPreset.PAPER_MICRO, 0.0035, 0.0, 1e-3, 1.0, 1.1, 0.4, 0.99),
        (EnasPreset.PAPER_MACRO, 0.001, 0.0, 1e-3, 1.0, 1.5, 1.0, 0.99),
        (EnasPreset.PAPER_RNN, 5e-5, 0.9, 1e-8, 5.0, 2.25, 1.0, 0.999),
    ],
)
def test_a_preset_has_the_constants_of_its_source(
    preset: EnasPreset,
    rate: float,
    beta1: float,
    epsilon: float,
    temperature: float,
    tanh: float,
    op_scale: float,
    decay: float,
) -> None:
    options = enas_preset(preset)
    assert options.controller_learning_rate == rate
    assert (options.adam_beta1, options.adam_epsilon) == (beta1, epsilon)
    assert (options.temperature, options.tanh_constant) == (temperature, tanh)
    assert (options.op_logit_scale, options.baseline_decay) == (op_scale, decay)


@pytest.mark.parametrize(
    ("preset", "rewards_per_round"),
    [
        (EnasPreset.DEFAULT, 300),
        (EnasPreset.PAPER_MICRO, 300),
        (EnasPreset.PAPER_MACRO, 1000),
        (EnasPreset.PAPER_RNN, 250),
    ],
)
def test_a_preset_has_the_rewards_per_round_of_its_source(
    preset: EnasPreset, rewards_per_round: int
) -> None:
    options = enas_preset(preset)
    assert options.candidates_per_batch * options.batches_per_round == rewards_per_round


def test_the_prior_on_skips_is_of_the_macro_preset_only() -> None:
    weights = {preset: enas_preset(preset).skip_weight for preset in EnasPreset}
    assert weights.pop(EnasPreset.PAPER_MACRO) == 0.8
    assert set(weights.values()) == {0.0}
