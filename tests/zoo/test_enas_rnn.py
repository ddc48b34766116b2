"""The language model template as the worker drives it, on made-up sentences."""

import math
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, cast

import numpy as np
import pytest

from rafiki.model import Candidate, FixedKnob, Policy, PolicyKnob, load_text, logger
from rafiki.model.bench import run_bench
from rafiki.model.knobs import arch_knobs, arch_values, check_knob_config, offered_policies
from rafiki.model.tasks import TASKS
from rafiki.supernet.recurrent import language_programs
from rafiki.zoo import enas_rnn
from rafiki.zoo.enas_rnn import EnasRnn

CONFIG = EnasRnn.get_knob_config()
FIXED = {name: knob.value for name, knob in CONFIG.items() if isinstance(knob, FixedKnob)}
TINY = {
    **FIXED,
    "batch_size": 4,
    "downscaled_hidden": 8,
    "epochs": 12,
    "evaluation_batch_size": 4,
    "hidden": 16,
    "steps": 8,
}
SEARCH = ("SHARE_PARAMS", "DOWNSCALE")
Texts = tuple[str, str]


class Cached(Protocol):
    """A program that counts what it was compiled for."""

    def _cache_size(self) -> int: ...


def random_candidates(count: int, seed: int) -> list[Candidate]:
    rng = np.random.default_rng(seed)
    return [
        {
            name: arch_values(knob, [int(rng.integers(len(item))) for item in knob.items])
            for name, knob in arch_knobs(CONFIG).items()
        }
        for _ in range(count)
    ]


CANDIDATES = random_candidates(6, seed=0)


def make_model(*policies: str, candidate: Candidate = CANDIDATES[0], **knobs: object) -> EnasRnn:
    switches = {
        name: knob.policy.value in policies
        for name, knob in CONFIG.items()
        if isinstance(knob, PolicyKnob)
    }
    return EnasRnn(**{**TINY, **candidate, **switches, **knobs})


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    """The paths of 200 training and 60 validation sentences."""
    folder: Path = tmp_path_factory.mktemp("texts")
    paths = folder / "train.txt", folder / "validation.txt"
    for path, count, seed in zip(paths, (200, 60), (1, 2), strict=True):
        TASKS["LANGUAGE_MODELLING"].write_sample(path, count, seed)
    return str(paths[0]), str(paths[1])


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    class Sink:
        def log(self, message: str, level: str) -> None: ...
        def metrics(self, values: object, step: object, score: object) -> None: ...
        def plot(self, title: str, metrics: list[str], x_axis: str) -> None: ...
        def progress(self, fraction: float, remaining_s: float | None) -> bool:
            return False

    logger.connect(Sink())
    yield
    logger.connect(None)


def train_on(
    model: EnasRnn,
    texts: Texts,
    candidates: list[Candidate],
    params: dict[str, np.ndarray] | None = None,
    shard: tuple[int, int] = (0, 1),
) -> dict[str, object]:
    return model.train_candidates(
        texts[0], candidates, shared_params=params, shard=shard, data_seed=3, round=1
    )


@pytest.fixture(scope="module")
def searched(texts: Texts) -> tuple[EnasRnn, dict[str, object], list[Candidate]]:
    """A model with shared weights that saw 100 minibatches, what it told, its cells."""
    model, candidates = make_model(*SEARCH), random_candidates(100, seed=1)
    return model, train_on(model, texts, candidates), candidates


@pytest.fixture(scope="module")
def final(texts: Texts) -> EnasRnn:
    model = make_model()
    model.train(texts[0])
    return model


def unigram_perplexity(texts: Texts) -> float:
    """Of the validation text by the frequencies of the training text."""
    train, validation = (load_text(path) for path in texts)
    counts = Counter(train)
    surprises = [-math.log(counts[word] / len(train)) for word in validation]
    return math.exp(sum(surprises) / len(surprises))


def test_the_knob_config_is_valid_and_offers_every_policy() -> None:
    check_knob_config(CONFIG)
    assert offered_policies(CONFIG) == frozenset(Policy)


@pytest.mark.parametrize("name", CONFIG)
def test_every_knob_is_documented(name: str) -> None:
    assert re.search(rf"\b{name}\b", EnasRnn.__doc__ or "")


def test_the_score_is_80_over_perplexity_and_none_if_the_weights_diverged() -> None:
    assert enas_rnn.score(math.log(80.0)) == pytest.approx(1.0)
    assert math.isnan(enas_rnn.score(math.nan))
    assert math.isnan(enas_rnn.score(math.inf))


def test_candidates_without_shared_weights_are_refused(texts: Texts) -> None:
    with pytest.raises(ValueError, match="SHARE_PARAMS must be on"):
        make_model().evaluate_candidates(texts[1], CANDIDATES, seed=0)


