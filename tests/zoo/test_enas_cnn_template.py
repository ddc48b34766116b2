"""The template as the worker drives it, on a part of the digits."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from rafiki.model import Candidate, FixedKnob, PolicyKnob, Scalar, load_images, logger
from rafiki.model.knobs import arch_knobs, arch_values
from rafiki.supernet import ImageSupernet, load_data, minibatches
from rafiki.supernet.cells import Architecture
from rafiki.zoo.enas_cnn import EnasCnn

pytestmark = pytest.mark.slow

Digits = tuple[str, str]
CONFIG = EnasCnn.get_knob_config()
FIXED = {name: knob.value for name, knob in CONFIG.items() if isinstance(knob, FixedKnob)}
TINY = {
    **FIXED,
    "batch_size": 8,
    "cells": 1,
    "channels": 2,
    "evaluation_batch_size": 8,
    "search_weight_decay": 0.01,
}
SEARCH = ("SHARE_PARAMS", "DOWNSCALE")


def random_candidates(count: int, seed: int) -> list[Candidate]:
    rng = np.random.default_rng(seed)
    return [
        {
            name: arch_values(knob, [int(rng.integers(len(item))) for item in knob.items])
            for name, knob in arch_knobs(CONFIG).items()
        }
        for _ in range(count)
    ]


def make_model(candidate: Candidate, *policies: str, **knobs: object) -> EnasCnn:
    switches = {
        name: knob.policy.value in policies
        for name, knob in CONFIG.items()
        if isinstance(knob, PolicyKnob)
    }
    return EnasCnn(**{**TINY, **candidate, **switches, **knobs})


CANDIDATES = random_candidates(6, seed=0)
# One with few weights, which learns soon.
NORMAL: list[Scalar] = [0, 1, "sepconv3", "maxpool3"]
REDUCTION: list[Scalar] = [0, 1, "sepconv3", "identity"]
for _ in range(4):
    NORMAL += [0, 2, "identity", "avgpool3"]
    REDUCTION += [0, 2, "identity", "maxpool3"]
LIGHT: Candidate = {"normal_cell": NORMAL, "reduction_cell": REDUCTION}

# Loads a checkpoint, scores candidates as the phases of a search do, and trains on.
FRESH_PROCESS = """
import collections, json, sys
import jax
import numpy as np
from rafiki.zoo.enas_cnn import EnasCnn

task = json.load(sys.stdin)
compiled = collections.Counter()

def count(event, seconds, *, fun_name="", **_):
    if event.endswith("backend_compile_duration"):
        compiled[fun_name.removeprefix("jit(").removesuffix(")")] += 1

jax.monitoring.register_event_duration_secs_listener(count)
params = dict(np.load(task["params"]))
candidates = task["candidates"]
quick, whole, train = (EnasCnn(**arguments) for arguments in task["arguments"])
quick.load_parameters(params)
whole.load_parameters(params)
scores = {
    "quick": quick.evaluate_candidates(task["validation"], candidates, seed=5),
    "whole": whole.evaluate_candidates(task["validation"], candidates, seed=5),
}
for number, some in enumerate((candidates[:2], candidates)):
    train.train_candidates(
        task["train"], some, shared_params=params, shard=(0, 1), data_seed=number, round=number + 1
    )
