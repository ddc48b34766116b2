"""The studies that a worker names when it opens a session."""

from rafiki.server.domain.errors import ResourceNotFound
from rafiki.server.domain.names import StudyName
from rafiki.server.domain.workers import Worker
from rafiki.server.store.database import Database
from rafiki.server.store.jobs import find_job
from rafiki.server.store.studies import find_study


class NamedStudies:
    """Looks up what workers name. Thread-safe."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def check(self, worker: Worker) -> None:
        """Raises ResourceNotFound if a study or job that the worker names does not exist."""
        if not worker.studies:
            return
        with self._database.read() as connection:
            for name in worker.studies:
                if isinstance(name, StudyName):
                    exists = find_study(connection, name) is not None
                else:
                    exists = find_job(connection, name.job) is not None
                if not exists:
                    raise ResourceNotFound(str(name))
