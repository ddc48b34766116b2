"""Model templates: register and read."""

from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO

from rafiki.resources import Model
from rafiki.server.domain.blobs import BlobStore, require_blobs
from rafiki.server.domain.clock import Clock
from rafiki.server.domain.errors import ModelRejected, ResourceNotFound
from rafiki.server.domain.names import ModelName, new_id
from rafiki.server.domain.requests import RequestKey
from rafiki.server.service.sources import MAX_SOURCE_BYTES, check_source
from rafiki.server.store.blob_records import record_blobs
from rafiki.server.store.database import Database
from rafiki.server.store.models import find_model, insert_model, list_models
from rafiki.server.store.request_ids import find_answer, record_answer

_CREATE = "CreateModel"


class ModelService:
    """The use cases around model templates. Thread-safe."""

    def __init__(self, database: Database, blobs: BlobStore, clock: Clock) -> None:
        self._database = database
        self._blobs = blobs
        self._clock = clock

    def check(self, model: Model) -> None:
        """Checks what can be checked before the source is there.

        Raises:
            ModelRejected: The source is too large.
        """
        if model.source.size_bytes > MAX_SOURCE_BYTES:
            raise ModelRejected(
                f"the source has {model.source.size_bytes} bytes; at most {MAX_SOURCE_BYTES}"
            )

    def check_source(self, model: Model, source: BinaryIO) -> None:
        """Checks the source itself, before it is stored. Raises ModelRejected."""
        check_source(source, model.model_class)

    def create(self, model: Model, *, owner: str, request: RequestKey) -> Model:
        """Registers a model whose source is stored.

        Raises:
            ModelRejected: The source is too large, no archive, or lacks the module.
            BlobsMissing: The source is not stored.
            RequestIdReused: The request id was used for something else.
        """
        self.check(model)
        with self._blobs.open(model.source) as source:
            check_source(source, model.model_class)
        with self._database.write() as connection:
            # Inside, where nothing is collected meanwhile.
            require_blobs(self._blobs, [model.source])
            name = find_answer(connection, owner=owner, method=_CREATE, request=request)
            if name is None:
                now = self._clock()
                created = ModelName(new_id())
                while find_model(connection, created) is not None:
                    created = ModelName(new_id())
                record_blobs(connection, [model.source], now)
                insert_model(connection, created, replace(model, owner=owner, create_time=now))
                name = str(created)
                record_answer(
                    connection,
                    owner=owner,
                    method=_CREATE,
                    request=request,
                    resource=name,
                    time=now,
                )
        return self.get(ModelName.parse(name))

    def get(self, name: ModelName) -> Model:
        """Reads a model. Raises ResourceNotFound."""
        with self._database.read() as connection:
            model = find_model(connection, name)
        if model is None:
            raise ResourceNotFound(str(name))
        return model

    def list(self, *, task: str, limit: int, after: ModelName | None) -> Sequence[Model]:
        """Reads models, newest first; an empty `task` means any."""
        with self._database.read() as connection:
            return list_models(connection, task=task, limit=limit, after=after)
