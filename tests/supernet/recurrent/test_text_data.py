"""Minibatches of texts."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from rafiki.supernet.recurrent import (
    Minibatch,
    encoded_text,
    evaluation_minibatches,
    minibatches,
    steps_per_epoch,
    text_vocabulary,
)

ROWS, STEPS = 3, 4
WORDS = np.arange(100, dtype=np.int32)


def take(count: int, seed: int = 0, shard: tuple[int, int] = (0, 1)) -> list[Minibatch]:
    batches = minibatches(WORDS, ROWS, STEPS, seed, shard)
    return [batch for _, batch in zip(range(count), batches, strict=False)]


def bytes_of(batches: list[Minibatch]) -> list[bytes]:
    return [batch.words.tobytes() for batch in batches]


def test_each_row_goes_on_where_the_minibatch_before_ended() -> None:
    first, second = take(2)
    assert first.words.shape == (STEPS + 1, ROWS)
    assert (np.diff(first.words, axis=0) % len(WORDS) == 1).all()
    assert first.words[-1].tolist() == second.words[0].tolist()
    assert [first.is_fresh, second.is_fresh] == [True, False]


def test_a_pass_reads_no_word_twice_and_the_next_one_begins_elsewhere() -> None:
    assert steps_per_epoch(len(WORDS), ROWS, STEPS) == 8
    batches = take(9)
    read = np.concatenate([batch.words[1:].ravel() for batch in batches[:8]])
    assert len(set(read.tolist())) == 8 * ROWS * STEPS
    assert batches[8].is_fresh
    assert batches[8].words.tolist() != batches[0].words.tolist()


def test_minibatches_are_given_by_the_seed() -> None:
    assert bytes_of(take(9, seed=1)) == bytes_of(take(9, seed=1)) != bytes_of(take(9, seed=2))


@pytest.mark.parametrize("count", [2, 3, 8])
def test_shards_share_a_pass_out_among_them_in_stretches(count: int) -> None:
    shards = [take(len(range(index, 8, count)), shard=(index, count)) for index in range(count)]
    together = list(itertools.chain(*shards))
    assert bytes_of(together) == bytes_of(take(8))
    assert [batch.seed for batch in together] == [batch.seed for batch in take(8)]
    assert all([batch.is_fresh for batch in shard].index(True) == 0 for shard in shards)


def test_more_shards_than_minibatches_get_some_each() -> None:
    for index in range(10):
        (batch,) = take(1, shard=(index, 10))
        assert batch.words.tobytes() in bytes_of(take(8))


def test_a_text_shorter_than_a_minibatch_is_repeated() -> None:
    (batch,) = (next(minibatches(WORDS[:2], ROWS, STEPS, 0)),)
    assert set(batch.words.ravel().tolist()) == {0, 1}
    assert steps_per_epoch(2, ROWS, STEPS) == 1


@pytest.mark.parametrize("length", [1, 2, 11, 24, 25, 100])
def test_evaluation_counts_every_word_once_after_the_one_before_it(length: int) -> None:
    text = WORDS[:length] + 10
    found = []
    for words, counted in evaluation_minibatches(text, ROWS, STEPS):
        found += list(zip(words[:-1][counted], words[1:][counted], strict=True))
    expected = list(zip([1, *text[:-1]], text, strict=True))
    assert sorted(found) == sorted(expected)


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("b a a\n")
    vocabulary = text_vocabulary(str(path), 10)
    assert vocabulary.words == ("<unk>", "<eos>", "a", "b")
    assert encoded_text(str(path), vocabulary).tolist() == [3, 2, 2, 1]
    path.write_text("a c\nb\n")
    assert encoded_text(str(path), vocabulary).tolist() == [2, 0, 1, 3, 1]
