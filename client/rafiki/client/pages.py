"""Walking over pages."""

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

PAGE_SIZE = 200


def walk(fetch: Callable[[str], tuple[Sequence[T], str]]) -> Iterator[T]:
    """The items of all pages, each page fetched when it is needed.

    Args:
        fetch: Takes a page token ("" for the first page); answers with the items of the
            page and the token of the next one, "" after the last. A page may be empty.
    """
    token = ""
    while True:
        items, token = fetch(token)
        yield from items
        if not token:
            return
