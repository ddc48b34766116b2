"""Request ids and page tokens."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rafiki.server.domain.errors import InvalidArgument
from rafiki.server.domain.requests import (
    check_page_size,
    page_position,
    page_token,
    request_key,
)

UUID = "6f1c2f52-9c1e-4d2b-8d0e-2f1c3b4a5d6e"


def test_a_request_id_is_a_uuid_or_empty() -> None:
    assert request_key(UUID.upper(), b"x") == request_key(UUID, b"x")
    assert request_key("", b"x").id == ""
    with pytest.raises(InvalidArgument, match="request_id: must be a UUID"):
        request_key("again", b"x")


def test_other_content_has_another_key() -> None:
    assert request_key(UUID, b"x") != request_key(UUID, b"y")


def test_page_sizes_have_a_default_and_a_limit() -> None:
    assert [check_page_size(size) for size in (0, 1, 1000, 5000)] == [50, 1, 1000, 1000]
    with pytest.raises(InvalidArgument, match="page_size"):
        check_page_size(-1)


@given(st.integers(-(2**63), 2**63 - 1), st.text())
def test_a_position_survives_its_token(number: int, text: str) -> None:
    token = page_token(["list"], [number, text])
    assert page_position(["list"], token, [int, str]) == [number, text]


def test_no_token_is_the_first_page() -> None:
    assert page_position(["list"], "", [int]) is None


def test_a_token_is_good_for_its_own_list_only() -> None:
    token = page_token(["ListModels", "A"], ["0123abcd"])
    with pytest.raises(InvalidArgument, match="page_token"):
        page_position(["ListModels", "B"], token, [str])


@pytest.mark.parametrize(
    "forged",
    [
        "nonsense!",
        "AAAA",
        "é",
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        base64.urlsafe_b64encode(b"{}").decode(),
        base64.urlsafe_b64encode(b"[]").decode(),
        page_token(["list"], ["text"]),
        page_token(["list"], [2**63]),
        page_token(["list"], [1, 2]),
        page_token(["list"], []),
        base64.urlsafe_b64encode(json.dumps(["x", True]).encode()).decode(),
    ],
)
def test_a_forged_token_is_refused(forged: str) -> None:
    with pytest.raises(InvalidArgument, match="page_token"):
        page_position(["list"], forged, [int])
