"""Data sets: store and read."""

from collections.abc import Sequence
from dataclasses import replace

from rafiki.resources import Dataset
from rafiki.server.domain.blobs import BlobStore, require_blobs
from rafiki.server.domain.clock import Clock
from rafiki.server.domain.errors import InvalidArgument, ResourceNotFound
from rafiki.server.domain.names import DatasetName, new_id
from rafiki.server.domain.requests import RequestKey
from rafiki.server.store.blob_records import record_blobs
from rafiki.server.store.database import Database
from rafiki.server.store.datasets import find_dataset, insert_dataset, list_datasets
from rafiki.server.store.request_ids import find_answer, record_answer

_CREATE = "CreateDataset"


class DatasetService:
    """The use cases around data sets. Thread-safe."""

    def __init__(self, database: Database, blobs: BlobStore, clock: Clock) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock

    def check(self, dataset: Dataset) -> None:
        """Checks what can be checked before the bytes are there. Raises InvalidArgument."""
        if dataset.digest.size_bytes == 0:
            raise InvalidArgument([("dataset.digest.size_bytes", "must be above 0")])

    def create(self, dataset: Dataset, *, owner: str, request: RequestKey) -> Dataset:
        """Registers a data set whose bytes are stored.

        Raises:
            InvalidArgument: It has no bytes.
            BlobsMissing: The bytes are not stored.
            RequestIdReused: The request id was used for something else.
        """
        self.check(dataset)
        with self._database.write() as connection:
            # Inside, where nothing is collected meanwhile.
            require_blobs(self._blobs, [dataset.digest])
            name = find_answer(connection, owner=owner, method=_CREATE, request=request)
            if name is None:
                now = self._clock()
                created = DatasetName(new_id())
                while find_dataset(connection, created) is not None:
                    created = DatasetName(new_id())
                record_blobs(connection, [dataset.digest], now)
                described = replace(dataset, owner=owner, create_time=now)
                insert_dataset(connection, created, described)
                name = str(created)
                record_answer(
                    connection,
                    owner=owner,
                    method=_CREATE,
                    request=request,
                    resource=name,
                    time=now,
                )
        return self.get(DatasetName.parse(name))

    def get(self, name: DatasetName) -> Dataset:
        """Reads a data set's description. Raises ResourceNotFound."""
        with self._database.read() as connection:
            dataset = find_dataset(connection, name)
        if dataset is None:
            raise ResourceNotFound(str(name))
        return dataset

    def list(self, *, task: str, limit: int, after: DatasetName | None) -> Sequence[Dataset]:
        """Reads data sets, newest first; an empty `task` means any."""
        with self._database.read() as connection:
            return list_datasets(connection, task=task, limit=limit, after=after)
