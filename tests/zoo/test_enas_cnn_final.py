"""The network that is trained from scratch, and how: against plain Flax, and part by part."""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from tests.zoo.plain_cells import PlainNetwork

from rafiki.model import KnobValue
from rafiki.model.knobs import arch_values
from rafiki.supernet import OPERATIONS, Data, Inputs
from rafiki.supernet.cells import (
    Architecture,
    FinalNetwork,
    FixedNetwork,
    Recipe,
    Shape,
    cell_knob,
)
from rafiki.supernet.cells.auxiliary import auxiliary_logits, init_auxiliary
from rafiki.supernet.cells.recipe import cut_out, draw_noise, drop_path_masks
from rafiki.worker.child.compilation import CompilationWatch

CLASSES, BATCH = 3, 6
KNOB = cell_knob([KnobValue(name) for name in OPERATIONS])
CHAIN = [value for node in range(5) for value in (node, node + 1, "sepconv3", "maxpool3")]
SHAPE = Shape(height=8, width=8, depth=1, classes=CLASSES, channels=4, stages=(2, 2))
# With one stage, which is compiled sooner.
ONE_STAGE = dataclasses.replace(SHAPE, stages=(2,))

Cells = tuple[list[object], list[object]]


def random_cells(seed: int) -> Cells:
    """The values of both cells, drawn at random."""
    rng = np.random.default_rng(seed)

    def cell() -> list[object]:
        return list(arch_values(KNOB, [int(rng.integers(len(item))) for item in KNOB.items]))

    return cell(), cell()


def make_data(count: int = 40) -> Data:
    rng = np.random.default_rng(0)
    images = rng.integers(255, size=(count, 8, 8, 1), dtype=np.uint8)
    labels = rng.integers(CLASSES, size=count).astype(np.int32)
    deviation = np.full(1, 0.3, np.float32)
    return Data(jnp.asarray(images), labels, CLASSES, np.full(1, 0.5, np.float32), deviation)


def make_network(seed: int, recipe: Recipe) -> FinalNetwork:
    arch = Architecture.of(*random_cells(seed))
    network = FinalNetwork(Inputs.of(make_data()), ONE_STAGE, arch, recipe)
    network.reset(seed)
    return network


def batches(seed: int = 0) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(seed)
    while True:
        yield rng.integers(40, size=BATCH).astype(np.int32)


def trained(
    seed: int, recipe: Recipe, steps: int = 5, steps_per_call: int = 1, noise: int = 0
) -> FinalNetwork:
    network = make_network(seed, recipe)
    network._calls.steps = steps_per_call
    for _ in network.train(make_data(), batches(), [0.05] * steps, noise):
        pass
    return network