scores["trained"] = train.evaluate_candidates(task["validation"], candidates, seed=5)
print(json.dumps({"scores": scores, "compiled": compiled}))
"""


class Trained:
    """A supernet that saw 30 minibatches, what it reported, and its tensors."""

    def __init__(self, train: str) -> None:
        self.model = make_model(CANDIDATES[0], *SEARCH)
        self.candidates = random_candidates(30, seed=1)
        self.report = self.model.train_candidates(
            train, self.candidates, shared_params=None, shard=(0, 1), data_seed=3, round=1
        )
        self.params = self.model.dump_parameters()


@pytest.fixture(scope="module")
def trained(digits: Digits) -> Trained:
    return Trained(digits[0])


@pytest.fixture(scope="module")
def fresh(
    trained: Trained, digits: Digits, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, object]]:
    """The scores and the compilations by program of another process with the same weights."""
    path: Path = tmp_path_factory.mktemp("fresh") / "params.npz"
    np.savez(path, **{name: value for name, value in trained.params.items()})  # type: ignore[arg-type]
    models = [
        make_model(CANDIDATES[0], *SEARCH, "SKIP_TRAIN", "QUICK_EVAL"),
        make_model(CANDIDATES[0], *SEARCH, "SKIP_TRAIN"),
        make_model(CANDIDATES[0], *SEARCH, "EARLY_STOP"),
    ]
    task = {
        "params": str(path),
        "candidates": CANDIDATES,
        "arguments": [vars(model._knobs) for model in models],
        "train": digits[0],
        "validation": digits[1],
    }
    done = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS],
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        timeout=300,
    )
    return cast("dict[str, dict[str, object]]", json.loads(done.stdout))


@pytest.fixture
def asked_to_stop() -> Iterator[list[float]]:
    """A logger that asks to stop at its second report; the fractions reported."""
    fractions: list[float] = []

    class Sink:
        def log(self, message: str, level: str) -> None: ...
        def metrics(self, values: object, step: object, score: object) -> None: ...
        def plot(self, title: str, metrics: list[str], x_axis: str) -> None: ...
        def progress(self, fraction: float, remaining_s: float | None) -> bool:
            fractions.append(fraction)
            return len(fractions) == 2

    logger.connect(Sink())
    yield fractions
    logger.connect(None)


def train_on(train: str, candidates: list[Candidate], params: object, seed: int = 4) -> EnasCnn:
    model = make_model(CANDIDATES[0], *SEARCH)
    model.train_candidates(
        train,
        candidates,
        shared_params=cast("dict[str, np.ndarray]", params),
        shard=(0, 1),
        data_seed=seed,
        round=2,
    )
    return model


def test_the_steps_of_an_epoch_are_those_of_the_whole_data_set(trained: Trained) -> None:
    assert trained.report["steps_per_epoch"] == 600 // 8


def test_the_updates_name_dumped_tensors_and_nothing_else_changed(
    trained: Trained, digits: Digits
) -> None:
    model = make_model(CANDIDATES[0], *SEARCH)
    report = model.train_candidates(
        digits[0], CANDIDATES, shared_params=trained.params, shard=(1, 2), data_seed=4, round=2
    )
    after, updates = model.dump_parameters(), cast("dict[str, int]", report["updates"])
    assert updates.keys() <= after.keys()
    for path in after.keys() - updates.keys():
        assert after[path].tobytes() == trained.params[path].tobytes(), path
    assert updates["optimizer/steps"] == 6
    assert after["optimizer/steps"] == 36


def test_minibatch_k_trains_candidate_k(trained: Trained, digits: Digits) -> None:
    model = train_on(digits[0], CANDIDATES[:3], trained.params)
    other = make_model(CANDIDATES[0], *SEARCH)
    other.load_parameters(trained.params)
    supernet = cast("ImageSupernet[Architecture]", other._network)
    data, batches = load_data(digits[0]), minibatches(600, 8, seed=4)
    for step, values in enumerate(CANDIDATES[:3]):
        arch = Architecture.of(values["normal_cell"], values["reduction_cell"])
        rate = model._search_rates(1, 2, 3)[step]
        supernet.train(data, batches, [arch], [rate], lambda share: False)
    expected = supernet.dump()
    dumped = model.dump_parameters()
    assert all(dumped[path].tobytes() == value.tobytes() for path, value in expected.items())


def test_other_candidates_give_other_weights(trained: Trained, digits: Digits) -> None:
    one = train_on(digits[0], CANDIDATES[:2], trained.params).dump_parameters()
    two = train_on(digits[0], [CANDIDATES[0], CANDIDATES[2]], trained.params).dump_parameters()
    assert any(one[path].tobytes() != two[path].tobytes() for path in one)


def test_shards_that_begin_fresh_begin_with_the_same_weights(digits: Digits) -> None:
    shards = []
    for index in range(2):
        model = make_model(CANDIDATES[0], *SEARCH)
        model.seed = index
        model.train_candidates(
            digits[0], [], shared_params=None, shard=(index, 2), data_seed=8, round=1
        )
        shards.append(model.dump_parameters())
    assert all(shards[1][path].tobytes() == value.tobytes() for path, value in shards[0].items())


def test_a_stopped_training_reports_what_it_did(
    trained: Trained, digits: Digits, asked_to_stop: list[float]
) -> None:
    model = make_model(CANDIDATES[0], *SEARCH)
    report = model.train_candidates(
        digits[0],
        random_candidates(20, seed=5),
        shared_params=trained.params,
        shard=(0, 1),
        data_seed=0,
        round=1,
    )
    assert len(asked_to_stop) == 2
    assert asked_to_stop[-1] < 1.0
    steps = cast("dict[str, int]", report["updates"])["optimizer/steps"]
    assert steps == round(20 * asked_to_stop[-1])


def test_quick_evaluation_takes_one_minibatch_of_the_seed(trained: Trained, digits: Digits) -> None:
    model = make_model(CANDIDATES[0], *SEARCH, "QUICK_EVAL")
    model.load_parameters(trained.params)
    scores = [model.evaluate_candidates(digits[1], CANDIDATES, seed=k) for k in (5, 5, 6, 7)]
    assert scores[0] == scores[1]
    assert len({tuple(some) for some in scores}) > 1
    assert all(score * 8 == round(score * 8) for score in scores[0])


def test_other_weights_give_other_scores(trained: Trained, digits: Digits) -> None:
    model = make_model(CANDIDATES[0], *SEARCH)
    model.load_parameters(trained.params)
    before = model.evaluate_candidates(digits[1], CANDIDATES, seed=5)
    changed = {**trained.params, "head/kernel": -trained.params["head/kernel"]}
    model.load_parameters(changed)
    assert model.evaluate_candidates(digits[1], CANDIDATES, seed=5) != before


def test_a_diverged_network_gives_no_score(trained: Trained, digits: Digits) -> None:
    model = make_model(CANDIDATES[0], *SEARCH)
    model.load_parameters({**trained.params, "head/bias": np.full(10, np.nan, np.float32)})
    assert np.isnan(model.evaluate_candidates(digits[1], CANDIDATES[:1], seed=5)).all()


def test_candidates_without_shared_weights_are_refused(digits: Digits) -> None:
    with pytest.raises(ValueError, match="SHARE_PARAMS must be on"):
        make_model(LIGHT).evaluate_candidates(digits[1], [LIGHT], seed=0)


def test_a_fresh_process_scores_bit_for_bit_the_same(
    trained: Trained, digits: Digits, fresh: dict[str, dict[str, object]]
) -> None:
    quick = make_model(CANDIDATES[0], *SEARCH, "QUICK_EVAL")
    quick.load_parameters(trained.params)
    scores = fresh["scores"]
    assert scores["quick"] == quick.evaluate_candidates(digits[1], CANDIDATES, seed=5)
    # The trained instance itself, which never loaded anything.
    assert scores["whole"] == trained.model.evaluate_candidates(digits[1], CANDIDATES, seed=5)


def test_a_fresh_process_trains_to_bit_for_bit_the_same_scores(
    trained: Trained, digits: Digits, fresh: dict[str, dict[str, object]]
) -> None:
    model = train_on(digits[0], CANDIDATES, trained.params, seed=1)
    assert fresh["scores"]["trained"] == model.evaluate_candidates(digits[1], CANDIDATES, seed=5)


def test_each_search_program_is_compiled_once(fresh: dict[str, dict[str, object]]) -> None:
    compiled = fresh["compiled"]
    assert compiled["search_train_steps"] == 1
    assert compiled["search_evaluate"] == 1


def test_weights_can_be_loaded_without_the_state_of_the_training(
    trained: Trained, digits: Digits
) -> None:
    weights = {k: v for k, v in trained.params.items() if not k.startswith("optimizer/")}
    model = make_model(CANDIDATES[0], *SEARCH)
    model.load_parameters(weights)
    expected = trained.model.evaluate_candidates(digits[1], CANDIDATES, seed=5)
    assert model.evaluate_candidates(digits[1], CANDIDATES, seed=5) == expected


def test_images_of_another_size_are_refused(trained: Trained) -> None:
    model = make_model(CANDIDATES[0], *SEARCH)
    model.load_parameters(trained.params)
    with pytest.raises(ValueError, match=r"\(9, 8, 1\)"):
        model.predict([np.zeros((9, 8), np.uint8)])


@pytest.fixture(scope="module")
def final(digits: Digits) -> EnasCnn:
    model = make_model(LIGHT, channels=8, batch_size=32, epochs=8)
    model.train(digits[0])
    return model


def test_a_network_trained_from_scratch_learns_the_digits(final: EnasCnn, digits: Digits) -> None:
    assert final.evaluate(digits[1]) > 0.85


def test_a_loaded_final_network_is_bit_for_bit_the_same(final: EnasCnn, digits: Digits) -> None:
    other = make_model(LIGHT, channels=8, batch_size=32, epochs=8)
    other.load_parameters(final.dump_parameters())
    queries = list(load_images(digits[1]).images[:70])
    assert other.predict(queries) == final.predict(queries)
    dumped = other.dump_parameters()
    assert all(
        dumped[path].tobytes() == value.tobytes() for path, value in final.dump_parameters().items()
    )


def test_predictions_are_class_probabilities(final: EnasCnn, digits: Digits) -> None:
    data = load_images(digits[1])
    probabilities = np.array(final.predict(data.images[:100].tolist()))
    assert probabilities.shape == (100, 10)
    np.testing.assert_allclose(probabilities.sum(1), 1.0, rtol=1e-5)
    assert np.mean(probabilities.argmax(1) == data.labels[:100]) > 0.8


def test_a_final_prediction_does_not_depend_on_its_neighbours(
    final: EnasCnn, digits: Digits
) -> None:
    images = load_images(digits[1]).images
    alone, among = final.predict([images[0]]), final.predict(list(images[:10]))
    assert alone[0] == among[0]


def test_early_stop_trains_fewer_epochs(digits: Digits, asked_to_stop: list[float]) -> None:
    knobs = {"channels": 8, "batch_size": 32, "epochs": 8, "early_stop_epochs": 2}
    # So is an architecture trained briefly, to see how well shared weights rank it.
    model = make_model(LIGHT, "EARLY_STOP", "DOWNSCALE", **knobs)
    model.train(digits[0])
    # Of two epochs of 18 minibatches, one at first; it is stopped after the second report.
    assert asked_to_stop[0] == 1 / 36
    assert asked_to_stop[1] in (2 / 36, 3 / 36)
    assert len(asked_to_stop) == 2


def test_final_parameters_are_no_supernet(final: EnasCnn) -> None:
    model = make_model(CANDIDATES[0], *SEARCH)
    with pytest.raises(ValueError, match="lack stem/kernel"):
        model.load_parameters(final.dump_parameters())
