"""The final network of the macro space against the same network in Flax."""

import itertools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import Array

from rafiki.supernet import Data, Inputs, cross_entropy, normalised, on_devices
from rafiki.supernet.macro import FinalMacroNetwork, MacroRecipe
from rafiki.supernet.macro.architecture import MacroArchitecture
from rafiki.supernet.macro.shape import MacroShape
from rafiki.supernet.macro.space import MacroSpace

pytestmark = pytest.mark.slow

CHANNELS, CLASSES = 4, 5
# Four layers in two stages, with every kind of operation and of skip: none, the stem, several,
# and one across the reduction.
VALUES = ["conv5", "sepconv3", 1, "maxpool3", 0, 1, "avgpool3", 1, 0, 1]
INPUTS = Inputs((8, 8, 1), CLASSES, np.full(1, 0.5, np.float32), np.full(1, 0.3, np.float32))
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(256, size=(8, 8, 8, 1)).astype(np.uint8)
LABELS = RNG.integers(CLASSES, size=8).astype(np.int32)
RATE, WEIGHT_DECAY = 0.1, 0.01
RECIPE = MacroRecipe(weight_decay=WEIGHT_DECAY)


class Join(nnx.Module):
    """ReLU of a concatenation, 1x1 convolution, batch norm; also what enters an operation."""

    def __init__(self, entering: int, channels: int) -> None:
        self.kernel = nnx.Linear(entering, channels, use_bias=False, rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(channels, momentum=0.9, epsilon=1e-5, rngs=nnx.Rngs(0))

    def __call__(self, x: Array, training: bool) -> Array:
        y: Array = self.norm(self.kernel(nnx.relu(x)), use_running_average=not training)
        return y


class Convolution(nnx.Module):
    """A 5x5 convolution, or a depthwise 3x3 and a pointwise one; then batch norm."""

    def __init__(self, size: int, channels: int, groups: int) -> None:
        self.kernel = nnx.Conv(
            channels,
            channels,
            (size, size),
            feature_group_count=groups,
            use_bias=False,
            rngs=nnx.Rngs(0),
        )
        self.pointwise = (
            nnx.Linear(channels, channels, use_bias=False, rngs=nnx.Rngs(0)) if groups > 1 else None
        )
        self.norm = nnx.BatchNorm(channels, momentum=0.9, epsilon=1e-5, rngs=nnx.Rngs(0))

    def __call__(self, x: Array, training: bool) -> Array:
        x = self.kernel(x)
        if self.pointwise is not None:
            x = self.pointwise(x)
        y: Array = self.norm(x, use_running_average=not training)
        return y


class Reduction(nnx.Module):
    """Half of the new channels from the even pixels, the other half from the odd ones."""

    def __init__(self, entering: int, channels: int) -> None:
        self.kernel = nnx.Linear(entering, channels, use_bias=False, rngs=nnx.Rngs(0))
        self.norm = nnx.BatchNorm(channels, momentum=0.9, epsilon=1e-5, rngs=nnx.Rngs(0))

    def __call__(self, x: Array, training: bool) -> Array:
        x = nnx.relu(x)
        even, odd = self.kernel(x[:, ::2, ::2]), self.kernel(x[:, 1::2, 1::2])
        half = even.shape[-1] // 2
        y = jnp.concatenate([even[..., :half], odd[..., half:]], axis=-1)
        normed: Array = self.norm(y, use_running_average=not training)
        return normed


class Network(nnx.Module):
    """The network of VALUES, and nothing else."""

    def __init__(self) -> None:
        c = CHANNELS
        self.stem = nnx.Conv(1, c, (3, 3), use_bias=False, rngs=nnx.Rngs(0))
        self.stem_norm = nnx.BatchNorm(c, momentum=0.9, epsilon=1e-5, rngs=nnx.Rngs(0))
        widths = [c, c, 2 * c, 2 * c]
        self.entries = nnx.List(Join(width, width) for width in widths)
        self.conv5 = Convolution(5, c, 1)
        self.sepconv3 = Convolution(3, c, c)
        # Layer 2 skips from state 1, layer 3 from the states 0 and 2.
        self.joins = nnx.List([Join(c, c), Join(2 * c, c), Join(4 * c, 2 * c), Join(6 * c, 2 * c)])
        self.reductions = nnx.List(Reduction(c, 2 * c) for _ in range(3))
        self.head = nnx.Linear(2 * c, CLASSES, rngs=nnx.Rngs(0))

    def __call__(self, images: Array, training: bool) -> Array:
        def enter(layer: int, x: Array) -> Array:
            return nnx.relu(self.entries[layer](x, training))

        def join(layer: int, *sources: Array) -> Array:
            return self.joins[layer](jnp.concatenate(sources, axis=-1), training)

        s0 = self.stem_norm(self.stem(images), use_running_average=not training)
        s1 = join(0, self.conv5(enter(0, s0), training))
        s2 = join(1, self.sepconv3(enter(1, s1), training), s0)
        s0, s1, s2 = (r(s, training) for r, s in zip(self.reductions, (s0, s1, s2), strict=True))
        s3 = join(2, pooled(nnx.max_pool, enter(2, s2)), s1)
        s4 = join(3, pooled(nnx.avg_pool, enter(3, s3), count_include_pad=False), s0, s2)
        logits: Array = self.head(nnx.relu(s4).mean((1, 2)))
        return logits


def pooled(pool: Callable[..., Array], x: Array, **options: bool) -> Array:
    return pool(x, (3, 3), padding="SAME", **options)


def copy_norm(norm: nnx.BatchNorm, values: np.ndarray, moments: np.ndarray) -> None:
    assert norm.scale is not None and norm.bias is not None
    norm.scale[...], norm.bias[...] = jnp.asarray(values[0]), jnp.asarray(values[1])
    norm.mean[...], norm.var[...] = jnp.asarray(moments[0]), jnp.asarray(moments[1])


def flax_network(dumped: Mapping[str, np.ndarray]) -> Network:
    """The network with the tensors of a checkpoint."""
    network, c = Network(), CHANNELS
    weights = {k.removeprefix("network/"): v for k, v in dumped.items()}
    network.stem.kernel[...] = jnp.asarray(weights["stem/kernel"].reshape(3, 3, 1, c))
    copy_norm(network.stem_norm, weights["stem/norm"], weights["moments/stem"])
    for state, reduction in enumerate(network.reductions):
        packed = weights[f"stage_1/from_{state}"]
        reduction.kernel.kernel[...] = jnp.asarray(packed[: 2 * c * c].reshape(c, 2 * c))
        moments = weights["moments/stage_1/reductions"][state]
        copy_norm(reduction.norm, packed[2 * c * c :].reshape(2, 2 * c), moments)
    skips = [[], [0], [1], [0, 2]]
    for layer, name in enumerate(("conv5", "sepconv3", "maxpool3", "avgpool3")):
        stage, place = divmod(layer, 2)
        moments = weights[f"moments/stage_{stage}/layers"][place]
        packed, width = weights[f"layer_{layer}/{name}"], c << stage
        enter, rest = network.entries[layer], packed[width * width + 2 * width :]
        enter.kernel.kernel[...] = jnp.asarray(packed[: width * width].reshape(width, width))
        norm = packed[width * width :][: 2 * width].reshape(2, width)
        copy_norm(enter.norm, norm, moments[0])
        if layer == 0:
            network.conv5.kernel.kernel[...] = jnp.asarray(rest[: -2 * c].reshape(5, 5, c, c))
            copy_norm(network.conv5.norm, rest[-2 * c :].reshape(2, c), moments[1])
        if layer == 1:
            separable = network.sepconv3
            separable.kernel.kernel[...] = jnp.asarray(rest[: 9 * c].reshape(3, 3, 1, c))
            assert separable.pointwise is not None
            separable.pointwise.kernel[...] = jnp.asarray(rest[9 * c : -2 * c].reshape(c, c))
            copy_norm(separable.norm, rest[-2 * c :].reshape(2, c), moments[1])
        matrices = [weights[f"stage_{stage}/own"][place]]
        matrices += [weights[f"layer_{layer}/skip/from_{state}"] for state in skips[layer]]
        network.joins[layer].kernel.kernel[...] = jnp.concatenate(matrices)
        copy_norm(network.joins[layer].norm, weights[f"stage_{stage}/norms"][place], moments[2])
    assert network.head.bias is not None
    network.head.kernel[...] = jnp.asarray(weights["head/kernel"])
    network.head.bias[...] = jnp.asarray(weights["head/bias"])
    return network


def make_network(recipe: MacroRecipe = RECIPE) -> FinalMacroNetwork:
    space = MacroSpace(MacroShape.of(INPUTS, 4, CHANNELS, 2))
    network = FinalMacroNetwork(INPUTS, space, MacroArchitecture.of(VALUES), recipe)
    network.reset(0)
    return network


def train(network: FinalMacroNetwork, steps: int, steps_per_call: int = 1) -> np.ndarray:
    """Trains on all images again and again; losses and accuracies `[steps, 2]`."""
    data = Data(on_devices(IMAGES), LABELS, CLASSES, INPUTS.mean, INPUTS.deviation)
    network._calls.steps = steps_per_call
    batches = itertools.repeat(np.arange(8, dtype=np.int32))
    rates = [RATE / (1 + step) for step in range(steps)]
    return np.concatenate(list(network.train(data, batches, rates, seed=0)))


@pytest.fixture(scope="module")
def trained() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], float, FinalMacroNetwork]:
    """A network before and after a step, the loss of the step, and the network."""
    network = make_network()
    before = network.dump()
    (loss, _) = train(network, 1)[0]
    return before, network.dump(), float(loss), network


