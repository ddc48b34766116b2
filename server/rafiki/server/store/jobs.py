"""Train jobs in the database."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Connection, Row, and_, func, insert, or_, select, update

from rafiki.resources import Budget, Direction, StudySpec, TrainJob, TrainJobState
from rafiki.server.domain.budget_clock import BudgetTimes
from rafiki.server.domain.names import JobName
from rafiki.server.store.codecs import spec_from_json
from rafiki.server.store.tables import studies, train_jobs

_MICROSECOND = timedelta(microseconds=1)
_GOING = (TrainJobState.RUNNING, TrainJobState.PAUSED)
_UNFINISHED = (*_GOING, TrainJobState.STOPPING)
_CLOCK: tuple[Column[Any], ...] = (
    train_jobs.c.first_assign_time,
    train_jobs.c.paused_us,
    train_jobs.c.pause_time,
)


def insert_job(connection: Connection, job: TrainJob, *, seed: int) -> None:
    """Inserts a job; its name, version, owner and times are set."""
    budget = job.budget
    connection.execute(
        insert(train_jobs),
        {
            "id": JobName.parse(job.name).job,
            "app": job.app,
            "app_version": job.app_version,
            "task": job.task,
            "train_dataset": job.train_dataset,
            "validation_dataset": job.validation_dataset,
            "test_dataset": job.test_dataset,
            "train_args": dict(job.train_args),
            "budget_time_us": budget.time // _MICROSECOND if budget.time else None,
            "gpu_count": budget.gpu_count,
            "model_trial_count": budget.model_trial_count,
            "goal_score": job.goal_score,
            "direction": job.direction,
            "seed": seed,
            "owner": job.owner,
            "state": job.state,
            "create_time": job.create_time,
        },
    )


def next_app_version(connection: Connection, owner: str, app: str) -> int:
    """The version of the owner's next job of an app."""
    statement = select(func.max(train_jobs.c.app_version)).where(
        train_jobs.c.owner == owner, train_jobs.c.app == app
    )
    return int(connection.execute(statement).scalar() or 0) + 1


def find_job(connection: Connection, job_id: str) -> TrainJob | None:
    """The job, if it exists, without what only memory knows."""
    row = connection.execute(select(train_jobs).where(train_jobs.c.id == job_id)).one_or_none()
    return None if row is None else _job(connection, row)


def list_jobs(
    connection: Connection,
    *,
    owner: str | None,
    app: str,
    states: Iterable[TrainJobState],
    after: tuple[datetime, str] | None,
    most: int,
) -> list[TrainJob]:
    """Jobs, newest first, from the one after the key `after`. `owner` None means any."""
    table = train_jobs.c
    statement = select(train_jobs).order_by(table.create_time.desc(), table.id.desc()).limit(most)
    if owner is not None:
        statement = statement.where(table.owner == owner)
    if app:
        statement = statement.where(table.app == app)
    if states := tuple(states):
        statement = statement.where(table.state.in_(states))
    if after is not None:
        time, job_id = after
        statement = statement.where(
            or_(
                table.create_time < time,
                and_(table.create_time == time, table.id < job_id),
            )
        )
    return [_job(connection, row) for row in connection.execute(statement).all()]


def unfinished_jobs(connection: Connection) -> list[str]:
    """The ids of the jobs that have not ended."""
    statement = select(train_jobs.c.id).where(train_jobs.c.state.in_(_UNFINISHED))
    return list(connection.execute(statement.order_by(train_jobs.c.create_time)).scalars())


def ask_to_stop(connection: Connection, job_id: str) -> bool:
    """RUNNING or PAUSED to STOPPING; False if the job is in another state."""
    statement = update(train_jobs).where(train_jobs.c.id == job_id, train_jobs.c.state.in_(_GOING))
    values: dict[str, Any] = {"state": TrainJobState.STOPPING}
    return connection.execute(statement, values).rowcount == 1


def end_job(connection: Connection, job_id: str, state: TrainJobState, time: datetime) -> bool:
    """Ends a job; False if it has ended already."""
    statement = update(train_jobs).where(
        train_jobs.c.id == job_id, train_jobs.c.state.in_(_UNFINISHED)
    )
    return connection.execute(statement, {"state": state, "end_time": time}).rowcount == 1


