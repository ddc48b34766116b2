from hypothesis import given
from hypothesis import strategies as st

from rafiki.wire.text import clean_head, clean_tail


@given(st.text(max_size=20), st.integers(1, 12))
def test_a_cut_text_fits_and_is_unicode(text: str, most: int) -> None:
    assert len(clean_head(text, most).encode()) <= most
    assert len(clean_tail(text, most).encode()) <= most


def test_the_head_is_the_beginning_and_the_tail_the_end() -> None:
    assert clean_head("abcdef", 2) == "ab"
    assert clean_tail("abcdef", 2) == "ef"


def test_a_character_is_not_cut_in_two() -> None:
    assert clean_head("aé", 2) == "a"
    assert clean_tail("éa", 2) == "a"


def test_a_lone_surrogate_becomes_a_question_mark() -> None:
    assert clean_head("file \udcff", 100) == "file ?"
