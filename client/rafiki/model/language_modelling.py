"""The data set format of the task LANGUAGE_MODELLING.

A data set is one text file in UTF-8 (a byte order mark is skipped). Words are what white
space separates; they are taken as they are written, so that a corpus should be split into
words, punctuation among them, before it is uploaded. Every line that has words ends in the
word `<eos>`; lines without any are skipped. The text is read as one stream from its first
line to its last, and so the parts of a corpus (train, validation, test) should be cut at
places, not drawn line by line.

A model knows the most frequent words of its training text, `<eos>` and `<unk>`, which stands
for all others, wherever they occur. What a language model is good at is told by its
perplexity: exp of the mean of -log p(word | words before it).

A query is a string: the beginning of a text, which is read like a line that has not ended
(with a line break at its end, it has). The prediction is a list of [word, probability] pairs
of the most likely next words, the best first.

Letters: `n` words of a text.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rafiki.model.datasets import InvalidDataset

UNKNOWN = "<unk>"
END = "<eos>"
MAX_BYTES = 128 * 2**20
MIN_LIMIT = 2


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """The words that a model knows; the number of a word is its place among them.

    Attributes:
        words: Distinct words, `<unk>` and `<eos>` first.
    """

    words: tuple[str, ...]
    _numbers: dict[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.words[:2] != (UNKNOWN, END):
            raise ValueError(f"a vocabulary begins with {UNKNOWN} and {END}")
        numbers = {word: number for number, word in enumerate(self.words)}
        if len(numbers) < len(self.words):
            raise ValueError("the words of a vocabulary must be distinct")
        object.__setattr__(self, "_numbers", numbers)

    @classmethod
    def build(cls, words: Iterable[str], limit: int) -> "Vocabulary":
        """The most frequent words of a text, equally frequent ones in alphabetical order.

        Args:
            words: Of the training text.
            limit: How many words it has at most, `<unk>` and `<eos>` among them.

        Raises:
            ValueError: `limit` is below 2.
        """
        if limit < MIN_LIMIT:
            raise ValueError(f"a vocabulary has at least {MIN_LIMIT} words, not {limit}")
        counts = Counter(words)
        for special in (UNKNOWN, END):
            del counts[special]
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls((UNKNOWN, END, *ranked[: limit - MIN_LIMIT]))

    def encode(self, words: Sequence[str]) -> np.ndarray:
        """The numbers of words, int32 `[n]`; 0, of `<unk>`, where one is not known."""
        unknown = self._numbers[UNKNOWN]
        numbers = (self._numbers.get(word, unknown) for word in words)
        return np.fromiter(numbers, np.int32, len(words))

    def to_tensor(self) -> np.ndarray:
        """The words as a tensor of a checkpoint: UTF-8 text in uint8, a word a line."""
        return np.frombuffer("\n".join(self.words).encode(), np.uint8).copy()

    @classmethod
    def from_tensor(cls, tensor: np.ndarray) -> "Vocabulary":
        """What `to_tensor` was made of.

        Raises:
            ValueError: It is no such tensor.
        """
        if tensor.dtype != np.uint8 or tensor.ndim != 1:
            raise ValueError(f"a vocabulary is uint8 text, not {tensor.dtype} {tensor.shape}")
        return cls(tuple(tensor.tobytes().decode().split("\n")))


def load_text(path: str | Path) -> list[str]:
    """The words `[n]` of the text in the file `path`, `<eos>` at the end of every line.

    Raises:
        InvalidDataset: It is not UTF-8, has no words, or is over 128 MiB.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    size_bytes = path.stat().st_size
    if size_bytes > MAX_BYTES:
        raise InvalidDataset(
            f"{path.name} has {size_bytes} bytes; a text has at most {MAX_BYTES >> 20} MiB"
        )
    try:
        # Not "utf-8-sig", whose errors count bytes from behind the mark.
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidDataset(
            f"{path.name} is not UTF-8: {error.reason} at byte {error.start}"
        ) from error
    words = text_words(text.removeprefix("\ufeff") + "\n")
    if not words:
        raise InvalidDataset(f"{path.name} is empty: it has no words")
    return words


def text_words(text: str) -> list[str]:
    """The words of a text, `<eos>` after those of every line that is ended by a line feed."""
    *lines, rest = text.split("\n")
    # One object per word, however often it occurs.
    known: dict[str, str] = {}
    words: list[str] = []
    for line in lines:
        if found := line.split():
            words.extend(known.setdefault(word, word) for word in found)
            words.append(END)
    return words + rest.split()


def query_words(queries: Sequence[object]) -> list[list[str]]:
    """The words of every query.

    Raises:
        ValueError: There are none, or one is no string.
    """
    if not queries:
        raise ValueError("there are no queries")
    for number, query in enumerate(queries):
        if not isinstance(query, str):
            raise ValueError(f"query {number} is no text but {type(query).__name__}")
    return [text_words(str(query)) for query in queries]
