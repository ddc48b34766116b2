"""Calls that carried a request id, and what they created: repeating one finds it again."""

from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, select

from rafiki.server.domain.errors import RequestIdReused
from rafiki.server.domain.requests import RequestKey
from rafiki.server.store.tables import request_ids

_FIND = select(request_ids.c.resource, request_ids.c.request_hash).where(
    request_ids.c.owner == bindparam("owner"),
    request_ids.c.method == bindparam("method"),
    request_ids.c.request_id == bindparam("request_id"),
)


def find_answer(
    connection: Connection, *, owner: str, method: str, request: RequestKey
) -> str | None:
    """The name of what the call created before, or None if it is new.

    A request without an id is always new.

    Raises:
        RequestIdReused: The id was used for a request with another hash.
    """
    if not request.id:
        return None
    key = {"owner": owner, "method": method, "request_id": request.id}
    row = connection.execute(_FIND, key).one_or_none()
    if row is None:
        return None
    if row.request_hash != request.hash:
        raise RequestIdReused(request.id)
    resource: str = row.resource
    return resource


def record_answer(
    connection: Connection,
    *,
    owner: str,
    method: str,
    request: RequestKey,
    resource: str,
    time: datetime,
) -> None:
    """Records that the call created `resource`, a name. Nothing for a request without an id."""
    if not request.id:
        return
    connection.execute(
        insert(request_ids),
        {
            "owner": owner,
            "method": method,
            "request_id": request.id,
            "request_hash": request.hash,
            "resource": resource,
            "create_time": time,
        },
    )
