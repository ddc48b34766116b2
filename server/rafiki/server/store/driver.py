"""SQL given straight to the driver of a connection, for what every trial executes."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


class Cursor(Protocol):
    """What a driver answers with."""

    @property
    def rowcount(self) -> int: ...


def execute(
    connection: Connection, text: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
) -> Cursor:
    """Executes SQL in the words and with the parameters of the driver.

    Raises:
        DBAPIError: The database refuses, in the same subclasses as elsewhere.
    """
    dialect = connection.dialect
    # As `execute` of SQLAlchemy does, but for what it prepares around every statement.
    driver: Any = connection.connection.dbapi_connection
    driver_error = dialect.loaded_dbapi.Error
    try:
        cursor: Cursor = driver.execute(text, parameters)
    except driver_error as error:
        raise DBAPIError.instance(text, None, error, driver_error, dialect=dialect) from error
    return cursor
