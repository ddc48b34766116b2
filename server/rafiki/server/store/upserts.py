"""INSERT ... ON CONFLICT, which SQLite and PostgreSQL know, and SQLAlchemy calls by two names."""

from functools import cache

from sqlalchemy import Connection, Insert, Table
from sqlalchemy.dialects import postgresql, sqlite


def insert_or_keep(connection: Connection, table: Table) -> Insert:
    """Inserts rows, but those whose key is taken."""
    return _insert_or_keep(connection.dialect.name, table)


def insert_or_replace(connection: Connection, table: Table) -> Insert:
    """Inserts a row in the place of the one that has its primary key; it names every column."""
    return _insert_or_replace(connection.dialect.name, table)


@cache
def _insert_or_keep(dialect: str, table: Table) -> Insert:
    return _insert(dialect, table).on_conflict_do_nothing()


@cache
def _insert_or_replace(dialect: str, table: Table) -> Insert:
    statement = _insert(dialect, table)
    others = {
        column.name: statement.excluded[column.name]
        for column in table.columns
        if not column.primary_key
    }
    return statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns), set_=others
    )


def _insert(dialect: str, table: Table) -> postgresql.Insert | sqlite.Insert:
    return postgresql.insert(table) if dialect == "postgresql" else sqlite.insert(table)
