"""Migrations of databases with data, from the first revision on.

`first_release.json` holds every row of a database that the code of revision 0001 wrote: a job
in the middle of its study, one that has ended, a model, a data set, a checkpoint, reports.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest
from sqlalchemy import Boolean, Connection, LargeBinary, MetaData, Table, insert, select, text
from tests.postgres import PostgresServer
from tests.server.service.site import Site, assign, complete

from rafiki.resources import TrainJobState, TrialState
from rafiki.server.domain.names import (
    CheckpointName,
    DatasetName,
    JobName,
    ModelName,
    StudyName,
    TrialName,
)
from rafiki.server.domain.requests import RequestKey
from rafiki.server.service.reading import JobReader
from rafiki.server.store.changes import last_change
from rafiki.server.store.checkpoints import checkpoint_tensors_of, find_checkpoint
from rafiki.server.store.database import Database, UnusableDatabase
from rafiki.server.store.datasets import find_dataset
from rafiki.server.store.migrations import upgrade
from rafiki.server.store.models import find_model
from rafiki.server.store.request_ids import find_answer

Rows: TypeAlias = dict[str, list[dict[str, object]]]

FIRST: Rows = json.loads((Path(__file__).parent / "first_release.json").read_text())
RUNNING, ENDED = (str(row["id"]) for row in FIRST["train_jobs"])
STUDY = StudyName(RUNNING, 1)
# Revision 0002 drops snapshots: they are folded anew from the events.
REWRITTEN = {"snapshots"}


@pytest.fixture
def url(dialect: str, tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of a database without tables."""
    if dialect == "sqlite":
        return f"sqlite:///{tmp_path / 'rafiki.db'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.url(server.create_database())


@pytest.fixture
def upgraded(url: str) -> Iterator[Database]:
    """The database of the first release, after its upgrade."""
    with Database(url) as database:
        with database.write() as connection:
            upgrade(connection, "0001")
            fill(connection)
    with Database(url) as database:
        database.migrate()
        yield database


def fill(connection: Connection) -> None:
    """Inserts the rows of the first release."""
    for table in tables(connection).sorted_tables:
        for row in FIRST.get(table.name, ()):
            connection.execute(insert(table), from_json(table, row))
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT setval('changes_id_seq', max(id)) FROM changes"))


def tables(connection: Connection) -> MetaData:
    """The tables that are there."""
    metadata = MetaData()
    metadata.reflect(connection)
    return metadata


def from_json(table: Table, row: dict[str, object]) -> dict[str, object]:
    """The values of a row, by the types of its columns."""
    values = dict(row)
    for name, value in row.items():
        kind = table.columns[name].type
        if isinstance(kind, Boolean):
            values[name] = bool(value)
        elif isinstance(kind, LargeBinary):
            values[name] = bytes.fromhex(str(value))
    return values


def test_an_upgrade_keeps_every_row(upgraded: Database) -> None:
    with upgraded.read() as connection:
        metadata = tables(connection)
        for name, rows in FIRST.items():
            table = metadata.tables[name]
            if name in REWRITTEN:
                continue
            columns = [table.columns[column] for column in rows[0]]
            found = [dict(row) for row in connection.execute(select(*columns)).mappings()]
            expected = [from_json(table, row) for row in rows]
            assert sorted(map(repr, found)) == sorted(map(repr, expected)), name


def test_what_an_upgraded_database_holds_can_be_read(upgraded: Database) -> None:
    site = Site.on(upgraded)
    reader = JobReader(upgraded, site.views)
    assert reader.job(JobName(RUNNING)).state is TrainJobState.RUNNING
    assert reader.job(JobName(ENDED)).state is TrainJobState.SUCCEEDED
    listed = reader.trials(STUDY, states=(), phases=(), after=None, most=10)
    assert [(trial.state, trial.score) for trial in listed] == [
        (TrialState.COMPLETED, 0.9),
        (TrialState.COMPLETED, 0.25),
        (TrialState.RUNNING, None),
    ]
    first = TrialName(RUNNING, 1, 1)
    (line,) = reader.logs(first, min_level=None, after=(0, 0), most=10)
    assert line.message == "epoch 1: ä世"
    (metrics,) = reader.metrics(first, after=(0, 0), most=10)
    assert (metrics.values, metrics.score) == ({"loss": 0.5}, 0.4)
    (plot,) = reader.plots(first, after="", most=10)
    assert plot.metrics == ("loss",)
    (round_,) = reader.rounds(STUDY, after=0, most=10)
    assert round_.entropy == 1.5
    with upgraded.read() as connection:
        model = find_model(connection, ModelName("00000001"))
        dataset = find_dataset(connection, DatasetName("00000002"))
        name = CheckpointName(RUNNING, 1, 1, 1)
        checkpoint = find_checkpoint(connection, name)
        (tensor,) = checkpoint_tensors_of(connection, name)
        key = RequestKey("11111111-1111-1111-1111-111111111111", "ab" * 32)
        answer = find_answer(connection, owner="users/local", method="CreateModel", request=key)
        assert last_change(connection) == len(FIRST["changes"])
    assert model is not None and set(model.knob_config) == {"rate", "kind"}
    assert dataset is not None and dataset.display_name == "Digits"
    assert checkpoint is not None and checkpoint.size_bytes == 4096
    assert (tensor.path, tensor.shape, tensor.updates) == ("w", (32, 32), 7)
    assert answer == "models/00000001"


def test_an_upgraded_study_goes_on_to_its_end(upgraded: Database) -> None:
    site = Site.on(upgraded)
    site.jobs.restore()
    (runner,) = site.jobs.all()
    (held,) = site.leases.of_study(STUDY)
    assert held.trial == TrialName(RUNNING, 1, 3)
    runner.lose(held)
    for number in (3, 4, 5):
        assignment = assign(runner)
        assert assignment.lease.trial.trial == number
        complete(runner, assignment)
    runner.advance(1)
    assert runner.is_ended
    assert site.job(runner).state is TrainJobState.SUCCEEDED


def test_an_upgrade_that_fails_changes_nothing(url: str) -> None:
    with Database(url) as database:
        with database.write() as connection:
            upgrade(connection, "0001")
            fill(connection)
            # What a later revision would add is in its way.
            connection.execute(text("ALTER TABLE study_events ADD COLUMN message INTEGER"))
        with pytest.raises(Exception, match="message"):
            database.migrate()
        with database.read() as connection:
            assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "0001"
            assert "pause_time" not in tables(connection).tables["train_jobs"].columns
            assert connection.scalar(text("SELECT count(*) FROM snapshots")) == 1


def test_a_newer_schema_is_refused_and_left_alone(url: str) -> None:
    with Database(url) as database:
        database.migrate()
        with database.write() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(UnusableDatabase, match=r"9999.*newer than this release"):
            database.migrate()
        with database.read() as connection:
            assert connection.scalar(text("SELECT version_num FROM alembic_version")) == "9999"
