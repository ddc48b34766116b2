"""The tagger: what it learns, keeps, shares and compiles."""

import inspect
import json
import os
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Protocol, cast

import jax
import numpy as np
import pytest

from rafiki.model import Policy, TaggedSentences, load_sentences, write_sentences
from rafiki.model.bench import run_bench
from rafiki.model.knobs import check_knob_config, offered_policies
from rafiki.model.tasks import TASKS
from rafiki.zoo import pos_tagger
from rafiki.zoo.pos_tagger import LENGTHS, PosTagger

Paths = tuple[str, str]


class Program(Protocol):
    """What jax.jit returns, as far as it is asked here."""

    def clear_cache(self) -> None: ...

    def _cache_size(self) -> int: ...


def make_model(
    *,
    hidden_units: int = 8,
    epochs: int = 10,
    batch_size: int = 8,
    learning_rate: float = 0.02,
    share_params: bool = False,
    early_stop: bool = False,
    seed: int = 0,
) -> PosTagger:
    model = PosTagger(
        embedding_units=8,
        hidden_units=hidden_units,
        learning_rate=learning_rate,
        dropout=0.1,
        batch_size=batch_size,
        epochs=epochs,
        share_params=share_params,
        early_stop=early_stop,
    )
    model.seed = seed
    return model


# Prints the devices, how many sentences of a minibatch each has, and whether the compiled step
# adds up over them.
PROGRAM = """
import sys
import jax, numpy as np
from rafiki.zoo import pos_tagger

step, seen = pos_tagger.train_step, {}

def watched(graph, state, bucket, chosen, *rest):
    if not seen:
        seen["sentences"] = [shard.data.shape[0] for shard in chosen.addressable_shards]
        lowered = step.lower(graph, state, bucket, chosen, *rest)
        seen["all_reduce"] = "all-reduce" in lowered.compile().as_text()
    return step(graph, state, bucket, chosen, *rest)

pos_tagger.train_step = watched
model = pos_tagger.PosTagger(
    embedding_units=8, hidden_units=8, learning_rate=0.01, dropout=0.1, batch_size=8, epochs=1,
    share_params=False, early_stop=False,
)
model.train(sys.argv[1])
np.savez(sys.argv[2], **model.dump_parameters())
print(len(jax.devices()), seen["sentences"], seen["all_reduce"])
"""


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """The paths of 160 training and 80 validation sentences of the made-up sample."""
    folder: Path = tmp_path_factory.mktemp("sentences")
    train, validation = folder / "train.tsv", folder / "validation.tsv"
    TASKS["POS_TAGGING"].write_sample(train, 160, 1)
    TASKS["POS_TAGGING"].write_sample(validation, 80, 2)
    return str(train), str(validation)


@pytest.fixture(scope="module")
def trained(sentences: Paths) -> PosTagger:
    model = make_model()
    model.train(sentences[0])
    return model


