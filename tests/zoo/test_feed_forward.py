import inspect
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rafiki.model import Policy, load_images
from rafiki.model.knobs import check_knob_config, offered_policies
from rafiki.zoo import feed_forward
from rafiki.zoo.feed_forward import FeedForward

Digits = tuple[str, str]


def make_model(
    *, epochs: int = 4, hidden_units: int = 32, share_params: bool = False, early_stop: bool = False
) -> FeedForward:
    return FeedForward(
        epochs=epochs,
        hidden_layers=1,
        hidden_units=hidden_units,
        learning_rate=0.01,
        batch_size=32,
        share_params=share_params,
        early_stop=early_stop,
    )


@pytest.fixture(scope="module")
def trained(digits: Digits) -> FeedForward:
    model = make_model()
    model.train(digits[0])
    return model


def test_the_knob_config_is_valid() -> None:
    config = FeedForward.get_knob_config()
    check_knob_config(config)
    assert offered_policies(config) == {Policy.SHARE_PARAMS, Policy.EARLY_STOP}
    assert config.keys() == set(inspect.signature(FeedForward).parameters)


def test_the_template_is_short() -> None:
    assert len(inspect.getsource(feed_forward).splitlines()) < 220


def test_it_learns_the_digits(trained: FeedForward, digits: Digits) -> None:
    assert trained.evaluate(digits[1]) > 0.85


def test_a_loaded_model_predicts_bit_for_bit_the_same(trained: FeedForward, digits: Digits) -> None:
    other = make_model()
    other.load_parameters(trained.dump_parameters())
    queries = load_images(digits[1]).images[:300].tolist()
    assert other.predict(queries) == trained.predict(queries)


def test_predictions_are_class_probabilities(trained: FeedForward, digits: Digits) -> None:
    predictions = np.array(trained.predict(load_images(digits[1]).images[:3].tolist()))
    np.testing.assert_allclose(predictions.sum(1), 1.0, rtol=1e-5)


def test_shared_parameters_are_a_start(trained: FeedForward, digits: Digits) -> None:
    model = make_model(share_params=True, epochs=1)
    model.train(digits[0], trained.dump_parameters())
    assert model.evaluate(digits[1]) > trained.evaluate(digits[1]) - 0.03


def test_without_the_policy_shared_parameters_are_left_alone(
    trained: FeedForward, digits: Digits
) -> None:
    one, two = make_model(epochs=1), make_model(epochs=1)
    one.train(digits[0], trained.dump_parameters())
    two.train(digits[0])
    assert one.predict([[[0] * 8] * 8]) == two.predict([[[0] * 8] * 8])


def test_shared_parameters_of_another_width_are_skipped(
    trained: FeedForward, digits: Digits
) -> None:
    model = make_model(hidden_units=16, share_params=True, epochs=1)
    model.train(digits[0], trained.dump_parameters())
    assert model.dump_parameters()["layers/0/kernel"].shape == (64, 16)


def test_parameters_of_another_width_cannot_be_loaded(trained: FeedForward) -> None:
    with pytest.raises(ValueError, match="layers/0/"):
        make_model(hidden_units=16).load_parameters(trained.dump_parameters())


def test_early_stop_trains_a_quarter_of_the_epochs(digits: Digits) -> None:
    stopped, short = make_model(epochs=4, early_stop=True), make_model(epochs=1)
    stopped.train(digits[0])
    short.train(digits[0])
    assert stopped.predict([[[9] * 8] * 8]) == short.predict([[[9] * 8] * 8])


PROGRAM = """
import sys
import jax, numpy as np
from tests.zoo.test_feed_forward import make_model
from rafiki.zoo import feed_forward

# The compiled step and the shares of a minibatch, as the training calls it.
seen = {}
step = feed_forward.train_step
def spied(network, optimizer, pixels, labels, batch):
    if not seen:
        seen["batches"] = [share.data.shape[0] for share in batch.addressable_shards]
        text = step.lower(network, optimizer, pixels, labels, batch).compile().as_text()
        seen["all_reduce"] = "all-reduce" in text
        seen["donated"] = "input_output_alias" in text
    return step(network, optimizer, pixels, labels, batch)
feed_forward.train_step = spied

model = make_model(epochs=1)
model.train(sys.argv[1])
np.savez(sys.argv[2], score=model.evaluate(sys.argv[1]), **model.dump_parameters())
seen["compilations"] = step.jitted_fn._cache_size()
print(len(jax.devices()), *seen.values())
"""


@pytest.mark.slow
def test_four_devices_share_the_minibatch_and_train_the_network_of_one(
    digits: Digits, tmp_path: Path
) -> None:
    told = {}
    for devices in (1, 4):
        flags = f"--xla_force_host_platform_device_count={devices}"
        told[devices] = subprocess.run(
            [sys.executable, "-c", PROGRAM, digits[0], str(tmp_path / f"{devices}.npz")],
            env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    assert told[1] == "1 [32] False True 1\n"
    assert told[4] == "4 [8, 8, 8, 8] True True 1\n"
    with np.load(tmp_path / "1.npz") as one, np.load(tmp_path / "4.npz") as four:
        for name in one:
            np.testing.assert_allclose(one[name], four[name], rtol=0, atol=1e-5, err_msg=name)
