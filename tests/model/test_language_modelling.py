"""The text format: what is read, what is refused, what is made up."""

from pathlib import Path

import numpy as np
import pytest

from rafiki.model import InvalidDataset, Vocabulary, language_modelling, load_text, query_words
from rafiki.model.tasks import TASKS

FORMAT = TASKS["LANGUAGE_MODELLING"]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_words_are_split_at_white_space_and_lines_end_in_eos(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "The  cat,\tsat\r\n\n \nÄh .".encode())
    assert load_text(path) == ["The", "cat,", "sat", "<eos>", "Äh", ".", "<eos>"]


def test_a_byte_order_mark_is_skipped(tmp_path: Path) -> None:
    assert load_text(write(tmp_path / "a.txt", b"\xef\xbb\xbfcat\n")) == ["cat", "<eos>"]


def test_a_text_that_is_not_utf8_is_refused_with_the_byte(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"\xef\xbb\xbfcat \xff")
    with pytest.raises(InvalidDataset, match=r"a.txt is not UTF-8: .* at byte 7"):
        load_text(path)


@pytest.mark.parametrize("content", [b"", b" \n\t\n"])
def test_a_text_without_words_is_refused(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset, match=r"a.txt is empty: it has no words"):
        load_text(write(tmp_path / "a.txt", content))


def test_a_text_that_is_too_large_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language_modelling, "MAX_BYTES", 3)
    with pytest.raises(InvalidDataset, match=r"a.txt has 4 bytes"):
        load_text(write(tmp_path / "a.txt", b"cat\n"))


def test_a_missing_file_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_text(tmp_path / "a.txt")


def test_the_vocabulary_has_the_most_frequent_words_and_equal_ones_in_order() -> None:
    words = ["b", "<eos>", "a", "c", "c", "<unk>", "d", "<eos>", "<eos>"]
    assert Vocabulary.build(words, 5).words == ("<unk>", "<eos>", "c", "a", "b")


def test_words_that_are_not_known_are_unk() -> None:
    vocabulary = Vocabulary(("<unk>", "<eos>", "a"))
    numbers = vocabulary.encode(["a", "x", "<eos>", "<unk>"])
    assert numbers.tolist() == [2, 0, 1, 0]
    assert numbers.dtype == np.int32


def test_a_vocabulary_comes_back_from_its_tensor() -> None:
    vocabulary = Vocabulary(("<unk>", "<eos>", "ä", "日本"))
    tensor = vocabulary.to_tensor()
    assert tensor.dtype == np.uint8
    assert Vocabulary.from_tensor(tensor).words == vocabulary.words


def test_another_tensor_is_no_vocabulary() -> None:
    with pytest.raises(ValueError, match="uint8 text"):
        Vocabulary.from_tensor(np.zeros(3, np.float32))
    with pytest.raises(ValueError, match="begins with"):
        Vocabulary.from_tensor(np.frombuffer(b"a\nb", np.uint8))


def test_a_query_is_a_line_that_has_not_ended() -> None:
    assert query_words(["the cat", "", "it is .\nThe"]) == [
        ["the", "cat"],
        [],
        ["it", "is", ".", "<eos>", "The"],
    ]


@pytest.mark.parametrize(("queries", "message"), [([], "no queries"), (["a", 3], "query 1 is no")])
def test_other_queries_are_refused(queries: list[object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        query_words(queries)


def test_the_sample_is_of_the_format_and_the_same_for_a_seed(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.txt" for number in range(3)]
    for path, seed in zip(paths, (1, 1, 2), strict=True):
        FORMAT.write_sample(path, 20, seed)
        FORMAT.check(path)
    assert paths[0].read_bytes() == paths[1].read_bytes() != paths[2].read_bytes()
    assert load_text(paths[0]).count("<eos>") == 20


def test_queries_are_beginnings_of_lines(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", b"a b c\nd\n")
    assert FORMAT.read_queries(path, 3) == ["a b", "d"]
