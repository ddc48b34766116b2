"""The format of tagged sentences: what is read back, and what is refused."""

from pathlib import Path

import pytest

from rafiki.model import InvalidDataset, load_sentences, query_tokens, write_sentences
from rafiki.model.pos_tagging import MAX_TAGS


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "a.tsv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_sentences_come_back_as_they_were_written(tmp_path: Path) -> None:
    tokens = [("Die", "Köchin", "kocht"), ("#",), ("# 1", "10 000")]
    tags = [("DET", "NOUN", "VERB"), ("SYM",), ("NOUN", "NUM")]
    write_sentences(tmp_path / "a.tsv", tokens, tags)
    data = load_sentences(tmp_path / "a.tsv")
    assert data.tokens == tuple(tokens)
    assert data.tags == tuple(tags)
    assert data.tag_names == ("DET", "NOUN", "NUM", "SYM", "VERB")


def test_the_file_is_a_line_per_token_and_an_empty_line_between_sentences(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    write_sentences(path, [["a", "b"], ["c"]], [["X", "Y"], ["X"]])
    assert path.read_bytes() == b"a\tX\nb\tY\n\nc\tX\n"


@pytest.mark.parametrize(
    "text",
    [
        "a\tX\nb\tY\n\nc\tX",
        "\n\na\tX\nb\tY\n\n\n\nc\tX\n\n",
        "\ufeffa\tX\nb\tY\n\nc\tX\n",
        "a\tX\r\nb\tY\r\n\r\nc\tX\r\n",
        "a\tX\nb\tY\n \t \nc\tX\n",
        "# text = a b\na\tX\n#\nb\tY\n\n#c\nc\tX\n# the end",
    ],
    ids=["no last line break", "many empty lines", "mark", "Windows", "blanks", "comments"],
)
def test_the_same_sentences_may_be_written_in_other_ways(tmp_path: Path, text: str) -> None:
    data = load_sentences(written(tmp_path, text))
    assert data.tokens == (("a", "b"), ("c",))
    assert data.tags == (("X", "Y"), ("X",))


def test_separators_within_a_line_are_part_of_a_token(tmp_path: Path) -> None:
    data = load_sentences(written(tmp_path, "a\u2028b\x0bc\tX\n"))
    assert data.tokens == (("a\u2028b\x0bc",),)


REFUSED: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", r"a\.tsv has no tokens"),
    "comments alone": ("# a\n\n# b\n", "has no tokens"),
    "no tab": ("a\tX\nb Y\n", r"a\.tsv line 2: .* has no tab"),
    "three columns": ("a\tX\n\n1\tb\tY\n", "line 3: .* has 2 tabs"),
    "no token": ("\tX\n", "line 1: the token is empty"),
    "no tag": ("# c\na\t\n", "line 2: the tag is empty"),
    "blank before a token": (" a\tX\n", "line 1: the token ' a' has white space"),
    "blank after a tag": ("a\tX \n", "line 1: the tag 'X ' has white space"),
    "comment that is indented": (" # a\n", "line 1: .* has no tab"),
    "not UTF-8": (b"a\tX\n\xff\tY\n", r"a\.tsv line 2 is not UTF-8"),
    "UTF-16": ("a\tX\n".encode("utf-16"), "is not UTF-8"),
    "too many tags": (
        "".join(f"a\t{number}\n" for number in range(MAX_TAGS + 1)),
        "has 1001 distinct tags, more than 1000",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_malformed_data_set_is_refused(case: str, tmp_path: Path) -> None:
    text, rule = REFUSED[case]
    with pytest.raises(InvalidDataset, match=rule):
        load_sentences(written(tmp_path, text))


def test_an_enormous_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.tsv").open("wb") as file:
        file.truncate(129 * 2**20)
    with pytest.raises(InvalidDataset, match="at most 128 MiB"):
        load_sentences(tmp_path / "a.tsv")


def test_a_file_that_is_not_there_is_no_malformed_data_set(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_sentences(tmp_path / "a.tsv")


@pytest.mark.parametrize(
    ("tokens", "tags"),
    [
        ([], []),
        ([["a"]], []),
        ([["a"]], [["X", "Y"]]),
        ([[]], [[]]),
        ([["a", ""]], [["X", "Y"]]),
        ([["a\tb"]], [["X"]]),
        ([["a\nb"]], [["X"]]),
        ([[" a"]], [["X"]]),
        ([["a"]], [["X\r"]]),
    ],
)
def test_what_could_not_be_read_back_is_not_written(
    tokens: list[list[str]], tags: list[list[str]], tmp_path: Path
) -> None:
    with pytest.raises(InvalidDataset):
        write_sentences(tmp_path / "a.tsv", tokens, tags)
    assert not (tmp_path / "a.tsv").exists()


def test_queries_are_lists_of_tokens_or_strings() -> None:
    queries = [["10 000", "fish"], "they \n swim", (), ""]
    assert query_tokens(queries) == [["10 000", "fish"], ["they", "swim"], [], []]


@pytest.mark.parametrize(
    ("queries", "told"),
    [
        ([], "no queries"),
        (["a", 3], "query 1 is neither a list of tokens nor a string but int"),
        ([["a", None]], "query 0: the token None is no string"),
        ([{"tokens": ["a"]}], "but dict"),
    ],
)
def test_other_queries_are_refused(queries: list[object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        query_tokens(queries)
