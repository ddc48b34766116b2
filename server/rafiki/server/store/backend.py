"""What the kinds of databases have in common, and what each must say for itself."""

from enum import StrEnum
from typing import Protocol

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from rafiki.server.domain.errors import StorageError, StorageUnavailable


class UnusableDatabase(Exception):
    """The database cannot be opened; the message says why and what to do."""


class TakenOver(StorageUnavailable):
    """Another server has taken the database over: this one must write no more, and end."""

    def __init__(self, cause: str) -> None:
        self.cause = cause
        Exception.__init__(self, cause)


class Synchronous(StrEnum):
    """What a commit waits for before it is acknowledged. See docs/database.md."""

    FULL = "full"
    NORMAL = "normal"
    OFF = "off"


class Backend(Protocol):
    """One kind of database, held by this process from its creation until `close`."""

    @property
    def readers(self) -> Engine:
        """Whose transactions each see one snapshot, and cannot write. Thread-safe."""
        ...

    def open_writer(self) -> Connection:
        """A connection whose transactions write; there is one at a time.

        Raises:
            TakenOver: Another server has held the database since this one did.
        """
        ...

    def explain(self, error: DBAPIError, *, is_reading: bool) -> StorageError | None:
        """What an error means to callers; None if it is no failure of the storage."""
        ...

    def close(self) -> None:
        """Closes every connection but the writer's, and lets another server have the database."""
        ...
