"""POS_TAGGING: sentences, of which every token has a tag such as NOUN."""

from pathlib import Path

import numpy as np

from rafiki.model.pos_tagging import load_sentences, write_sentences
from rafiki.model.tasks.task_format import TaskFormat

# After DET or ADJ a noun, elsewhere a verb: only the words around them tell.
AMBIGUOUS = ("cook", "fish", "light", "run", "walk", "watch", "water", "work")
PRONOUNS = ("she", "they", "we", "you")
DETERMINERS = ("a", "some", "the")
ADJECTIVES = ("big", "old", "red")
AUXILIARIES = ("can", "may", "will")
# Stems are made up, so that most such words are new; the ending tells.
ENDINGS = {"NOUN": "ness", "VERB": "ize", "ADJ": "ous", "ADV": "ly"}
SYLLABLES = ("ba", "do", "ki", "lu", "me", "no", "ra", "su", "ti", "vo")

AMBIGUOUS_SHARE = 0.6


def check(path: Path) -> None:
    """Raises InvalidDataset unless `load_sentences` can read the file."""
    load_sentences(path)


def write_sample(path: Path, count: int, seed: int) -> str:
    """Writes sentences such as "the old cook can watch some bakiness dolumely ."."""
    generator = np.random.default_rng(seed)
    sentences = [_sentence(generator) for _ in range(count)]
    tokens = [[token for token, _ in sentence] for sentence in sentences]
    tags = [[tag for _, tag in sentence] for sentence in sentences]
    write_sentences(path, tokens, tags)
    return f"{count} made-up sentences of words that are now nouns, now verbs"


def read_queries(path: Path, count: int) -> list[object]:
    """The first sentences, without tags."""
    return [list(sentence) for sentence in load_sentences(path).tokens[:count]]


def _sentence(generator: np.random.Generator) -> list[tuple[str, str]]:
    pairs = _noun_phrase(generator)
    if generator.random() < 0.4:
        pairs.append((_one_of(generator, AUXILIARIES), "AUX"))
    pairs.append((_word(generator, "VERB"), "VERB"))
    if generator.random() < 0.7:
        pairs += _noun_phrase(generator)
    if generator.random() < 0.3:
        pairs.append((_made_up(generator, "ADV"), "ADV"))
    return [*pairs, (".", "PUNCT")]


def _noun_phrase(generator: np.random.Generator) -> list[tuple[str, str]]:
    if generator.random() < 0.3:
        return [(_one_of(generator, PRONOUNS), "PRON")]
    pairs = [(_one_of(generator, DETERMINERS), "DET")]
    if generator.random() < 0.4:
        known = _one_of(generator, ADJECTIVES)
        pairs.append((known if generator.random() < 0.5 else _made_up(generator, "ADJ"), "ADJ"))
    return [*pairs, (_word(generator, "NOUN"), "NOUN")]


def _word(generator: np.random.Generator, tag: str) -> str:
    if generator.random() < AMBIGUOUS_SHARE:
        return _one_of(generator, AMBIGUOUS)
    return _made_up(generator, tag)


def _made_up(generator: np.random.Generator, tag: str) -> str:
    stem = (_one_of(generator, SYLLABLES) for _ in range(generator.integers(2, 4)))
    return "".join(stem) + ENDINGS[tag]


def _one_of(generator: np.random.Generator, words: tuple[str, ...]) -> str:
    return words[generator.integers(len(words))]


POS_TAGGING = TaskFormat(
    task="POS_TAGGING",
    data="a UTF-8 text; a line per token, token<TAB>tag; an empty line between sentences",
    suffix=".tsv",
    check=check,
    write_sample=write_sample,
    read_queries=read_queries,
)
