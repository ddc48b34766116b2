"""What trials report while they run: log lines, metrics and plots."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Table, and_, bindparam, func, insert, or_, select

from rafiki.resources import LogLevel, TrialLog, TrialMetrics, TrialPlot
from rafiki.server.domain.names import TrialName
from rafiki.server.store.tables import trial_logs, trial_metrics, trial_plots
from rafiki.server.store.upserts import insert_or_replace

_LEVELS = tuple(LogLevel)


def _last(table: Table) -> Any:
    return select(func.max(table.c.sequence)).where(
        table.c.job == bindparam("job"),
        table.c.study == bindparam("study"),
        table.c.trial == bindparam("trial"),
        table.c.attempt == bindparam("attempt"),
    )


_LAST = (_last(trial_logs), _last(trial_metrics))


def stored_sequence(connection: Connection, trial: TrialName, attempt: int) -> int:
    """The highest sequence stored for an attempt, over logs and metrics; 0 for none."""
    key = _attempt(trial, attempt)
    return max(int(connection.execute(statement, key).scalar() or 0) for statement in _LAST)


def insert_logs(
    connection: Connection, trial: TrialName, attempt: int, logs: Iterable[TrialLog]
) -> None:
    """Appends log lines, whose sequences are new."""
    key = _attempt(trial, attempt)
    rows = [
        {**key, "sequence": x.sequence, "time": x.time, "level": x.level, "message": x.message}
        for x in logs
    ]
    if rows:
        connection.execute(insert(trial_logs), rows)


def insert_metrics(
    connection: Connection, trial: TrialName, attempt: int, metrics: Iterable[TrialMetrics]
) -> None:
    """Appends metrics, whose sequences are new."""
    key = _attempt(trial, attempt)
    rows = [
        {
            **key,
            "sequence": x.sequence,
            "time": x.time,
            "step": x.step,
            "metrics": dict(x.values),
            "score": x.score,
        }
        for x in metrics
    ]
    if rows:
        connection.execute(insert(trial_metrics), rows)


def put_plots(connection: Connection, trial: TrialName, plots: Iterable[TrialPlot]) -> None:
    """Stores plots, each in the place of the one of the same title."""
    for plot in plots:
        values = {"title": plot.title, "metrics": list(plot.metrics), "x_axis": plot.x_axis}
        connection.execute(insert_or_replace(connection, trial_plots), _key(trial) | values)


def list_logs(
    connection: Connection,
    trial: TrialName,
    *,
    min_level: LogLevel | None,
    after: tuple[int, int],
    most: int,
) -> list[TrialLog]:
    """Log lines by attempt and sequence, from the one after this key."""
    levels: Sequence[LogLevel] = _LEVELS[_LEVELS.index(min_level) :] if min_level else ()
    statement = _page(trial_logs, trial, after, most)
    if levels:
        statement = statement.where(trial_logs.c.level.in_(levels))
    return [
        TrialLog(
            sequence=row.sequence,
            time=row.time,
            level=LogLevel(row.level),
            message=row.message,
            attempt=row.attempt,
        )
        for row in connection.execute(statement)
    ]


def list_metrics(
    connection: Connection, trial: TrialName, *, after: tuple[int, int], most: int
) -> list[TrialMetrics]:
    """Metrics by attempt and sequence, from the one after this key."""
    return [
        TrialMetrics(
            sequence=row.sequence,
            time=row.time,
            values=row.metrics,
            step=row.step,
            score=row.score,
            attempt=row.attempt,
        )
        for row in connection.execute(_page(trial_metrics, trial, after, most))
    ]


def list_plots(
    connection: Connection, trial: TrialName, *, after: str, most: int
) -> list[TrialPlot]:
    """Plots by title, from the one after the title `after`."""
    statement = (
        select(trial_plots)
        .where(*_is(trial_plots, trial), trial_plots.c.title > after)
        .order_by(trial_plots.c.title)
        .limit(most)
    )
    return [
        TrialPlot(title=row.title, metrics=tuple(row.metrics), x_axis=row.x_axis)
        for row in connection.execute(statement)
    ]


def _page(table: Table, trial: TrialName, after: tuple[int, int], most: int) -> Any:
    attempt, sequence = after
    return (
        select(table)
        .where(
            *_is(table, trial),
            or_(
                table.c.attempt > attempt,
                and_(table.c.attempt == attempt, table.c.sequence > sequence),
            ),
        )
        .order_by(table.c.attempt, table.c.sequence)
        .limit(most)
    )


def _is(table: Table, trial: TrialName) -> tuple[Any, Any, Any]:
    return (
        table.c.job == trial.job,
        table.c.study == trial.study,
        table.c.trial == trial.trial,
    )


def _key(trial: TrialName) -> dict[str, Any]:
    return {"job": trial.job, "study": trial.study, "trial": trial.trial}


def _attempt(trial: TrialName, attempt: int) -> dict[str, Any]:
    return {**_key(trial), "attempt": attempt}
