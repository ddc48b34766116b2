"""Statements that every trial executes, compiled once and given straight to the driver.

SQLAlchemy's own way from a compiled statement to the driver costs more than most of these
statements themselves. Here a statement is compiled once per dialect and an execution is one
call of the driver; the tables stay the only place where columns and types are told.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase

from rafiki.server.store.driver import execute

_NOTHING: Mapping[str, Any] = {}


class _Compiled:
    """A statement in the words of one dialect, and what its parameters are there."""

    def __init__(self, statement: UpdateBase, dialect: Dialect, columns: list[str]) -> None:
        compiled = statement.compile(dialect=dialect, column_keys=columns)
        assert isinstance(compiled, SQLCompiler)
        self.text = str(compiled)
        self._positions = list(compiled.positiontup or ()) if compiled.positional else None
        self._converters: dict[str, Callable[[Any], Any]] = {}
        # What the statement itself holds, such as the state in a condition.
        self._constants: dict[str, Any] = {}
        for bind, name in compiled.bind_names.items():
            convert = bind.type.dialect_impl(dialect).bind_processor(dialect)
            if convert is not None:
                self._converters[name] = convert
            if not bind.required:
                self._constants[name] = convert(bind.value) if convert else bind.value

    def parameters(self, values: Mapping[str, Any], where: Mapping[str, Any]) -> Any:
        """The parameters in the form that the driver takes."""
        parameters = {**self._constants, **values, **where}
        for name, convert in self._converters.items():
            parameters[name] = convert(parameters[name])
        if self._positions is None:
            return parameters
        return [parameters[name] for name in self._positions]


class Prepared:
    """An INSERT or UPDATE of columns that are known when it is executed. Thread-safe.

    Args:
        statement: Its conditions take their values from `bindparam`s without values.
    """

    def __init__(self, statement: UpdateBase) -> None:
        self._statement = statement
        self._compiled: dict[tuple[str, ...], _Compiled] = {}

    def execute(
        self,
        connection: Connection,
        values: Mapping[str, Any],
        where: Mapping[str, Any] = _NOTHING,
    ) -> int:
        """Executes it in the open transaction; returns how many rows it touched.

        Args:
            connection: A connection with a transaction.
            values: By column; callers give few combinations of columns.
            where: By parameter of the conditions.

        Raises:
            DBAPIError: The database refuses, in the same subclasses as elsewhere.
        """
        dialect = connection.dialect
        key = (dialect.name, *values)
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = _Compiled(self._statement, dialect, list(values))
        return execute(connection, compiled.text, compiled.parameters(values, where)).rowcount
