"""The knobs of the template."""

import re
from dataclasses import asdict

import numpy as np
import pytest

from rafiki.model import ArchKnob, FixedKnob, NodeRef, Policy
from rafiki.model.knobs import arch_knobs, check_knob_config, choice_tokens, offered_policies
from rafiki.supernet import OPERATIONS, Inputs
from rafiki.zoo.enas_cnn import EnasCnn

CONFIG = EnasCnn.get_knob_config()


def test_the_knob_config_is_valid_and_offers_every_policy() -> None:
    check_knob_config(CONFIG)
    assert offered_policies(CONFIG) == frozenset(Policy)


def test_a_node_chooses_two_earlier_states_and_then_two_operations() -> None:
    knob = CONFIG["normal_cell"]
    assert isinstance(knob, ArchKnob)
    assert knob.nodes == (2,) * 4 + (3,) * 4 + (4,) * 4 + (5,) * 4 + (6,) * 4
    assert knob.items[4] == knob.items[5] == (NodeRef(0), NodeRef(1), NodeRef(2))
    assert [getattr(choice, "value", None) for choice in knob.items[6]] == list(OPERATIONS)


def test_both_cells_share_five_operations() -> None:
    assert len(choice_tokens(CONFIG)) == 5
    normal, reduction = arch_knobs(CONFIG).values()
    assert normal.items[2] == reduction.items[19]


@pytest.mark.parametrize("name", CONFIG)
def test_every_knob_is_documented(name: str) -> None:
    assert re.search(rf"\b{name}\b", EnasCnn.__doc__ or "")


def make_model(**knobs: object) -> EnasCnn:
    fixed = {name: knob.value for name, knob in CONFIG.items() if isinstance(knob, FixedKnob)}
    off = dict.fromkeys(("share_params", "early_stop", "skip_train", "quick_eval", "downscale"))
    cell = [0, 1, "identity", "identity"] * 5
    return EnasCnn(normal_cell=cell, reduction_cell=cell, **{**fixed, **off, **knobs})


def test_the_search_rate_restarts_with_periods_twice_as_long() -> None:
    rates = make_model()._search_rates(0.0, 31.0, 31_000)
    rates = [rates[step] for step in (0, 9_999, 10_000, 29_999, 30_000)]
    np.testing.assert_allclose(rates, [0.2, 0.002, 0.2, 0.002, 0.2], rtol=1e-3)


def test_the_rate_of_a_training_from_scratch_falls_once_to_its_least() -> None:
    rates = make_model()._final_rates(30, 1000)
    rates = [rates[step] for step in (0, 15_000, 29_999)]
    np.testing.assert_allclose(rates, [0.1, 0.0505, 0.001], rtol=1e-3)


def test_the_rate_of_a_training_from_scratch_can_restart() -> None:
    model = make_model(learning_rate=0.05, min_learning_rate=1e-4, final_restart_epochs=10)
    rates = model._final_rates(630, 1000)
    rates = [rates[step] for step in (0, 9_999, 10_000, 310_000, 629_999)]
    np.testing.assert_allclose(rates, [0.05, 1e-4, 0.05, 0.05, 1e-4], rtol=1e-3)


def test_the_recipe_of_the_authors_can_be_set() -> None:
    recipe = {
        "weight_decay": 4e-4,
        "shift": 4,
        "flip": True,
        "cutout": 16,
        "drop_path_keep": 0.6,
        "dropout_keep": 0.8,
        "auxiliary_weight": 0.4,
    }
    inputs = Inputs((32, 32, 3), 10, np.zeros(3, np.float32), np.ones(3, np.float32))
    network = make_model(cells=5, channels=36, **recipe)._final_network(inputs)
    assert asdict(network.recipe) == recipe
    # 15 layers, and a reduction cell between two stages.
    assert network.shape.stages == (5, 6, 6)
