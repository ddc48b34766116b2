"""A data folder per module, and a site on it."""

from collections.abc import Iterator

import pytest
from tests.conftest import NewDatabase
from tests.server.service.site import Site

from rafiki.server.store.database import Database


@pytest.fixture(scope="module")
def database(
    tmp_path_factory: pytest.TempPathFactory, new_database: NewDatabase
) -> Iterator[Database]:
    with new_database(tmp_path_factory.mktemp("site")) as url, Database(url) as database:
        database.migrate()
        yield database


@pytest.fixture
def site(database: Database) -> Site:
    return Site.on(database)
