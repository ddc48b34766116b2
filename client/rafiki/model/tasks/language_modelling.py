"""LANGUAGE_MODELLING: a text, of which every word is to be predicted from those before it."""

import itertools
from pathlib import Path

import numpy as np

from rafiki.model.language_modelling import END, load_text
from rafiki.model.tasks.task_format import TaskFormat

# Who does what to whom; a sentence has one of each kind, so that words far back decide.
ACTORS = {
    "cat": ("chases", ("mouse", "bird")),
    "dog": ("follows", ("man", "child")),
    "cow": ("eats", ("grass", "hay")),
    "girl": ("reads", ("book", "letter")),
    "cook": ("bakes", ("bread", "cake")),
}
ADJECTIVES = ("old", "young", "happy")


def check(path: Path) -> None:
    """Raises InvalidDataset unless `load_text` can read the file."""
    load_text(path)


def write_sample(path: Path, count: int, seed: int) -> str:
    """Writes sentences such as "the old cat chases the bird ."."""
    generator = np.random.default_rng(seed)
    names = list(ACTORS)
    lines = []
    for _ in range(count):
        name = names[generator.integers(len(names))]
        verb, objects = ACTORS[name]
        adjective = ADJECTIVES[generator.integers(len(ADJECTIVES))]
        target = objects[generator.integers(len(objects))]
        lines.append(f"the {adjective} {name} {verb} the {target} .\n")
    path.write_text("".join(lines), encoding="utf-8")
    return f"{count} made-up sentences of a small grammar"


def read_queries(path: Path, count: int) -> list[object]:
    """The first half of each of the first lines."""
    words = iter(load_text(path))
    queries: list[object] = []
    while len(queries) < count and (line := list(itertools.takewhile(END.__ne__, words))):
        queries.append(" ".join(line[: (len(line) + 1) // 2]))
    return queries


LANGUAGE_MODELLING = TaskFormat(
    task="LANGUAGE_MODELLING",
    data="a UTF-8 text; words are separated by white space",
    suffix=".txt",
    check=check,
    write_sample=write_sample,
    read_queries=read_queries,
)
