"""Rows of `models`."""

from collections.abc import Sequence

from sqlalchemy import Connection, RowMapping, bindparam, insert, select

from rafiki.model.serial import config_from_json, config_to_json
from rafiki.resources import Digest, Model
from rafiki.server.domain.names import ModelName
from rafiki.server.store.paging import newest_first
from rafiki.server.store.tables import models

_FIND = select(models).where(models.c.id == bindparam("id"))


def insert_model(connection: Connection, name: ModelName, model: Model) -> None:
    """Adds a model under `name`, whatever `model.name` says. Its blob must be recorded."""
    connection.execute(
        insert(models),
        {
            "id": name.model,
            "display_name": model.display_name,
            "task": model.task,
            "model_class": model.model_class,
            "source_sha256": model.source.sha256,
            "source_size_bytes": model.source.size_bytes,
            "dependencies": dict(model.dependencies),
            "knob_config": config_to_json(model.knob_config),
            "candidate_batches": model.candidate_batches,
            "owner": model.owner,
            "create_time": model.create_time,
        },
    )


def find_model(connection: Connection, name: ModelName) -> Model | None:
    """The model called `name`, or None."""
    row = connection.execute(_FIND, {"id": name.model}).mappings().one_or_none()
    return None if row is None else _model(row)


def list_models(
    connection: Connection, *, task: str, limit: int, after: ModelName | None
) -> Sequence[Model]:
    """At most `limit` models, newest first, those after `after` if there is one.

    An empty `task` means any.
    """
    last = None
    if after is not None:
        last = connection.execute(_FIND, {"id": after.model}).mappings().one_or_none()
        if last is None:
            return []
    query = newest_first(select(models), (models.c.create_time, models.c.id), last)
    if task:
        query = query.where(models.c.task == task)
    return [_model(row) for row in connection.execute(query.limit(limit)).mappings()]


def _model(row: RowMapping) -> Model:
    return Model(
        name=str(ModelName(row["id"])),
        display_name=row["display_name"],
        task=row["task"],
        model_class=row["model_class"],
        source=Digest(row["source_sha256"], row["source_size_bytes"]),
        knob_config=config_from_json(row["knob_config"]),
        dependencies=row["dependencies"],
        candidate_batches=row["candidate_batches"],
        owner=row["owner"],
        create_time=row["create_time"],
    )
