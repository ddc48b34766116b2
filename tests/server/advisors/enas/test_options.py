"""The controller's options: op logits, the prior on skips, the baseline, the presets."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafiki.model.knobs import ArchKnob, KnobConfig, KnobValue, NodeRef
from rafiki.resources import EnasOptions, EnasPreset, EndReason, enas_preset
from rafiki.server.advisors.enas import controller
from rafiki.server.advisors.enas.controller import Options
from rafiki.server.advisors.enas.learner import Learner
from rafiki.server.advisors.enas.tables import build_space
from rafiki.server.domain.advisor import AdvisorConfig

if TYPE_CHECKING:
    from tests.server.advisors.fake_study import FakeStudy

    MakeEnas: TypeAlias = Callable[..., AdvisorConfig]
    MakeStudy: TypeAlias = type[FakeStudy]

LAYERS = 4


def macro_knob() -> ArchKnob:
    """A macro space: per layer one of three operations, then a skip from each layer before."""
    operations = [KnobValue(name) for name in ("conv3", "conv5", "pool")]
    no, take = KnobValue("no"), KnobValue("take")
    items: list[list[KnobValue]] = []
    skips: list[bool] = []
    for layer in range(LAYERS):
        items += [operations, *[[no, take]] * layer]
        skips += [False, *[True] * layer]
    return ArchKnob(items, skips=skips)


def skip_share(learner: Learner, knob: ArchKnob) -> float:
    """The share of skips that the controller now takes."""
    drawn = np.array(learner.sample(400, 5))
    return float(drawn[:, np.array(knob.skips)].mean())


def test_skips_of_a_layer_share_a_weight_and_layers_weigh_the_same() -> None:
    tables = build_space({"a": macro_knob()}).tables
    weights = np.asarray(tables.skip)[np.asarray(tables.positions)]
    # Layers of 1, 2 and 3 skips: the sum over a layer, and the mean over layers.
    assert weights.tolist() == pytest.approx([w / 3 for w in (0, 0, 1, 0, 1, 1, 0, 1, 1, 1)])


def test_the_penalty_is_the_divergence_from_the_prior() -> None:
    knob = ArchKnob([["no", "take"], ["a", "b"]], skips=[True, False])
    tables = build_space({"a": knob}).tables
    log_p = jnp.log(jnp.array([[[0.3, 0.7], [0.9, 0.1]]]))
    penalty = controller.skip_penalty(log_p, tables, 0.4)
    expected = 0.3 * math.log(0.3 / 0.6) + 0.7 * math.log(0.7 / 0.4)
    assert penalty.tolist() == pytest.approx([expected])
    at_target = jnp.log(jnp.array([[[0.6, 0.4], [0.9, 0.1]]]))
    assert controller.skip_penalty(at_target, tables, 0.4).tolist() == pytest.approx([0], abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("target", [0.2, 0.8])
def test_without_a_reward_the_share_of_skips_goes_to_the_target(target: float) -> None:
    knob = macro_knob()
    options = EnasOptions(hidden_size=8, skip_target=target, skip_weight=0.8)
    learner = Learner({"a": knob}, options, seed=1)
    assert skip_share(learner, knob) == pytest.approx(0.5, abs=0.05)
    for step in range(300):
        learner.learn(learner.sample(10, step), [0.5] * 10)
    assert skip_share(learner, knob) == pytest.approx(target, abs=0.05)


@pytest.mark.slow
def test_without_a_weight_the_prior_does_nothing() -> None:
    knob = macro_knob()
    learners = [
        Learner({"a": config}, EnasOptions(hidden_size=8), seed=1)
        for config in (knob, ArchKnob(knob.items))
    ]
    for step in range(3):
        drawn = [learner.sample(10, step) for learner in learners]
        assert drawn[0] == drawn[1]
        for learner in learners:
            learner.learn(drawn[0], [choices[0] / 3 for choices in drawn[0]])
    first, second = (learner.dump() for learner in learners)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_logits_of_operations_are_scaled_and_those_of_nodes_are_not() -> None:
    config: KnobConfig = {"a": ArchKnob([[NodeRef(0), NodeRef(1)], ["x", "y", "z"]], nodes=[2, 2])}
    space = build_space(config)
    params = controller.init_params(
        3, token_count=space.token_count, state_count=space.state_count, hidden_size=8
    )
    params = {name: 10 * value for name, value in params.items()}
    choices = jnp.zeros((1, 2), jnp.int32)
    plain, scaled = (
        controller.conditionals(params, space.tables, choices, Options(op_logit_scale=scale))[0]
        for scale in (1.0, 0.4)
    )
    assert jnp.array_equal(plain[0], scaled[0])
    expected = jax.nn.log_softmax(0.4 * plain[1])
    np.testing.assert_allclose(scaled[1], expected, rtol=1e-4)
    assert not np.allclose(plain[1], scaled[1])


@pytest.mark.slow
def test_a_baseline_from_zero_moves_from_there() -> None:
    options = EnasOptions(
        hidden_size=8, baseline_from_zero=True, baseline_decay=0.9, entropy_weight=0.0
    )
    learner = Learner({"a": macro_knob()}, options, seed=1)
    assert learner.baseline == 0.0
    learner.learn(learner.sample(10, 1), [0.5] * 10)
    assert learner.baseline == pytest.approx(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("preset", EnasPreset)
def test_every_preset_runs(make_enas: MakeEnas, fake_study: MakeStudy, preset: EnasPreset) -> None:
    options = enas_preset(
        preset, candidates_per_batch=4, batches_per_round=3, final_evals=4, hidden_size=8
    )
    knobs = dict(make_enas().knob_config) | {"macro": macro_knob()}
    config = make_enas(options=options, model_trial_count=14, knob_config=knobs)
    study = fake_study(config).run()
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE
    arrays = study.advisor.dump().arrays
    assert arrays["controller/updates"] == 6
    assert all(np.isfinite(array).all() for array in arrays.values())
