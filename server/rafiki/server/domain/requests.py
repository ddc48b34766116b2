"""Rules that requests of all services share: request ids and pages."""

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from rafiki.server.domain.errors import InvalidArgument

_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}")
DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000


@dataclass(frozen=True, slots=True)
class RequestKey:
    """How a repeated request is recognised: its id ("" for none) and a hash of its content."""

    id: str = ""
    hash: str = ""


def request_key(request_id: str, content: bytes) -> RequestKey:
    """The key of a request with this id, a UUID or "", and this canonical content.

    Raises:
        InvalidArgument: The id is no UUID.
    """
    if request_id and not _UUID.fullmatch(request_id):
        rule = "must be a UUID such as 6f1c2f52-9c1e-4d2b-8d0e-2f1c3b4a5d6e, or empty"
        raise InvalidArgument([("request_id", rule)])
    return RequestKey(request_id.lower(), hashlib.sha256(content).hexdigest())


def check_page_size(page_size: int) -> int:
    """How many items to read for the `page_size` asked for.

    Raises:
        InvalidArgument: It is negative.
    """
    if page_size < 0:
        raise InvalidArgument([("page_size", f"must be at least 0, not {page_size}")])
    return min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


def page_token(scope: Sequence[str], position: Sequence[int | str]) -> str:
    """An opaque token for the items after `position`, good for the same `scope` only.

    `scope` is what the list is of: the method, the parent, the filters.
    """
    text = json.dumps([_scope_digest(scope), *position], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def page_position(
    scope: Sequence[str], token: str, kinds: Sequence[type[int] | type[str]]
) -> list[int | str] | None:
    """The position in a token, None for an empty one: the first page.

    Args:
        scope: As given to `page_token`.
        token: What the caller sent.
        kinds: The types of the parts of the position. Integers fit 64 bits.

    Raises:
        InvalidArgument: It is no token, or that of another list.
    """
    if not token:
        return None
    wrong = InvalidArgument(
        [("page_token", "must be the next_page_token of the same list with the same filters")]
    )
    try:
        padded = token + "=" * (-len(token) % 4)
        parsed = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise wrong from None
    if not isinstance(parsed, list) or parsed[:1] != [_scope_digest(scope)]:
        raise wrong
    position = parsed[1:]
    if [type(part) for part in position] != list(kinds):
        raise wrong
    if any(isinstance(part, int) and not -(2**63) <= part < 2**63 for part in position):
        raise wrong
    return position


def _scope_digest(scope: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(scope).encode()).hexdigest()[:8]
