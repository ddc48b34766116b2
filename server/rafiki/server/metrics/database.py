"""A database that measures its write transactions."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from rafiki.server.metrics.counters import Counters
from rafiki.server.store.database import Database


class CountingDatabase(Database):
    """See Database. `counters` is set before the first write that is to be counted."""

    counters: Counters | None = None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """See Database."""
        asked = began = time.perf_counter()
        with super().write() as connection:
            began = time.perf_counter()
            yield connection
        if self.counters is not None:
            self.counters.write_wait.observe(began - asked)
            self.counters.write.observe(time.perf_counter() - began)