def batch() -> Array:
    return normalised(jnp.asarray(IMAGES), jnp.asarray(INPUTS.mean), jnp.asarray(INPUTS.deviation))


def test_a_step_is_that_of_the_flax_network(
    trained: tuple[dict[str, np.ndarray], dict[str, np.ndarray], float, FinalMacroNetwork],
) -> None:
    before, after, loss, _ = trained
    network = flax_network(before)

    def loss_of(network: Network) -> Array:
        return cross_entropy(network(batch(), True), jnp.asarray(LABELS))

    expected, grads = nnx.jit(nnx.value_and_grad(loss_of))(network)
    assert loss == pytest.approx(float(expected), rel=1e-5)
    # The first step with Nesterov's momentum: 1.9 times the gradient with weight decay.
    stepped = jax.tree.map(
        lambda value, grad: value - RATE * 1.9 * (grad + WEIGHT_DECAY * value),
        nnx.state(network, nnx.Param),
        grads,
    )
    nnx.update(network, stepped)
    found, expected_state = nnx.state(flax_network(after)), nnx.state(network)
    for (path, value), (_, other) in zip(
        nnx.to_flat_state(found), nnx.to_flat_state(expected_state), strict=True
    ):
        np.testing.assert_allclose(value[...], other[...], rtol=1e-3, atol=2e-4, err_msg=str(path))