def pause_job(connection: Connection, job_id: str, time: datetime) -> bool:
    """RUNNING to PAUSED since `time`; False if the job is in another state."""
    statement = update(train_jobs).where(
        train_jobs.c.id == job_id, train_jobs.c.state == TrainJobState.RUNNING
    )
    values = {"state": TrainJobState.PAUSED, "pause_time": time}
    return connection.execute(statement, values).rowcount == 1


def resume_job(connection: Connection, job_id: str, time: datetime) -> bool:
    """PAUSED to RUNNING, the pause having ended at `time`; False if it is in another state."""
    statement = update(train_jobs).where(
        train_jobs.c.id == job_id, train_jobs.c.state == TrainJobState.PAUSED
    )
    paused = budget_times(connection, job_id).resumed(time).paused
    values = {
        "state": TrainJobState.RUNNING,
        "pause_time": None,
        "paused_us": paused // _MICROSECOND,
    }
    return connection.execute(statement, values).rowcount == 1


def job_state(connection: Connection, job_id: str) -> TrainJobState:
    """The state of a job that exists."""
    statement = select(train_jobs.c.state).where(train_jobs.c.id == job_id)
    return TrainJobState(connection.execute(statement).scalar_one())


def start_budget_clock(connection: Connection, job_id: str, time: datetime) -> datetime:
    """When the time budget of a job started: now, unless it had before."""
    statement = update(train_jobs).where(
        train_jobs.c.id == job_id, train_jobs.c.first_assign_time.is_(None)
    )
    if connection.execute(statement, {"first_assign_time": time}).rowcount:
        return time
    started = budget_times(connection, job_id).start
    assert started is not None
    return started


def budget_times(connection: Connection, job_id: str) -> BudgetTimes:
    """The clock of the time budget of a job that exists."""
    statement = select(*_CLOCK).where(train_jobs.c.id == job_id)
    return _times(connection.execute(statement).one())


def set_best_of_job(connection: Connection, job_id: str, best_trial: str) -> None:
    """Sets the best deployable trial so far, a name."""
    statement = update(train_jobs).where(train_jobs.c.id == job_id)
    connection.execute(statement, {"best_trial": best_trial})


def _job(connection: Connection, row: Row[Any]) -> TrainJob:
    time = None if row.budget_time_us is None else row.budget_time_us * _MICROSECOND
    return TrainJob(
        app=row.app,
        task=row.task,
        studies=_specs(connection, row.id),
        budget=Budget(time=time, gpu_count=row.gpu_count, model_trial_count=row.model_trial_count),
        name=str(JobName(row.id)),
        app_version=row.app_version,
        train_dataset=row.train_dataset,
        validation_dataset=row.validation_dataset,
        test_dataset=row.test_dataset,
        train_args=row.train_args,
        goal_score=row.goal_score,
        direction=Direction(row.direction),
        seed=row.seed,
        owner=row.owner,
        state=TrainJobState(row.state),
        best_trial=row.best_trial,
        create_time=row.create_time,
        end_time=row.end_time,
        time_used=_time_used(row),
    )


def _times(row: Row[Any]) -> BudgetTimes:
    return BudgetTimes(
        start=row.first_assign_time,
        paused=row.paused_us * _MICROSECOND,
        pause_time=row.pause_time,
    )


def _time_used(row: Row[Any]) -> timedelta | None:
    """What a job that has ended had used; None for others, as it is for memory to say."""
    times = _times(row)
    if times.start is None or row.end_time is None:
        return None
    return timedelta(seconds=times.elapsed_s(row.end_time))


def _specs(connection: Connection, job_id: str) -> tuple[StudySpec, ...]:
    statement = (
        select(studies.c.spec, studies.c.knob_config, studies.c.settings)
        .where(studies.c.job == job_id)
        .order_by(studies.c.number)
    )
    return tuple(
        spec_from_json(row.spec, row.knob_config, row.settings)
        for row in connection.execute(statement)
    )
