"""What is decided without compiling anything: the space, minibatches, sizes and schedules."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafiki.model import ArchKnob, FixedKnob, NodeRef, Policy
from rafiki.model.knobs import arch_knobs, check_knob_config, choice_tokens, offered_policies
from rafiki.zoo import enas_cnn
from rafiki.zoo.enas_cnn import EnasCnn, Initializer, Inputs, architecture

CONFIG = EnasCnn.get_knob_config()
CHAIN = [
    value
    for node in range(5)
    for value in (node, node + 1, "sepconv3", ("identity", "avgpool3")[node % 2])
]


def make_inputs(height: int, width: int, depth: int) -> Inputs:
    return Inputs((height, width, depth), 10, np.zeros(depth), np.ones(depth))


def test_the_knob_config_is_valid_and_offers_every_policy() -> None:
    check_knob_config(CONFIG)
    assert offered_policies(CONFIG) == frozenset(Policy)


def test_a_node_chooses_two_earlier_states_and_then_two_operations() -> None:
    knob = CONFIG["normal_cell"]
    assert isinstance(knob, ArchKnob)
    assert knob.nodes == (2,) * 4 + (3,) * 4 + (4,) * 4 + (5,) * 4 + (6,) * 4
    assert knob.items[4] == knob.items[5] == (NodeRef(0), NodeRef(1), NodeRef(2))
    assert [getattr(choice, "value", None) for choice in knob.items[6]] == list(enas_cnn.OPERATIONS)


def test_both_cells_share_five_operations() -> None:
    assert len(choice_tokens(CONFIG)) == 5
    normal, reduction = arch_knobs(CONFIG).values()
    assert normal.items[2] == reduction.items[19]


@pytest.mark.parametrize("name", CONFIG)
def test_every_knob_is_documented(name: str) -> None:
    assert re.search(rf"\b{name}\b", EnasCnn.__doc__ or "")


@pytest.mark.parametrize(
    ("position", "value"), [(0, 2), (0, "sepconv3"), (2, "conv7"), (2, 0), (16, 6), (0, -1)]
)
def test_a_value_that_is_no_choice_of_its_position_is_refused(position: int, value: object) -> None:
    values: list[object] = list(CHAIN)
    values[position] = value
    with pytest.raises(ValueError, match=f"position {position} "):
        architecture(CHAIN, values)


def test_a_cell_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="20 values, not 19"):
        architecture(CHAIN, CHAIN[:-1])


def test_the_loose_ends_are_the_states_that_nobody_reads() -> None:
    values = [0, 0, "identity", "identity"] * 5
    assert architecture(CHAIN, values).loose.tolist() == [
        [7, 7, 7, 7, 7, 7, 6],
        [7, 1, 2, 3, 4, 5, 6],
    ]


def test_every_row_of_a_bank_has_a_path_of_its_own() -> None:
    assert len(set(enas_cnn.ROW_NAMES)) == len(enas_cnn.ROW_NAMES) == enas_cnn.ROWS == 80


def test_shards_share_the_minibatches_of_one_permutation_without_overlap() -> None:
    alone = enas_cnn.minibatches(100, 10, seed=3)
    shards = [enas_cnn.minibatches(100, 10, seed=3, shard=(index, 3)) for index in range(3)]
    for number, batch in enumerate(itertools.islice(alone, 25)):
        np.testing.assert_array_equal(next(shards[number % 3]), batch)


def test_minibatches_cover_the_data_once_and_then_follow_another_permutation() -> None:
    batches = list(itertools.islice(enas_cnn.minibatches(100, 10, seed=3), 20))
    first, second = np.concatenate(batches[:10]), np.concatenate(batches[10:])
    assert sorted(first) == sorted(second) == list(range(100))
    assert first.tolist() != second.tolist()


def test_a_data_set_smaller_than_a_minibatch_is_repeated() -> None:
    batch = next(enas_cnn.minibatches(3, 8, seed=0))
    assert batch.shape == (8,)
    assert set(batch) == {0, 1, 2}


@pytest.mark.parametrize(
    ("size", "stages"), [((8, 8), (1, 2)), ((15, 40), (1, 2)), ((16, 16), (1, 2, 2))]
)
def test_images_are_halved_only_down_to_four_pixels(
    size: tuple[int, int], stages: tuple[int, ...]
) -> None:
    assert make_inputs(*size, 1).shape(2, 1).stages == stages


def test_images_below_eight_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 pixels"):
        make_inputs(7, 20, 1).shape(2, 1)


@pytest.mark.parametrize("cells", [1, 2])
@pytest.mark.parametrize("size", [(8, 8, 1), (9, 13, 3), (32, 32, 3), (17, 31, 1)])
def test_the_supernet_takes_images_of_any_size(size: tuple[int, int, int], cells: int) -> None:
    shape = make_inputs(*size).shape(2, cells)
    arch = architecture(CHAIN, CHAIN)

    def run(images: jax.Array) -> jax.Array:
        params = jax.tree.map(jnp.asarray, enas_cnn.init_search_params(shape, 0))
        active = enas_cnn.gather_active(params, arch, shape)
        return enas_cnn.search_logits(active, arch, images, shape)

    assert jax.eval_shape(run, np.zeros((3, *size), np.float32)).shape == (3, 10)


@pytest.mark.parametrize("size", [(8, 8, 1), (9, 13, 3), (32, 32, 3), (17, 31, 1)])
def test_the_final_network_takes_images_of_any_size(size: tuple[int, int, int]) -> None:
    shape = make_inputs(*size).shape(2, 2)

    def run(images: jax.Array) -> jax.Array:
        network = enas_cnn.FixedNetwork(shape, architecture(CHAIN, CHAIN), Initializer(0))
        return network(images, training=True)

    assert jax.eval_shape(run, np.zeros((3, *size), np.float32)).shape == (3, 10)


def test_a_supernet_of_too_many_tensors_is_refused() -> None:
    inputs = make_inputs(32, 32, 3)
    with pytest.raises(ValueError, match="over 4000 tensors"):
        enas_cnn.Supernet(inputs, inputs.shape(2, 8), weight_decay=0.0)


def test_the_search_rate_restarts_with_periods_twice_as_long() -> None:
    fixed = {name: knob.value for name, knob in CONFIG.items() if isinstance(knob, FixedKnob)}
    off = dict.fromkeys(("share_params", "early_stop", "skip_train", "quick_eval", "downscale"))
    model = EnasCnn(normal_cell=CHAIN, reduction_cell=CHAIN, **fixed, **off)
    rates = [model._search_rate(epoch) for epoch in (0.0, 9.999, 10.0, 29.999, 30.0)]
    np.testing.assert_allclose(rates, [0.2, 0.002, 0.2, 0.002, 0.2], rtol=1e-3)
