"""The template of the macro space as the worker drives it, on a part of the digits."""

from typing import cast

import numpy as np
import pytest

from rafiki.model import Candidate, FixedKnob, PolicyKnob, load_images
from rafiki.model.knobs import arch_values
from rafiki.supernet import ImageSupernet
from rafiki.supernet.macro import network_knob
from rafiki.zoo.enas_macro import EnasMacro

pytestmark = pytest.mark.slow

Digits = tuple[str, str]
CONFIG = EnasMacro.get_knob_config()
FIXED = {name: knob.value for name, knob in CONFIG.items() if isinstance(knob, FixedKnob)}
TINY = {**FIXED, "batch_size": 8, "downscaled_channels": 2, "evaluation_batch_size": 8}
SEARCH = ("SHARE_PARAMS", "DOWNSCALE")
# Fewer layers than the knob of the template, which takes as many as it is given.
KNOB = network_knob(4)
LIGHT: Candidate = {"network": ["conv3", "sepconv3", 1, "maxpool3", 0, 1, "conv3", 1, 0, 1]}


def random_candidates(count: int, seed: int) -> list[Candidate]:
    rng = np.random.default_rng(seed)
    return [
        {"network": arch_values(KNOB, [int(rng.integers(len(item))) for item in KNOB.items])}
        for _ in range(count)
    ]


CANDIDATES = random_candidates(6, seed=0)


def make_model(candidate: Candidate, *policies: str, **knobs: object) -> EnasMacro:
    switches = {
        name: knob.policy.value in policies
        for name, knob in CONFIG.items()
        if isinstance(knob, PolicyKnob)
    }
    return EnasMacro(**{**TINY, **candidate, **switches, **knobs})


class Trained:
    """A supernet that saw 30 minibatches, and its tensors."""

    def __init__(self, train: str) -> None:
        self.model = make_model(CANDIDATES[0], *SEARCH)
        self.report = self.model.train_candidates(
            train,
            random_candidates(30, seed=1),
            shared_params=None,
            shard=(0, 1),
            data_seed=3,
            round=1,
        )
        self.params = self.model.dump_parameters()


@pytest.fixture(scope="module")
def trained(digits: Digits) -> Trained:
    return Trained(digits[0])


@pytest.fixture(scope="module")
def final(digits: Digits) -> EnasMacro:
    model = make_model(LIGHT, channels=8, batch_size=32, epochs=12)
    model.train(digits[0])
    return model


def test_the_updates_name_dumped_tensors_and_nothing_else_changed(
    trained: Trained, digits: Digits
) -> None:
    model = make_model(CANDIDATES[0], *SEARCH)
    report = model.train_candidates(
        digits[0],
        CANDIDATES[:2],
        shared_params=trained.params,
        shard=(1, 2),
        data_seed=4,
        round=2,
    )
    after, updates = model.dump_parameters(), cast("dict[str, int]", report["updates"])
    assert report["steps_per_epoch"] == 600 // 8
    assert updates.keys() <= after.keys()
    for path in after.keys() - updates.keys():
        assert after[path].tobytes() == trained.params[path].tobytes(), path
    assert updates["optimizer/steps"] == 2
    assert after["optimizer/steps"] == 32


def test_quick_evaluation_takes_one_minibatch_of_the_seed(trained: Trained, digits: Digits) -> None:
    model = make_model(CANDIDATES[0], *SEARCH, "QUICK_EVAL", "SKIP_TRAIN")
    model.load_parameters(trained.params)
    scores = [model.evaluate_candidates(digits[1], CANDIDATES, seed=k) for k in (5, 5, 6, 7)]
    assert scores[0] == scores[1]
    assert len({tuple(some) for some in scores}) > 1
    assert all(score * 8 == round(score * 8) for score in scores[0])


def test_a_loaded_supernet_scores_as_the_trained_one(trained: Trained, digits: Digits) -> None:
    other = make_model(CANDIDATES[0], *SEARCH)
    other.load_parameters(trained.params)
    expected = trained.model.evaluate_candidates(digits[1], CANDIDATES, seed=5)
    assert other.evaluate_candidates(digits[1], CANDIDATES, seed=5) == expected


def test_the_search_compiles_each_program_once(trained: Trained, digits: Digits) -> None:
    trained.model.evaluate_candidates(digits[1], random_candidates(10, seed=8), seed=0)
    supernet = trained.model._network
    assert isinstance(supernet, ImageSupernet)
    programs: tuple[object, ...] = supernet._programs
    for program in programs:
        assert program._cache_size() == 1  # type: ignore[attr-defined]


def test_candidates_without_shared_weights_are_refused(digits: Digits) -> None:
    with pytest.raises(ValueError, match="SHARE_PARAMS must be on"):
        make_model(LIGHT).evaluate_candidates(digits[1], [LIGHT], seed=0)


def test_a_network_trained_from_scratch_learns_the_digits(final: EnasMacro, digits: Digits) -> None:
    assert final.evaluate(digits[1]) > 0.85


def test_a_loaded_final_network_predicts_bit_for_bit_the_same(
    final: EnasMacro, digits: Digits
) -> None:
    other = make_model(LIGHT, channels=8, batch_size=32, epochs=12)
    other.load_parameters(final.dump_parameters())
    queries = list(load_images(digits[1]).images[:70])
    assert other.predict(queries) == final.predict(queries)


def test_predictions_are_class_probabilities(final: EnasMacro, digits: Digits) -> None:
    data = load_images(digits[1])
    probabilities = np.array(final.predict(data.images[:100].tolist()))
    assert probabilities.shape == (100, 10)
    np.testing.assert_allclose(probabilities.sum(1), 1.0, rtol=1e-5)
    assert np.mean(probabilities.argmax(1) == data.labels[:100]) > 0.8


def test_final_parameters_are_no_supernet(final: EnasMacro) -> None:
    with pytest.raises(ValueError, match="the parameters lack"):
        make_model(CANDIDATES[0], *SEARCH, channels=8).load_parameters(final.dump_parameters())


def test_images_of_another_size_are_refused(final: EnasMacro) -> None:
    with pytest.raises(ValueError, match=r"\(9, 8, 1\)"):
        final.predict([np.zeros((9, 8), np.uint8)])
