"""Cells chosen at run time against a plain re-statement of each."""

from collections.abc import Iterator
from typing import Protocol, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tests.supernet.recurrent.static_network import StaticNetwork, paths_of, static_loss

from rafiki.model import ArchKnob, NodeRef, Vocabulary
from rafiki.model.knobs import arch_values
from rafiki.supernet import SharedWeights, gather_active
from rafiki.supernet.banks import Tensors
from rafiki.supernet.recurrent import (
    ACTIVATIONS,
    Dropout,
    LanguageModel,
    Minibatch,
    Recipe,
    RecurrentArchitecture,
    RecurrentSpace,
    averaging_shares,
    clipped_descent,
    language_programs,
    recurrent_cell_knob,
)
from rafiki.supernet.recurrent.dropout import Masks
from rafiki.supernet.recurrent.programs import language_loss

WORDS, HIDDEN, NODES, ROWS, STEPS = 7, 4, 4, 2, 3
KNOB = recurrent_cell_knob(NODES)
VOCABULARY = Vocabulary(("<unk>", "<eos>", *"abcde"))
RECIPE = Recipe(rows=ROWS, evaluation_rows=ROWS, weight_decay=0.0, clip_norm=1e9)
TEXT = np.random.default_rng(5).integers(WORDS, size=(STEPS + 1, ROWS)).astype(np.int32)


static_gradients = nnx.jit(nnx.value_and_grad(static_loss, has_aux=True))


class Cached(Protocol):
    """A program that counts what it was compiled for."""

    def _cache_size(self) -> int: ...


def random_cell(seed: int) -> list[object]:
    rng = np.random.default_rng(seed)
    return list(arch_values(KNOB, [int(rng.integers(len(item))) for item in KNOB.items]))


def space_of(is_shared: bool) -> RecurrentSpace:
    return RecurrentSpace(words=WORDS, hidden=HIDDEN, nodes=NODES, is_shared=is_shared)


def make_model(is_shared: bool = True, recipe: Recipe = RECIPE, seed: int = 0) -> LanguageModel:
    model = LanguageModel(VOCABULARY, space_of(is_shared), recipe)
    model.reset(seed)
    # Weights of a size at which activations are not all linear.
    rng = np.random.default_rng(seed)
    params = {
        path: rng.normal(size=value.shape).astype(np.float32)
        for path, value in model.dump().items()
        if value.dtype == np.float32
    }
    model.load(params)
    return model


def train_one(model: LanguageModel, cell: list[object], rate: float = 0.5) -> list[float]:
    batches = iter([Minibatch(TEXT, True, 3)])
    arch = RecurrentArchitecture.of(cell)
    return model.train(batches, [arch], [rate], [0.0], lambda share, surprise: False)


def repeated(is_fresh: list[bool]) -> Iterator[Minibatch]:
    return iter([Minibatch(TEXT, fresh, 0) for fresh in is_fresh])


def test_a_node_chooses_an_earlier_node_and_an_activation() -> None:
    assert isinstance(KNOB, ArchKnob)
    assert KNOB.nodes == (1, 1, 2, 2, 3, 3, 4, 4)
    assert KNOB.items[4] == (NodeRef(0), NodeRef(1), NodeRef(2))
    assert [getattr(choice, "value", None) for choice in KNOB.items[1]] == list(ACTIVATIONS)
    assert KNOB.items[1] == KNOB.items[7]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "two values"),
        ([0], "two values"),
        ([1, "tanh"], "node 1 of a cell cannot read 1"),
        ([0, "tanh", 0, "cos"], "node 2 of a cell has no activation 'cos'"),
    ],
)
def test_what_is_no_cell_is_refused(values: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecurrentArchitecture.of(values)


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-9), ("float32", 1e-3)])
@pytest.mark.parametrize("seed", range(3))
def test_logits_are_those_of_the_static_network(seed: int, dtype: str, tolerance: float) -> None:
    cell, arch = random_cell(seed), RecurrentArchitecture.of(random_cell(seed))
    with jax.enable_x64(dtype == "float64"):
        space, rng = space_of(is_shared=True), np.random.default_rng(seed)
        params = {
            name: jnp.asarray(rng.normal(size=value.shape), dtype)
            for name, value in space.init(0).items()
        }
        state = jnp.asarray(rng.normal(size=(ROWS, HIDDEN)), dtype)
        active = gather_active(params, space.rows(arch))
        outputs, _ = space.outputs(active, arch, jnp.asarray(TEXT), state, Masks())
        found = np.asarray(space.logits(active, outputs))
        named = {name: np.asarray(value) for name, value in params.items() if "nodes" not in name}
        named |= {
            path: np.asarray(params["cell/nodes"][arch.rows[node]])
            for node, path in enumerate(paths_of(space, cell))
        }
        expected = np.asarray(StaticNetwork(named, cell)(jnp.asarray(TEXT), state)[0])
    assert found.dtype == expected.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


