"""Rows of `blobs`: which blobs a resource names. Their bytes are in a `BlobStore`."""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection

from rafiki.resources import Digest
from rafiki.server.store.tables import blobs
from rafiki.server.store.upserts import insert_or_keep


def record_blobs(connection: Connection, digests: Iterable[Digest], time: datetime) -> None:
    """Records that a resource names these blobs, before the resource is added."""
    rows = [
        {"sha256": digest.sha256, "size_bytes": digest.size_bytes, "create_time": time}
        for digest in dict.fromkeys(digests)
    ]
    if rows:
        connection.execute(insert_or_keep(connection, blobs), rows)