def baseline_accuracy(train: TaggedSentences, validation: TaggedSentences) -> float:
    """Of giving each token its most frequent tag, and unknown ones that of most tokens."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for tokens, tags in zip(train.tokens, train.tags, strict=True):
        for token, tag in zip(tokens, tags, strict=True):
            counts[token][tag] += 1
    most = Counter(tag for tags in train.tags for tag in tags).most_common(1)[0][0]
    best = {token: count.most_common(1)[0][0] for token, count in counts.items()}
    pairs = [
        (best.get(token, most), tag)
        for tokens, tags in zip(validation.tokens, validation.tags, strict=True)
        for token, tag in zip(tokens, tags, strict=True)
    ]
    return sum(found == tag for found, tag in pairs) / len(pairs)


def test_the_knob_config_is_valid() -> None:
    config = PosTagger.get_knob_config()
    check_knob_config(config)
    assert offered_policies(config) == {Policy.SHARE_PARAMS, Policy.EARLY_STOP}
    assert config.keys() == set(inspect.signature(PosTagger).parameters)


def test_the_template_is_short() -> None:
    assert len(inspect.getsource(pos_tagger).splitlines()) < 400


def test_it_beats_the_most_frequent_tag_by_far(trained: PosTagger, sentences: Paths) -> None:
    baseline = baseline_accuracy(*map(load_sentences, sentences))
    assert baseline < 0.8
    assert trained.evaluate(sentences[1]) > 0.95


def test_the_same_word_is_tagged_by_what_is_around_it(trained: PosTagger) -> None:
    (tags,) = trained.predict(["the cook can cook the fish ."])
    assert tags == ["DET", "NOUN", "AUX", "VERB", "DET", "NOUN", "PUNCT"]


def test_unknown_words_are_tagged_by_their_ending(trained: PosTagger) -> None:
    (tags,) = trained.predict(["they Zazazize the qaqaqaness xexexely ."])
    assert tags == ["PRON", "VERB", "DET", "NOUN", "ADV", "PUNCT"]


def test_a_query_without_tokens_has_no_tags(trained: PosTagger) -> None:
    assert trained.predict([[], ["they", "run"], " "]) == [[], ["PRON", "VERB"], []]
    assert trained.predict([[]]) == [[]]


def test_a_very_long_sentence_is_tagged_in_its_order(trained: PosTagger) -> None:
    phrase = ["the", "cook", "can", "cook", "the", "fish", ".", "."]
    # Pieces of the greatest length, and a shorter one after them.
    assert LENGTHS[-1] % len(phrase) == 0
    long, one = phrase * (2 * LENGTHS[-1] // len(phrase) + 1), phrase
    found, short = trained.predict([long, one])
    assert isinstance(found, list)
    assert len(found) == len(long)
    assert found[-len(phrase) :] == short
    assert found[1] == found[2 * len(phrase) + 1] == "NOUN"


def test_predictions_can_be_written_as_json(trained: PosTagger) -> None:
    found = trained.predict([["they", "run"]])
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("query", [3, None, [1], {"tokens": []}])
def test_what_is_no_query_is_refused(trained: PosTagger, query: object) -> None:
    with pytest.raises(ValueError, match="query 0"):
        trained.predict([query])


def test_a_tag_that_training_never_had_is_a_wrong_one(trained: PosTagger, tmp_path: Path) -> None:
    path = tmp_path / "new.tsv"
    write_sentences(path, [["they", "run"]], [["PRON", "NEW"]])
    assert trained.evaluate(str(path)) == 0.5


def test_a_loaded_model_is_bit_for_bit_the_same(trained: PosTagger, sentences: Paths) -> None:
    other, params = make_model(seed=9), trained.dump_parameters()
    other.load_parameters(params)
    queries: list[object] = list(load_sentences(sentences[1]).tokens)
    assert other.predict(queries) == trained.predict(queries)
    again = other.dump_parameters()
    assert {path: tensor.tobytes() for path, tensor in again.items()} == {
        path: tensor.tobytes() for path, tensor in params.items()
    }


def test_parameters_of_another_size_cannot_be_loaded(trained: PosTagger) -> None:
    with pytest.raises(ValueError, match="no gates/bias of size"):
        make_model(hidden_units=16).load_parameters(trained.dump_parameters())


def test_a_seed_gives_the_same_model(sentences: Paths) -> None:
    dumps = []
    for seed in (3, 3, 4):
        model = make_model(epochs=1, seed=seed)
        model.train(sentences[0])
        dumps.append(model.dump_parameters()["head/kernel"].tobytes())
    assert dumps[0] == dumps[1] != dumps[2]


def test_shared_parameters_are_a_start(trained: PosTagger, sentences: Paths) -> None:
    model = make_model(share_params=True, epochs=1, learning_rate=1e-4)
    model.train(sentences[0], trained.dump_parameters())
    assert model.evaluate(sentences[1]) > 0.95


def test_without_the_policy_shared_parameters_are_left_alone(
    trained: PosTagger, sentences: Paths
) -> None:
    one, two = make_model(epochs=1), make_model(epochs=1)
    one.train(sentences[0], trained.dump_parameters())
    two.train(sentences[0])
    kernels = [model.dump_parameters()["head/kernel"].tobytes() for model in (one, two)]
    assert kernels[0] == kernels[1]


@pytest.mark.slow
def test_parameters_for_other_words_are_not_shared(
    trained: PosTagger, sentences: Paths, tmp_path: Path
) -> None:
    other = tmp_path / "other.tsv"
    write_sentences(other, [["we", "we", "run", "run"]], [["A", "A", "B", "B"]])
    one, two = make_model(epochs=1, share_params=True), make_model(epochs=1)
    one.train(str(other), trained.dump_parameters())
    two.train(str(other))
    kernels = [model.dump_parameters()["gates/kernel"].tobytes() for model in (one, two)]
    assert kernels[0] == kernels[1]


def test_early_stop_trains_a_quarter_of_the_epochs(sentences: Paths) -> None:
    stopped, short = make_model(epochs=4, early_stop=True), make_model(epochs=1)
    stopped.train(sentences[0])
    short.train(sentences[0])
    kernels = [model.dump_parameters()["head/kernel"].tobytes() for model in (stopped, short)]
    assert kernels[0] == kernels[1]


def test_the_training_state_is_donated(sentences: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    states: list[object] = []
    step = pos_tagger.train_step

    def watched(graph: object, state: object, *rest: object) -> object:
        states.append(state)
        return step(graph, state, *rest)

    monkeypatch.setattr(pos_tagger, "train_step", watched)
    make_model(epochs=1).train(sentences[0])
    assert all(leaf.is_deleted() for state in states for leaf in jax.tree.leaves(state))


@pytest.mark.slow
def test_it_passes_the_bench() -> None:
    report = run_bench(Path(pos_tagger.__file__))
    assert [step for step in report.steps if not step.ok] == []
    assert not [step for step in report.steps if "Note" in step.message]


@pytest.mark.slow
def test_four_devices_share_the_minibatch_and_train_the_network_of_one(
    sentences: Paths, tmp_path: Path
) -> None:
    told = {}
    for devices in (1, 4):
        flags = f"--xla_force_host_platform_device_count={devices}"
        told[devices] = subprocess.run(
            [sys.executable, "-c", PROGRAM, sentences[0], str(tmp_path / f"{devices}.npz")],
            env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
    assert told == {1: "1 [8] False\n", 4: "4 [2, 2, 2, 2] True\n"}
    with np.load(tmp_path / "1.npz") as one, np.load(tmp_path / "4.npz") as four:
        for name in one:
            np.testing.assert_allclose(one[name], four[name], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_sentences_of_any_length_take_a_program_per_padded_length(tmp_path: Path) -> None:
    path = tmp_path / "lengths.tsv"
    tokens = [["we", "run"] * half for half in range(1, 160, 7)]
    write_sentences(path, tokens, [["PRON", "VERB"] * (len(row) // 2) for row in tokens])
    programs = [cast(Program, getattr(pos_tagger, name)) for name in ("train_step", "best_tags")]
    for program in programs:
        program.clear_cache()
    for rate in (0.01, 0.02):
        model = make_model(hidden_units=4, epochs=2, learning_rate=rate)
        model.train(str(path))
        model.evaluate(str(path))
        model.predict([["we"] * count for count in range(0, 300, 17)])
    assert [program._cache_size() for program in programs] == [len(LENGTHS)] * 2
