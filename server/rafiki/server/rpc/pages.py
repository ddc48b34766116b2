"""Pages of lists: as many items as asked for and as fit one response."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from rafiki.server.domain.requests import page_token

_Item = TypeVar("_Item")
_Message = TypeVar("_Message", bound=Message)

# Below the 4 MiB that a message may have, with room for the rest of the response.
MAX_PAGE_BYTES = 3_500_000


def cut_page(
    items: Iterable[_Item],
    *,
    size: int,
    to_proto: Callable[[_Item], _Message],
    position: Callable[[_Item], Sequence[int | str]],
    scope: Sequence[str],
) -> tuple[list[_Message], str]:
    """One page of messages, and the token of the next page ("" if this is the last).

    Args:
        items: At least one more than `size`, where there are so many.
        size: How many items the page may hold.
        to_proto: Makes the message of an item.
        position: What a page token must hold to go on after an item.
        scope: As of `page_token`.
    """
    messages: list[_Message] = []
    size_bytes = 0
    last: _Item | None = None
    for item in items:
        message = to_proto(item)
        size_bytes += message.ByteSize() + 8
        if last is not None and (len(messages) == size or size_bytes > MAX_PAGE_BYTES):
            return messages, page_token(scope, position(last))
        messages.append(message)
        last = item
    return messages, ""
