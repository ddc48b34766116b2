"""The data set format of the task POS_TAGGING.

A data set is one text file in UTF-8 (a byte order mark is skipped). Every token has a line of
its own, `token<TAB>tag`; an empty line, or the end of the file, ends a sentence:

    the	DET
    cook	NOUN
    sleeps	VERB

    # a comment: there is no tab in this line
    fish	NOUN
    swim	VERB

A line without a tab that begins with `#` is a comment and ends nothing; the token `#` itself
is no trouble, because a tab follows it. Neither a token nor a tag is empty or has white space
at its ends.

A query is a list of tokens, or a string, which is split at white space. The prediction is a
list of tags, one per token.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rafiki.model.datasets import InvalidDataset

MAX_BYTES = 128 * 2**20
MAX_TAGS = 1000

Sentence = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaggedSentences:
    """The sentences of a data set, in its order.

    Attributes:
        tokens: Of every sentence, at least one.
        tags: Of every sentence, one per token.
        tag_names: The distinct tags, sorted.
    """

    tokens: tuple[Sentence, ...]
    tags: tuple[Sentence, ...]
    tag_names: tuple[str, ...]


def load_sentences(path: str | Path) -> TaggedSentences:
    """The data set in the file `path`.

    Raises:
        InvalidDataset: It is not in the format, has no tokens, has more than 1,000 distinct
            tags, or is over 128 MiB.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    size_bytes = path.stat().st_size
    if size_bytes > MAX_BYTES:
        raise InvalidDataset(
            f"{path.name} has {size_bytes} bytes; at most {MAX_BYTES >> 20} MiB are read"
        )
    content = path.read_bytes()
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidDataset(f"{path.name} line {line} is not UTF-8: {error.reason}") from error
    sentences = list(_sentences(text.removeprefix("\ufeff"), path.name))
    if not sentences:
        raise InvalidDataset(f"{path.name} has no tokens")
    tags = tuple(tuple(tag for _, tag in sentence) for sentence in sentences)
    names = sorted({tag for sentence in tags for tag in sentence})
    if len(names) > MAX_TAGS:
        raise InvalidDataset(f"{path.name} has {len(names)} distinct tags, more than {MAX_TAGS}")
    return TaggedSentences(
        tokens=tuple(tuple(token for token, _ in sentence) for sentence in sentences),
        tags=tags,
        tag_names=tuple(names),
    )


def write_sentences(
    path: str | Path, tokens: Sequence[Sequence[str]], tags: Sequence[Sequence[str]]
) -> None:
    """Writes a data set; equal arguments give equal bytes.

    Args:
        path: The file to write.
        tokens: Of every sentence, at least one.
        tags: Of every sentence, one per token.

    Raises:
        InvalidDataset: It could not be read back. Nothing is written then.
    """
    if not tokens or len(tokens) != len(tags):
        raise InvalidDataset(f"{len(tokens)} sentences of tokens, {len(tags)} of tags")
    blocks = []
    for number, (sentence, labels) in enumerate(zip(tokens, tags, strict=True)):
        if not sentence or len(sentence) != len(labels):
            raise InvalidDataset(
                f"sentence {number} has {len(sentence)} tokens and {len(labels)} tags"
            )
        for text in (*sentence, *labels):
            if not text or text != text.strip() or "\t" in text or "\n" in text:
                raise InvalidDataset(f"sentence {number}: {text!r} is no token and no tag")
        pairs = zip(sentence, labels, strict=True)
        blocks.append("".join(f"{token}\t{tag}\n" for token, tag in pairs))
    Path(path).write_bytes("\n".join(blocks).encode())


def query_tokens(queries: Sequence[object]) -> list[list[str]]:
    """The tokens of every query, none of an empty one.

    Args:
        queries: Lists of tokens, or strings, which are split at white space.

    Raises:
        ValueError: There are none, or one is something else.
    """
    if not queries:
        raise ValueError("there are no queries")
    return [_tokens(query, number) for number, query in enumerate(queries)]


def _tokens(query: object, number: int) -> list[str]:
    if isinstance(query, str):
        return query.split()
    if not isinstance(query, (list, tuple)):
        raise ValueError(
            f"query {number} is neither a list of tokens nor a string but {type(query).__name__}"
        )
    for token in query:
        if not isinstance(token, str):
            raise ValueError(f"query {number}: the token {token!r} is no string")
    return list(query)


def _sentences(text: str, name: str) -> Iterator[list[tuple[str, str]]]:
    """The (token, tag) pairs of every sentence."""
    # One object per word, however often it occurs.
    known: dict[str, str] = {}
    sentence: list[tuple[str, str]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            if sentence:
                yield sentence
            sentence = []
        elif "\t" in line or not line.startswith("#"):
            token, tag = _pair(line.removesuffix("\r"), f"{name} line {number}")
            sentence.append((known.setdefault(token, token), known.setdefault(tag, tag)))
    if sentence:
        yield sentence


def _pair(line: str, where: str) -> tuple[str, str]:
    cells = line.split("\t")
    if len(cells) != 2:
        found = "no tab" if len(cells) == 1 else f"{len(cells) - 1} tabs"
        raise InvalidDataset(f"{where}: a line is token<TAB>tag, and this one has {found}")
    for what, cell in zip(("token", "tag"), cells, strict=True):
        if not cell:
            raise InvalidDataset(f"{where}: the {what} is empty")
        if cell != cell.strip():
            raise InvalidDataset(f"{where}: the {what} {cell!r} has white space at its ends")
    return cells[0], cells[1]