def assert_equal(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    assert one.keys() == other.keys()
    for path, value in one.items():
        assert value.tobytes() == other[path].tobytes(), path


def as_float64(tensors: dict[str, np.ndarray], seed: int) -> dict[str, jax.Array]:
    """In twice the precision and changed a little: nothing is exactly 0 or 1 then."""
    rng = np.random.default_rng(seed)
    return {
        name: jnp.asarray(value * (1.0 + 0.1 * rng.random(value.shape)), jnp.float64)
        for name, value in tensors.items()
    }


@pytest.mark.slow
def test_training_computes_what_plain_flax_does() -> None:
    with jax.enable_x64(True):
        network = FixedNetwork(SHAPE)

        def loss_of(
            weights: dict[str, jax.Array], arch: Architecture, *inputs: jax.Array
        ) -> tuple[jax.Array, tuple[jax.Array, dict[str, jax.Array]]]:
            found = network.train_logits(weights, arch, *inputs)
            return jnp.sum(jnp.sin(found.logits)), (found.logits, found.statistics)

        gradient = jax.jit(jax.grad(loss_of, has_aux=True))
        for seed in range(2):
            cells, rng = random_cells(seed), np.random.default_rng(seed)
            arch = Architecture.of(*cells)
            weights = as_float64(network.init(arch, seed), seed)
            statistics = as_float64(network.init_statistics(), seed + 1)
            images = jnp.asarray(rng.standard_normal((BATCH, 8, 8, 1)))
            masks = drop_path_masks(0.5, SHAPE, arch, rng, BATCH, 1.0).astype(np.float64)
            dropout = 2.0 * rng.integers(2, size=(BATCH, 8))
            grads, (logits, found) = gradient(weights, arch, images, masks, dropout)
            tensors = network.tensors(arch, weights, statistics)

            def plain(
                tensors: dict[str, jax.Array],
                cells: Cells = cells,
                images: jax.Array = images,
                noise: tuple[np.ndarray, np.ndarray] = (masks, dropout),
            ) -> tuple[jax.Array, tuple[jax.Array, dict[str, jax.Array]]]:
                again = PlainNetwork(tensors, cells, SHAPE.stages, True, *noise)
                logits = again.logits(images)
                return jnp.sum(jnp.sin(logits)), (logits, again.renewed)

            of_plain = {path: jnp.asarray(value) for path, value in tensors.items()}
            expected, (plain_logits, renewed) = jax.jit(jax.grad(plain, has_aux=True))(of_plain)
            assert logits.dtype == jnp.float64
            np.testing.assert_allclose(logits, plain_logits, rtol=1e-9, atol=1e-11)
            running = {k: 0.9 * v + 0.1 * found[k] for k, v in statistics.items()}
            mine = network.tensors(arch, grads, running)
            largest = max(float(abs(value).max()) for value in expected.values())
            for path, value in expected.items():
                if path.endswith("/statistics"):
                    np.testing.assert_allclose(mine[path], renewed[path], rtol=1e-9, err_msg=path)
                else:
                    np.testing.assert_allclose(
                        mine[path], value, rtol=1e-9, atol=1e-10 * largest, err_msg=path
                    )


@pytest.mark.slow
def test_evaluation_computes_what_plain_flax_does() -> None:
    with jax.enable_x64(True):
        network = FixedNetwork(SHAPE)
        evaluate = jax.jit(network.logits)
        for seed in range(3):
            cells, rng = random_cells(seed), np.random.default_rng(seed)
            arch = Architecture.of(*cells)
            weights = as_float64(network.init(arch, seed), seed)
            statistics = as_float64(network.init_statistics(), seed + 1)
            images = jnp.asarray(rng.standard_normal((BATCH, 8, 8, 1)))
            tensors = network.tensors(arch, weights, statistics)
            plain = PlainNetwork(
                {k: jnp.asarray(v) for k, v in tensors.items()}, cells, SHAPE.stages, False
            )
            np.testing.assert_allclose(
                evaluate(weights, statistics, arch, images),
                plain.logits(images),
                rtol=1e-9,
                atol=1e-11,
            )


@pytest.mark.slow
def test_each_final_program_is_compiled_once_for_all_architectures() -> None:
    # A recipe of its own: no other test has compiled it.
    recipe = Recipe(weight_decay=0.0123, shift=1)
    watch = CompilationWatch()
    watch.install()
    watch.begin()
    data = make_data()
    for seed in range(3):
        network = trained(seed, recipe, steps=3)
        network.logits(data.images, np.arange(BATCH, dtype=np.int32))
        again = make_network(seed, recipe)
        again.load(network.dump())
        again.logits(data.images, np.arange(BATCH, dtype=np.int32))
    programs = watch.end().programs
    assert programs["final_train_steps"] == 1
    assert programs["final_evaluate"] == 1


ALL_ON = Recipe(
    weight_decay=1e-3,
    shift=1,
    flip=True,
    cutout=3,
    drop_path_keep=0.6,
    dropout_keep=0.8,
    auxiliary_weight=0.4,
)


@pytest.mark.slow
def test_weights_do_not_depend_on_how_many_minibatches_a_call_takes() -> None:
    one, other = (trained(0, ALL_ON, 7, steps_per_call=n) for n in (1, 4))
    assert_equal(one.dump(), other.dump())


@pytest.mark.slow
def test_other_noise_gives_other_weights() -> None:
    one, other = (trained(0, ALL_ON, noise=n).dump() for n in (0, 1))
    assert any(one[path].tobytes() != other[path].tobytes() for path in one)


@pytest.mark.slow
def test_a_loaded_network_has_the_same_tensors_and_scores() -> None:
    network, data = trained(1, ALL_ON), make_data()
    other = make_network(1, ALL_ON)
    other.load(network.dump())
    assert_equal(other.dump(), network.dump())
    indices = np.arange(BATCH, dtype=np.int32)
    scores = [one.logits(data.images, indices).tobytes() for one in (network, other)]
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_the_auxiliary_head_changes_what_is_learned_and_is_not_dumped() -> None:
    without = dataclasses.replace(ALL_ON, auxiliary_weight=0.0)
    one, other = (trained(0, recipe, steps=1).dump() for recipe in (without, ALL_ON))
    assert one.keys() == other.keys()
    stem, last = "network/stem/kernel", "network/head/bias"
    assert one[stem].tobytes() != other[stem].tobytes()
    # What comes after the head's cell alone is out of its reach, in the first step.
    np.testing.assert_allclose(one[last], other[last], rtol=1e-4, atol=1e-7)


def test_weights_are_those_that_a_fresh_supernet_has_for_the_architecture() -> None:
    from rafiki.supernet import SharedWeights
    from rafiki.supernet.cells import CellSpace

    arch = Architecture.of(*random_cells(0))
    network = FixedNetwork(SHAPE)
    supernet = SharedWeights(CellSpace(SHAPE), ())
    supernet.reset(5)
    of_supernet = supernet.dump()
    weights = {k: jnp.asarray(v) for k, v in network.init(arch, 5).items()}
    for path, value in network.tensors(arch, weights, {}).items():
        assert value.tobytes() == of_supernet[path].tobytes(), path


@pytest.mark.parametrize("size", [(8, 8, 1), (9, 13, 3), (32, 32, 3), (17, 31, 1)])
@pytest.mark.parametrize("has_auxiliary", [False, True])
def test_the_final_network_takes_images_of_any_size(
    size: tuple[int, int, int], has_auxiliary: bool
) -> None:
    inputs = Inputs(size, 10, np.zeros(size[2], np.float32), np.ones(size[2], np.float32))
    network = FixedNetwork(Shape.of(inputs, channels=2, cells=2), has_auxiliary)
    arch = Architecture.of(CHAIN, CHAIN)

    def run(images: jax.Array) -> tuple[jax.Array, jax.Array | None, jax.Array]:
        weights = {k: jnp.asarray(v) for k, v in network.init(arch, 0).items()}
        running = {k: jnp.asarray(v) for k, v in network.init_statistics().items()}
        found = network.train_logits(weights, arch, images)
        sizes = {k: v.shape for k, v in found.statistics.items()}
        assert sizes == {k: v.shape for k, v in running.items()}
        return found.logits, found.auxiliary, network.logits(weights, running, arch, images)

    logits, auxiliary, evaluated = jax.eval_shape(run, np.zeros((3, *size), np.float32))
    assert logits.shape == evaluated.shape == (3, 10)
    assert (auxiliary is not None) == has_auxiliary


def test_computing_in_bfloat16_keeps_statistics_in_float32() -> None:
    network, arch = FixedNetwork(SHAPE, True), Architecture.of(CHAIN, CHAIN)

    def run(images: jax.Array) -> tuple[jax.Array, dict[str, jax.Array], jax.Array]:
        weights = {k: jnp.asarray(v, jnp.bfloat16) for k, v in network.init(arch, 0).items()}
        running = {k: jnp.asarray(v) for k, v in network.init_statistics().items()}
        masks, dropout = jnp.ones((4, 10, 3)), jnp.ones((3, 8))

        def loss(weights: dict[str, jax.Array]) -> tuple[jax.Array, dict[str, jax.Array]]:
            found = network.train_logits(weights, arch, images, masks, dropout)
            assert found.auxiliary is not None
            return jnp.sum(found.logits + found.auxiliary), found.statistics

        grads, statistics = jax.grad(loss, has_aux=True)(weights)
        return grads["stem/kernel"], statistics, network.logits(weights, running, arch, images)

    images = np.zeros((3, 8, 8, 1), jnp.bfloat16)
    grad, statistics, logits = jax.eval_shape(run, images)
    assert grad.dtype == logits.dtype == jnp.bfloat16
    assert {value.dtype for value in statistics.values()} == {np.dtype(np.float32)}


@pytest.mark.slow
def test_the_auxiliary_head_computes_what_plain_flax_does() -> None:
    shape = Shape(height=32, width=32, depth=3, classes=CLASSES, channels=2, stages=(1, 2, 2))
    weights = {k: jnp.asarray(v) for k, v in init_auxiliary(shape, 0).items()}
    x = jnp.asarray(np.random.default_rng(0).standard_normal((BATCH, 8, 8, 8)), jnp.float32)
    y = nnx.avg_pool(jax.nn.relu(x), (5, 5), strides=(3, 3), padding="VALID")  # type: ignore[no-untyped-call]
    for name, axes in (("few", (0, 1, 2)), ("many", 0)):
        y = y.reshape(BATCH, -1) if name == "many" else y
        y = y @ weights[f"auxiliary/{name}"]
        y = jax.nn.relu((y - y.mean(axes)) / jnp.sqrt(y.var(axes) + 1e-5))
    expected = y @ weights["auxiliary/head"]
    np.testing.assert_allclose(auxiliary_logits(weights, x), expected, rtol=1e-3, atol=1e-4)


def test_paths_are_dropped_more_often_deeper_and_later() -> None:
    arch, batch = Architecture.of(CHAIN, CHAIN), 4000

    def kept(progress: float) -> np.ndarray:
        rng = np.random.default_rng(0)
        masks = drop_path_masks(0.6, SHAPE, arch, rng, batch, progress)
        return np.asarray((masks > 0).mean((1, 2)))

    # Cell k of 4, at the end: 1 - k / 4 * 0.4; half of what is missing in the middle.
    np.testing.assert_allclose(kept(1.0), [0.9, 0.8, 0.7, 0.6], atol=0.01)
    np.testing.assert_allclose(kept(0.5), [0.95, 0.9, 0.85, 0.8], atol=0.01)


def test_dropped_paths_leave_the_mean_as_it_is_and_identities_alone() -> None:
    cell = [0, 1, "identity", "sepconv5"] * 5
    arch, rng = Architecture.of(cell, cell), np.random.default_rng(0)
    masks = drop_path_masks(0.5, SHAPE, arch, rng, 4000, 1.0)
    assert (masks[:, ::2] == 1.0).all()
    np.testing.assert_allclose(masks.mean((1, 2)), 1.0, atol=0.02)
    assert len(np.unique(masks[3, 1])) == 2


def test_cutout_sets_a_square_to_the_mean_pixel_and_loses_what_is_outside() -> None:
    images = jnp.ones((3, 6, 5, 2))
    holes = np.array([[3, 2], [0, 0], [5, 4]], np.int32)
    cut = np.asarray(cut_out(images, holes, 3))
    expected = np.ones((3, 6, 5, 2))
    expected[0, 2:5, 1:4] = expected[1, :2, :2] = expected[2, 4:, 3:] = 0
    np.testing.assert_array_equal(cut, expected)


def test_a_recipe_with_all_off_draws_no_masks() -> None:
    arch, rng = Architecture.of(CHAIN, CHAIN), np.random.default_rng(0)
    noise = draw_noise(Recipe(), SHAPE, arch, rng, BATCH, 0.5)
    assert noise.holes is noise.masks is noise.dropout is None
    assert not noise.shifts.any()
    assert not noise.flips.any()


def test_noise_is_within_its_bounds() -> None:
    arch, rng = Architecture.of(CHAIN, CHAIN), np.random.default_rng(0)
    noise = draw_noise(ALL_ON, SHAPE, arch, rng, 500, 1.0)
    assert noise.holes is not None
    assert noise.dropout is not None
    assert (noise.holes.min(), noise.holes.max()) == (0, 7)
    assert (noise.shifts.min(), noise.shifts.max()) == (0, 2)
    np.testing.assert_allclose(np.unique(noise.dropout), [0.0, 1.25])
    np.testing.assert_allclose(noise.dropout.mean(), 1.0, atol=0.03)
