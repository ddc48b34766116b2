"""Texts as numbers of words, and their minibatches.

Letters as in `rafiki.supernet.recurrent`; n words of a text.
"""

import functools
import os
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from rafiki.model import Vocabulary, load_text

END_NUMBER = 1  # of `<eos>` in every vocabulary


class Minibatch(NamedTuple):
    """Words and their next words.

    Attributes:
        words: int32 `[T + 1, B]`; each row goes on where that of the minibatch before ended.
        is_fresh: There is none before: the state is zero.
        seed: In [0, 2**31); another one for every minibatch of a training.
    """

    words: np.ndarray
    is_fresh: bool
    seed: int


def text_vocabulary(path: str, limit: int) -> Vocabulary:
    """The vocabulary of the text in a file, `limit` words at most."""
    return Vocabulary.build(_text(*_key(path)), limit)


def encoded_text(path: str, vocabulary: Vocabulary) -> np.ndarray:
    """The text in a file as numbers, int32 `[n]`; the last few are kept."""
    return _encoded(*_key(path), vocabulary.words)


def forget_texts() -> None:
    """Frees the texts that are kept."""
    _text.cache_clear()
    _encoded.cache_clear()


def steps_per_epoch(count: int, rows: int, steps: int) -> int:
    """Minibatches in one pass over a text of `count` words: B = `rows`, T = `steps`."""
    return max(1, count // rows // steps)


def minibatches(
    words: np.ndarray, rows: int, steps: int, seed: int, shard: tuple[int, int] = (0, 1)
) -> Iterator[Minibatch]:
    """This shard's minibatches of a text, without end.

    Every pass begins at another place, given by `seed` and its number, and goes on at the
    beginning of the text when its end is reached; row r is r / B of the text ahead. A shard
    takes as many minibatches of a pass as if it took every so manieth, but in one stretch, so
    that its state can be carried on.

    Args:
        words: int32 `[n]`.
        rows: B.
        steps: T.
        seed: Of all shards.
        shard: (index, count).
    """
    index, count = shard
    per_epoch = steps_per_epoch(len(words), rows, steps)
    sizes = [len(range(number, per_epoch, count)) for number in range(count)]
    # With more shards than minibatches some are taken twice.
    first, size = sum(sizes[:index]) % per_epoch, max(sizes[index], 1)
    ahead = np.arange(rows) * (len(words) // rows)
    within = np.arange(steps + 1)[:, np.newaxis]
    epoch = 0
    while True:
        rng = np.random.default_rng((seed, epoch))
        begin = rng.integers(len(words))
        seeds = rng.integers(2**31, size=per_epoch)
        for number in range(first, first + size):
            places = (begin + ahead + number * steps + within) % len(words)
            yield Minibatch(words[places], number == first, int(seeds[number]))
        epoch += 1


def evaluation_minibatches(
    words: np.ndarray, rows: int, steps: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All of a text once: words `[T + 1, B]` and which next words count, bool `[T, B]`.

    The text is cut into B pieces of one length; the first word follows `<eos>`, as if another
    text were before it.
    """
    words = np.concatenate([[END_NUMBER], words]).astype(np.int32)
    last = len(words) - 1
    length = -(-last // rows)
    starts = np.arange(rows) * length
    for begin in range(0, length, steps):
        within = begin + np.arange(steps + 1)[:, np.newaxis]
        places = starts + within
        counted = (within < length) & (places < last)
        yield words[np.minimum(places, last)], counted[:-1]


def _key(path: str) -> tuple[str, int, int]:
    status = os.stat(path)
    return os.path.abspath(path), status.st_mtime_ns, status.st_size


@functools.lru_cache(maxsize=3)
def _text(path: str, modified_ns: int, size_bytes: int) -> list[str]:
    return load_text(path)


@functools.lru_cache(maxsize=6)
def _encoded(
    path: str, modified_ns: int, size_bytes: int, vocabulary: tuple[str, ...]
) -> np.ndarray:
    return Vocabulary(vocabulary).encode(_text(path, modified_ns, size_bytes))