@pytest.mark.slow
def test_the_template_passes_the_bench() -> None:
    report = run_bench(enas_rnn.__file__)
    assert [step for step in report.steps if not step.ok] == []


@pytest.mark.slow
def test_a_cell_trained_from_scratch_learns_the_grammar(final: EnasRnn, texts: Texts) -> None:
    perplexity = 80 / final.evaluate(texts[1])
    assert perplexity < unigram_perplexity(texts) / 3


@pytest.mark.slow
def test_shared_weights_learn_more_than_frequencies(
    searched: tuple[EnasRnn, dict[str, object], list[Candidate]], texts: Texts
) -> None:
    scores = searched[0].evaluate_candidates(texts[1], CANDIDATES, seed=0)
    assert 80 / max(scores) < unigram_perplexity(texts)


@pytest.mark.slow
def test_predictions_are_likely_next_words_best_first(final: EnasRnn) -> None:
    (after_dog, anywhere) = cast(
        "list[list[list[object]]]", final.predict(["the old dog follows the", ""])
    )
    assert {word for word, _ in after_dog[:2]} == {"man", "child"}
    assert anywhere[0][0] == "the"
    probabilities = [cast(float, probability) for _, probability in after_dog]
    assert len(probabilities) == 5
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0.8 < sum(probabilities) <= 1.0001


@pytest.mark.slow
def test_a_loaded_final_model_is_bit_for_bit_the_same(final: EnasRnn, texts: Texts) -> None:
    other = make_model()
    other.load_parameters(final.dump_parameters())
    assert other.evaluate(texts[1]) == final.evaluate(texts[1])
    dumped = other.dump_parameters()
    for path, value in final.dump_parameters().items():
        assert dumped[path].tobytes() == value.tobytes()


@pytest.mark.slow
def test_the_updates_name_dumped_tensors_and_nothing_else_changed(
    searched: tuple[EnasRnn, dict[str, object], list[Candidate]], texts: Texts
) -> None:
    before = searched[0].dump_parameters()
    model = make_model(*SEARCH)
    report = train_on(model, texts, CANDIDATES[:3], before, shard=(1, 2))
    after, updates = model.dump_parameters(), cast("dict[str, int]", report["updates"])
    assert updates.keys() <= after.keys()
    for path in after.keys() - updates.keys():
        assert after[path].tobytes() == before[path].tobytes(), path
    assert updates["optimizer/steps"] == 3
    assert report["steps_per_epoch"] == 200 * 8 // 4 // 8


@pytest.mark.slow
def test_shards_begin_with_the_same_weights_and_take_their_own_minibatches(texts: Texts) -> None:
    shards = [make_model(*SEARCH), make_model(*SEARCH)]
    for index, model in enumerate(shards):
        model.seed = index
        train_on(model, texts, [], shard=(index, 2))
    one, two = (model.dump_parameters() for model in shards)
    assert all(two[path].tobytes() == value.tobytes() for path, value in one.items())
    for index, model in enumerate(shards):
        train_on(model, texts, CANDIDATES[:1], one, shard=(index, 2))
    one, two = (model.dump_parameters() for model in shards)
    assert one["cell/input"].tobytes() != two["cell/input"].tobytes()


@pytest.mark.slow
def test_quick_evaluation_takes_one_minibatch_of_the_seed(
    searched: tuple[EnasRnn, dict[str, object], list[Candidate]], texts: Texts
) -> None:
    model = make_model(*SEARCH, "QUICK_EVAL")
    model.load_parameters(searched[0].dump_parameters())
    scores = [model.evaluate_candidates(texts[1], CANDIDATES, seed=k) for k in (5, 5, 6)]
    assert scores[0] == scores[1] != scores[2]


@pytest.mark.slow
def test_no_cell_and_no_call_compiles_a_program_again(texts: Texts) -> None:
    language_programs.cache_clear()
    search, final = make_model(*SEARCH), make_model("EARLY_STOP")
    for number in range(3):
        train_on(search, texts, CANDIDATES[: 2 * number + 1])
        search.evaluate_candidates(texts[1], CANDIDATES[number:], seed=number)
        final = make_model("EARLY_STOP", candidate=CANDIDATES[number])
        final.train(texts[0])
        final.evaluate(texts[1])
    for model in (search, final):
        train, evaluate, _ = cast("tuple[Cached, ...]", model._held()._programs)
        assert [program._cache_size() for program in (train, evaluate)] == [1, 1]
    assert language_programs.cache_info().currsize == 2


@pytest.mark.slow
def test_diverged_weights_give_no_score(
    searched: tuple[EnasRnn, dict[str, object], list[Candidate]], texts: Texts
) -> None:
    params = searched[0].dump_parameters()
    model = make_model(*SEARCH)
    model.load_parameters({**params, "output/bias": np.full_like(params["output/bias"], np.nan)})
    assert np.isnan(model.evaluate_candidates(texts[1], CANDIDATES[:1], seed=5)).all()
