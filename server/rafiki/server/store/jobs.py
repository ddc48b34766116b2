"""Train jobs in the database."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, or_, select, update

from rafiki.resources import Budget, Direction, StudySpec, TrainJob, TrainJobState
from rafiki.server.domain.names import JobName
from rafiki.server.store.codecs import spec_from_json
from rafiki.server.store.tables import studies, train_jobs

_MICROSECOND = timedelta(microseconds=1)
_RUNNING = (TrainJobState.RUNNING, TrainJobState.STOPPING)


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
    """The job, if it exists, without what only the sessions know."""
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
    statement = select(train_jobs.c.id).where(train_jobs.c.state.in_(_RUNNING))
    return list(connection.execute(statement.order_by(train_jobs.c.create_time)).scalars())


def ask_to_stop(connection: Connection, job_id: str) -> bool:
    """RUNNING to STOPPING; False if the job is in another state."""
    statement = update(train_jobs).where(
        train_jobs.c.id == job_id, train_jobs.c.state == TrainJobState.RUNNING
    )
    values: dict[str, Any] = {"state": TrainJobState.STOPPING}
    return connection.execute(statement, values).rowcount == 1


def end_job(connection: Connection, job_id: str, state: TrainJobState, time: datetime) -> bool:
    """Ends a job; False if it has ended already."""
    statement = update(train_jobs).where(
        train_jobs.c.id == job_id, train_jobs.c.state.in_(_RUNNING)
    )
    return connection.execute(statement, {"state": state, "end_time": time}).rowcount == 1


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
    started = budget_clock_start(connection, job_id)
    assert started is not None
    return started


def budget_clock_start(connection: Connection, job_id: str) -> datetime | None:
    """When the time budget of a job started, if it has."""
    statement = select(train_jobs.c.first_assign_time).where(train_jobs.c.id == job_id)
    started: datetime | None = connection.execute(statement).scalar_one()
    return started


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
    )


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
