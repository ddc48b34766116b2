"""The change log."""

from tests.server.conftest import SettableClock

from rafiki.server.domain.names import StudyName, TrialName
from rafiki.server.store.changes import (
    Change,
    ChangeKind,
    add_job_change,
    add_round_change,
    add_study_change,
    add_trial_change,
    is_kept,
    last_change,
    latest_of_each,
    prune_changes,
    read_changes,
)
from rafiki.server.store.database import Database


def fill(database: Database, study: StudyName, clock: SettableClock) -> None:
    """Five changes: the job, the study, a trial, a round, and the trial again."""
    trial = TrialName(study.job, study.study, 7)
    with database.write() as connection:
        add_job_change(connection, study.job, clock())
        add_study_change(connection, study, clock())
        add_trial_change(connection, trial, clock())
        add_round_change(connection, study, 2, clock())
        add_trial_change(connection, trial, clock())


def test_changes_are_read_in_order_from_any_point(
    database: Database, study: StudyName, clock: SettableClock
) -> None:
    fill(database, study, clock)
    with database.read() as connection:
        assert read_changes(connection, study.job, 1, 3) == [
            Change(2, ChangeKind.STUDY, 1, None),
            Change(3, ChangeKind.TRIAL, 1, 7),
            Change(4, ChangeKind.ROUND, 1, 2),
        ]
        assert read_changes(connection, "ffffffff", 0, 3) == []
        assert last_change(connection) == 5


def test_of_every_resource_the_latest_change_is_left(
    database: Database, study: StudyName, clock: SettableClock
) -> None:
    fill(database, study, clock)
    with database.read() as connection:
        log = read_changes(connection, study.job, 0, 10)
    assert [change.change_id for change in latest_of_each(log)] == [1, 2, 4, 5]


def test_a_position_is_kept_until_what_follows_it_is_pruned(
    database: Database, study: StudyName, clock: SettableClock
) -> None:
    fill(database, study, clock)
    with database.write() as connection:
        assert prune_changes(connection, keep=2) == 3
        assert [is_kept(connection, position) for position in range(7)] == [
            False,
            False,
            False,
            True,
            True,
            True,
            False,
        ]
        prune_changes(connection, keep=0)
        assert [is_kept(connection, position) for position in (3, 4, 5)] == [False, True, True]
        add_job_change(connection, study.job, clock())
        assert last_change(connection) == 6


def test_an_empty_log_keeps_its_beginning(database: Database) -> None:
    with database.read() as connection:
        assert is_kept(connection, 0)
        assert not is_kept(connection, 1)
