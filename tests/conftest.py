"""What all tests share: databases of either kind, and patience."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TypeAlias

import pytest
from hypothesis import settings
from tests.postgres import PostgresServer, running_postgres

# How long an example takes is the machine's affair.
settings.register_profile("rafiki", deadline=None)
settings.load_profile("rafiki")

# See the fixture.
NewDatabase: TypeAlias = Callable[[Path], AbstractContextManager[str]]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server; the test is skipped where none is installed."""
    with running_postgres() as server:
        yield server


@pytest.fixture(
    scope="module", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)]
)
def dialect(request: pytest.FixtureRequest) -> str:
    """What a test runs on, one after the other."""
    return str(request.param)


@pytest.fixture(scope="module")
def new_database(dialect: str, request: pytest.FixtureRequest) -> NewDatabase:
    """Gives the URL of a database for as long as a block, on SQLite in this folder."""

    @contextmanager
    def lend(folder: Path) -> Iterator[str]:
        if dialect == "sqlite":
            yield f"sqlite:///{folder / 'rafiki.db'}"
            return
        server: PostgresServer = request.getfixturevalue("postgres")
        with server.database() as name:
            yield server.url(name)

    return lend
