"""Steps that fail as the database does, before or after their commit."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection
from tests.server.service.site import HIGH, WORKERS, Site, assign, check, complete

from rafiki.resources import StopReason, TrainJobState, TrialState
from rafiki.server.domain.errors import StorageUnavailable
from rafiki.server.domain.names import JobName
from rafiki.server.store.database import Database
from rafiki.server.store.jobs import job_state


class FailingDatabase(Database):
    """A database that fails when a test says so."""

    is_away = False
    # Says of a commit, once it is made, whether its answer never comes.
    is_unheard: Callable[[Connection], bool] | None = None

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A write transaction."""
        self._be_there()
        with super().write() as connection:
            yield connection
        if self.is_unheard is not None:
            with super().read() as connection:
                self.is_away = self.is_unheard(connection)
        if self.is_away:
            self.is_unheard = None
            self._be_there()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction."""
        self._be_there()
        with super().read() as connection:
            yield connection

    def _be_there(self) -> None:
        if self.is_away:
            raise StorageUnavailable("the database is away")


@pytest.fixture
def failing(database_url: str) -> Iterator[FailingDatabase]:
    with FailingDatabase(database_url) as database:
        database.migrate()
        yield database


@contextmanager
def unheard_commit(
    database: FailingDatabase, which: Callable[[Connection], bool] = lambda connection: True
) -> Iterator[None]:
    """The first such commit in the block is not heard of, and the database away after it."""
    database.is_unheard = which
    with pytest.raises(StorageUnavailable):
        yield
    assert database.is_away
    database.is_away = False


@pytest.mark.parametrize("is_made", [False, True], ids=["lost", "unheard"])
def test_an_outcome_that_is_reported_again_counts_once(
    failing: FailingDatabase, is_made: bool
) -> None:
    site = Site.on(failing)
    runner = site.create()
    first = assign(runner)
    if is_made:
        with unheard_commit(failing):
            complete(runner, first)
    else:
        failing.is_away = True
        with pytest.raises(StorageUnavailable):
            complete(runner, first)
        failing.is_away = False
    assert complete(runner, first).state is TrialState.COMPLETED
    assign(runner)
    check(site, runner)
    assert runner._steps.fold.number == 2


def test_an_assignment_that_no_worker_heard_of_is_lost_with_its_lease(
    failing: FailingDatabase,
) -> None:
    site = Site.on(failing)
    runner = site.create()
    with unheard_commit(failing):
        assign(runner)
    second = assign(runner, WORKERS[1])
    assert second.trial.name.endswith("/2")
    (lease,) = [x for x in site.leases.of_study(runner.facts.name) if x.trial.trial == 1]
    site.leases.drop(lease.token)
    runner.lose(lease)
    again = assign(runner, WORKERS[1])
    assert (again.lease.trial.trial, again.trial.attempt) == (1, 2)
    check(site, runner)


def test_a_lease_lost_while_the_database_is_away_is_lost_later(failing: FailingDatabase) -> None:
    site = Site.on(failing)
    runner = site.create()
    lease = assign(runner).lease
    site.leases.drop(lease.token)
    failing.is_away = True
    with pytest.raises(StorageUnavailable):
        runner.lose(lease)
    failing.is_away = False
    runner.lose(lease)
    check(site, runner)
    assert assign(runner, WORKERS[1]).trial.attempt == 2


def test_a_study_whose_end_was_not_heard_of_has_ended(failing: FailingDatabase) -> None:
    site = Site.on(failing)
    runner = site.create(trials=1)
    complete(runner, assign(runner), HIGH)
    job_id = runner.facts.name.job
    with unheard_commit(failing, lambda connection: job_state(connection, job_id).is_end):
        runner.advance(1)
    assert not runner.is_ended
    runner.advance(1)
    assert runner.is_ended
    assert site.job(runner).state is TrainJobState.SUCCEEDED


def test_a_job_that_was_stored_is_started_although_its_start_failed(
    failing: FailingDatabase,
) -> None:
    site = Site.on(failing)
    with unheard_commit(failing):
        site.create()
    assert site.jobs.all() == []
    failing.is_away = True
    with pytest.raises(StorageUnavailable):
        site.jobs.settle()
    failing.is_away = False
    site.jobs.settle()
    (runner,) = site.jobs.all()
    assign(runner)
    site.jobs.settle()
    assert site.jobs.all() == [runner]


def test_a_job_that_was_to_stop_stops_although_that_failed(failing: FailingDatabase) -> None:
    site = Site.on(failing)
    runner = site.create()
    assign(runner)
    with unheard_commit(failing):
        site.service.stop(JobName(runner.facts.name.job))
    site.jobs.settle()
    (live,) = runner._steps.fold.running
    assert live.trial.stop_reason is StopReason.JOB_ENDED
    check(site, runner)


def test_a_pause_that_was_not_heard_of_is_one(failing: FailingDatabase) -> None:
    site = Site.on(failing)
    runner = site.create()
    with unheard_commit(failing):
        site.service.pause(JobName(runner.facts.name.job))
    site.jobs.settle()
    assert runner.assign(WORKERS[0], 1) is None