def test_class_scores_are_those_of_the_flax_network_with_running_statistics(
    trained: tuple[dict[str, np.ndarray], dict[str, np.ndarray], float, FinalMacroNetwork],
) -> None:
    _, after, _, network = trained
    found = network.logits(jnp.asarray(IMAGES), np.arange(8, dtype=np.int32))
    expected = flax_network(after)(batch(), False)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_second_architecture_needs_no_compilation(
    trained: tuple[dict[str, np.ndarray], dict[str, np.ndarray], float, FinalMacroNetwork],
) -> None:
    first = trained[3]
    values = ["sepconv5", "conv3", 0, "conv5", 1, 1, "sepconv3", 0, 0, 0]
    other = FinalMacroNetwork(INPUTS, first.space, MacroArchitecture.of(values), RECIPE)
    sizes = first._programs.train._cache_size()  # type: ignore[attr-defined]
    train(other, 5)
    assert other._programs.train._cache_size() == sizes == 1  # type: ignore[attr-defined]


def test_weights_do_not_depend_on_how_many_minibatches_a_call_takes() -> None:
    recipe = MacroRecipe(weight_decay=WEIGHT_DECAY, shift=1, flip=True)
    dumps, reports = [], []
    for steps_per_call in (1, 5):
        network = make_network(recipe)
        reports.append(train(network, 5, steps_per_call))
        dumps.append(network.dump())
    np.testing.assert_array_equal(reports[0], reports[1])
    assert all(dumps[0][path].tobytes() == dumps[1][path].tobytes() for path in dumps[0])


def test_images_are_moved_and_mirrored_in_training() -> None:
    losses = [
        train(make_network(MacroRecipe(weight_decay=0.0, shift=shift, flip=flip)), 1)[0, 0]
        for shift, flip in ((0, False), (1, False), (0, True))
    ]
    assert len(set(losses)) == 3


def test_a_loaded_network_dumps_what_it_loaded(
    trained: tuple[dict[str, np.ndarray], dict[str, np.ndarray], float, FinalMacroNetwork],
) -> None:
    after = trained[1]
    other = make_network()
    other.load(after)
    again = other.dump()
    assert after.keys() == again.keys()
    assert all(after[path].tobytes() == again[path].tobytes() for path in after)


def test_a_checkpoint_holds_what_the_architecture_uses_and_no_more(
    trained: tuple[dict[str, np.ndarray], dict[str, np.ndarray], float, FinalMacroNetwork],
) -> None:
    layers = sorted(path for path in trained[1] if path.startswith("network/layer_"))
    assert layers == [
        "network/layer_0/conv5",
        "network/layer_1/sepconv3",
        "network/layer_1/skip/from_0",
        "network/layer_2/maxpool3",
        "network/layer_2/skip/from_1",
        "network/layer_3/avgpool3",
        "network/layer_3/skip/from_0",
        "network/layer_3/skip/from_2",
    ]