@pytest.mark.slow
@pytest.mark.parametrize("is_shared", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_loss_state_and_gradients_are_those_of_the_static_network_in_float64(
    seed: int, is_shared: bool
) -> None:
    cell, arch = random_cell(seed), RecurrentArchitecture.of(random_cell(seed))
    with jax.enable_x64(True):
        space = space_of(is_shared)
        rng = np.random.default_rng(seed)
        params = {name: rng.normal(size=value.shape) for name, value in space.init(0).items()}
        state = rng.normal(size=(ROWS, HIDDEN))
        loss = language_loss(space, RECIPE)
        active = gather_active({k: jnp.asarray(v) for k, v in params.items()}, space.rows(arch))

        def dynamic(active: Tensors) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
            return loss(active, arch, jnp.asarray(TEXT), jnp.asarray(state), jnp.int32(0))

        (value, (after, _)), grads = jax.jit(jax.value_and_grad(dynamic, has_aux=True))(active)
        named = {k: v for k, v in params.items() if k != "cell/nodes"}
        named |= {
            path: params["cell/nodes"][arch.rows[node] if is_shared else ...]
            for node, path in enumerate(paths_of(space, cell))
        }
        network = StaticNetwork(named, cell)
        (expected, state_after), static = static_gradients(
            network, jnp.asarray(TEXT), jnp.asarray(state)
        )
        assert value.dtype == np.float64
        np.testing.assert_allclose(value, expected, rtol=1e-9)
        np.testing.assert_allclose(after, state_after, rtol=1e-9)
        both = jnp.concatenate([grads["cell/input"], grads["cell/state"]])
        pairs = [(grads["embedding"], static["embedding"]), (grads["output/bias"], static["bias"])]
        pairs += [(both, static["first"])]
        pairs += [(grads["cell/nodes"][node], static["nodes"][node]) for node in range(NODES)]
        for grad, reference in pairs:
            reference = np.asarray(reference[...])
            atol = 1e-9 * np.abs(reference).max()
            np.testing.assert_allclose(grad, reference, rtol=0, atol=atol)


@pytest.mark.slow
@pytest.mark.parametrize("is_shared", [True, False])
def test_a_step_of_the_program_is_that_of_the_static_network(is_shared: bool) -> None:
    for seed in range(2):
        cell, model = random_cell(seed), make_model(is_shared, seed=seed)
        before = model.dump()
        (surprise,) = train_one(model, cell, rate=0.5)
        network = StaticNetwork(before, cell)
        (expected, _), grads = static_gradients(
            network, jnp.asarray(TEXT), jnp.zeros((ROWS, HIDDEN))
        )
        assert surprise == pytest.approx(float(expected), rel=1e-3)
        after, state = model.dump(), nnx.state(grads)
        moved = {path: (before[path] - after[path]) / 0.5 for path in before}
        first = np.concatenate([moved["cell/input"], moved["cell/state"]])
        pairs = [(moved["embedding"], state["embedding"]), (first, state["first"])]
        paths = paths_of(model.space, cell)
        for node in range(NODES):
            own = moved[paths[node]] if is_shared else moved["cell/nodes"][node]
            pairs.append((own, state["nodes"][node]))
        for found, reference in pairs:
            reference = np.asarray(reference[...])
            atol = 1e-3 * np.abs(reference).max()
            np.testing.assert_allclose(found, reference, rtol=0, atol=atol)


@pytest.mark.slow
def test_rows_that_a_cell_does_not_use_keep_every_bit_and_are_not_counted() -> None:
    model, cell = (
        make_model(recipe=Recipe(rows=2, evaluation_rows=2, weight_decay=0.1, clip_norm=1)),
        random_cell(1),
    )
    before = model.dump()
    train_one(model, cell)
    after = model.dump()
    changed = {path for path in before if before[path].tobytes() != after[path].tobytes()}
    used = {"embedding", "output/bias", "cell/input", "cell/state", *paths_of(model.space, cell)}
    assert changed - {"optimizer/steps"} == used
    updates = model.weights.updates([RecurrentArchitecture.of(cell)])
    assert updates == dict.fromkeys({*used, "optimizer/steps"}, 1)


@pytest.mark.slow
def test_the_state_is_carried_over_unless_a_minibatch_is_fresh() -> None:
    cells = [RecurrentArchitecture.of(random_cell(seed)) for seed in range(2)]

    def surprises(is_fresh: list[bool]) -> list[float]:
        model = make_model()
        # A rate of 0: only the state can make a difference.
        return model.train(
            repeated(is_fresh), [cells[0]] * 2, [0.0] * 2, [0.0] * 2, lambda share, surprise: False
        )

    fresh, carried = surprises([True, True]), surprises([True, False])
    assert fresh[0] == fresh[1] == carried[0] != carried[1]
    network = StaticNetwork(make_model().dump(), random_cell(0))
    _, state = static_loss(network, jnp.asarray(TEXT), jnp.zeros((ROWS, HIDDEN)))
    expected, _ = static_loss(network, jnp.asarray(TEXT), state)
    assert carried[1] == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.slow
def test_cells_are_scored_as_by_the_static_network_over_several_minibatches() -> None:
    model, cells = make_model(), [random_cell(seed) for seed in range(11)]
    counted = np.ones((STEPS, ROWS), bool)
    counted[-1] = False
    batches = [(TEXT, np.ones_like(counted)), (TEXT, counted)]
    found = model.surprise([RecurrentArchitecture.of(cell) for cell in cells], batches)
    for cell, surprise in zip(cells, found, strict=True):
        network = StaticNetwork(model.dump(), cell)
        first, state = static_loss(network, jnp.asarray(TEXT), jnp.zeros((ROWS, HIDDEN)))
        second, _ = static_loss(network, jnp.asarray(TEXT[:-1]), state)
        expected = (float(first) * STEPS + float(second) * (STEPS - 1)) / (2 * STEPS - 1)
        assert surprise == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_the_next_word_does_not_depend_on_other_texts_or_on_padding() -> None:
    model, arch = make_model(), RecurrentArchitecture.of(random_cell(2))
    texts = [np.array(text, np.int32) for text in ([1], [1, 2, 3], [5, 4, 1, 2, 3])]
    together = model.next_words(arch, texts, STEPS)
    assert together.shape == (3, WORDS)
    np.testing.assert_allclose(together.sum(1), 1.0, rtol=1e-5)
    alone = model.next_words(arch, texts[:1], STEPS)
    assert alone[0].tobytes() == together[0].tobytes()
    scores, _ = StaticNetwork(model.dump(), random_cell(2))(
        jnp.array([[1], [2], [3]]), jnp.zeros((1, HIDDEN))
    )
    np.testing.assert_allclose(together[1], jax.nn.softmax(scores[-1, 0]), rtol=1e-4)
    # Only the last STEPS words count.
    assert together[2].tobytes() == together[1].tobytes()


@pytest.mark.slow
def test_the_programs_are_compiled_once_for_all_cells_counts_and_seeds() -> None:
    for is_shared in (True, False):
        # Sizes of its own, so that no other test has compiled for them.
        space = RecurrentSpace(words=WORDS, hidden=3, nodes=NODES, is_shared=is_shared)
        recipe = Recipe(
            rows=ROWS,
            evaluation_rows=ROWS,
            weight_decay=0.0,
            clip_norm=1.0,
            dropout=Dropout(words=0.2, inputs=0.1, nodes=0.1),
            is_averaged=not is_shared,
        )
        model = LanguageModel(VOCABULARY, space, recipe)
        model.reset(0)
        for count in (1, 2, 5):
            archs = [RecurrentArchitecture.of(random_cell(seed)) for seed in range(count)]
            batches = iter([Minibatch(TEXT, k == 0, count + k) for k in range(count)])
            shares = averaging_shares(count, 0.5)
            model.train(batches, archs, [0.1] * count, shares, lambda share, surprise: False)
            model.surprise(archs, [(TEXT, np.ones((STEPS, ROWS), bool))] * 2)
            model.next_words(archs[0], [np.ones(count, np.int32)] * count, STEPS)
        programs = cast("tuple[Cached, ...]", language_programs(space, recipe))
        assert [program._cache_size() for program in programs] == [1, 1, 1]


@pytest.mark.slow
def test_the_weights_become_the_mean_of_those_that_count() -> None:
    recipe = Recipe(rows=2, evaluation_rows=2, weight_decay=0.0, clip_norm=1.0, is_averaged=True)
    archs = [RecurrentArchitecture.of(random_cell(0))] * 4

    def train(steps: int, shares: list[float]) -> dict[str, np.ndarray]:
        model = make_model(False, recipe)
        fresh = [k == 0 for k in range(steps)]
        model.train(repeated(fresh), archs[:steps], [0.5] * steps, shares, lambda *told: False)
        return model.dump()

    last = [train(steps, [0.0] * steps) for steps in (3, 4)]
    mean = train(4, averaging_shares(4, 0.5))
    for path in ("embedding", "cell/nodes"):
        expected = (last[0][path] + last[1][path]) / 2
        np.testing.assert_allclose(mean[path], expected, rtol=1e-4, atol=1e-6)


def test_averaging_begins_at_a_share_of_the_steps() -> None:
    assert averaging_shares(4, 0.5) == [0.0, 0.0, 1.0, 0.5]
    assert averaging_shares(2, 1.0) == [0.0, 0.0]


def test_gradients_are_clipped_by_the_norm_of_all_and_decay_is_among_them() -> None:
    params = {"a": jnp.array([1.0]), "b": jnp.array([0.0])}
    grads = {"a": jnp.array([2.0]), "b": jnp.array([4.0])}
    update = clipped_descent(weight_decay=1.0, clip_norm=1.0).update
    updated, slots = update(params, {}, grads, jnp.float32(10.0))
    np.testing.assert_allclose(updated["a"], [1 - 10 * 0.6], rtol=1e-6)
    np.testing.assert_allclose(updated["b"], [-10 * 0.8], rtol=1e-6)
    assert slots == {}


def test_a_small_or_zero_gradient_is_not_changed_by_clipping() -> None:
    params = {"a": jnp.array([1.0, 0.0])}
    update = clipped_descent(weight_decay=0.0, clip_norm=1.0).update
    updated, _ = update(params, {}, {"a": jnp.array([0.5, 0.0])}, jnp.float32(1.0))
    assert updated["a"].tolist() == [0.5, 0.0]
    updated, _ = update(params, {}, {"a": jnp.zeros(2)}, jnp.float32(1.0))
    assert updated["a"].tolist() == [1.0, 0.0]


@pytest.mark.slow
def test_dropout_changes_training_by_the_seed_and_never_evaluation() -> None:
    everywhere = Dropout(words=0.3, embeddings=0.3, inputs=0.3, nodes=0.3, outputs=0.3)
    recipe = Recipe(
        rows=ROWS, evaluation_rows=ROWS, weight_decay=0.0, clip_norm=1e9, dropout=everywhere
    )
    model, arch = make_model(recipe=recipe), RecurrentArchitecture.of(random_cell(0))
    batches = iter([Minibatch(TEXT, True, seed) for seed in (1, 1, 2)])
    found = model.train(batches, [arch] * 3, [0.0] * 3, [0.0] * 3, lambda *told: False)
    assert found[0] == found[1] != found[2]
    whole = [(TEXT, np.ones((STEPS, ROWS), bool))]
    assert model.surprise([arch], whole) == make_model().surprise([arch], whole)


def test_shared_weights_are_one_tensor_per_node_and_earlier_node() -> None:
    weights: SharedWeights[RecurrentArchitecture] = SharedWeights(space_of(True), ())
    weights.reset(0)
    dumped = weights.dump()
    assert len([path for path in dumped if "/from_" in path]) == NODES * (NODES + 1) // 2
    assert dumped["cell/node_4/from_2"].shape == (HIDDEN, 2 * HIDDEN)
