"""Listing trials: in the order proposed, by score, and the deployable ones best first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, case, or_, select, true

from rafiki.resources import Direction, Trial, TrialPhase, TrialState
from rafiki.server.domain.names import StudyName, TrialName
from rafiki.server.domain.studies import DEPLOYABLE_PHASES
from rafiki.server.store.tables import studies, trials
from rafiki.server.store.trials import trial_of

_T = trials.c
_RANK = case({phase: rank for rank, phase in enumerate(DEPLOYABLE_PHASES)}, value=_T.phase)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialFilter:
    """Which trials of a job; `study` None means all studies, empty filters anything."""

    job: str
    study: int | None = None
    states: tuple[TrialState, ...] = ()
    phases: tuple[TrialPhase, ...] = ()

    def condition(self) -> ColumnElement[bool]:
        """The condition on rows."""
        conditions: list[ColumnElement[bool]] = [_T.job == self.job]
        if self.study is not None:
            conditions.append(_T.study == self.study)
        if self.states:
            conditions.append(_T.state.in_(self.states))
        if self.phases:
            conditions.append(_T.phase.in_(self.phases))
        return and_(*conditions)


def list_proposed(
    connection: Connection, which: TrialFilter, *, after: tuple[int, int] | None, most: int
) -> list[Trial]:
    """Trials by study and number, from the one after this key."""
    statement = select(trials).where(which.condition()).order_by(_T.study, _T.number).limit(most)
    if after is not None:
        statement = statement.where(_follows(*after))
    return _trials(connection, statement)


def list_by_score(
    connection: Connection,
    which: TrialFilter,
    direction: Direction,
    *,
    after: tuple[float | None, int, int] | None,
    most: int,
) -> list[Trial]:
    """Trials by score, best first, those without one last; then by study and number."""
    score = _best_first(direction)
    statement = (
        select(trials)
        .where(which.condition())
        .order_by(score.nulls_last(), _T.study, _T.number)
        .limit(most)
    )
    if after is not None:
        value, study, number = after
        if value is None:
            statement = statement.where(_T.score.is_(None), _follows(study, number))
        else:
            statement = statement.where(
                or_(
                    _is_behind(value, direction),
                    _T.score.is_(None),
                    and_(_T.score == value, _follows(study, number)),
                )
            )
    return _trials(connection, statement)


def list_deployable(
    connection: Connection,
    job: str,
    study: int | None,
    direction: Direction,
    *,
    after: tuple[int, float, int, int] | None,
    most: int,
) -> list[Trial]:
    """Deployable trials: FINAL_TRAIN before TUNE, then by score; the key begins with the rank."""
    which = TrialFilter(
        job=job, study=study, states=(TrialState.COMPLETED,), phases=DEPLOYABLE_PHASES
    )
    statement = (
        select(trials)
        .where(which.condition(), _is_deployable(job, study))
        .order_by(_RANK, _best_first(direction), _T.study, _T.number)
        .limit(most)
    )
    if after is not None:
        rank, score, study_number, number = after
        statement = statement.where(
            or_(
                _RANK > rank,
                and_(_RANK == rank, _is_behind(score, direction)),
                and_(_RANK == rank, _T.score == score, _follows(study_number, number)),
            )
        )
    return _trials(connection, statement)


def best_trial(
    connection: Connection, job: str, numbers: Sequence[int], direction: Direction
) -> tuple[TrialName, float] | None:
    """The best deployable trial of these studies of a job, and its score.

    One look into the index per study and phase, however many trials there are.
    """
    for phase in DEPLOYABLE_PHASES:
        found = [
            row
            for number in numbers
            if (row := _best_of(connection, job, number, phase, direction)) is not None
        ]
        if found:
            sign = 1 if direction is Direction.MINIMIZE else -1
            study, number, score = min(found, key=lambda row: (sign * row[2], row[0], row[1]))
            return TrialName(job, study, number), score
    return None


def rank_of(trial: Trial) -> int:
    """The place of a deployable trial's phase."""
    return DEPLOYABLE_PHASES.index(trial.phase)


def _best_of(
    connection: Connection, job: str, study: int, phase: TrialPhase, direction: Direction
) -> tuple[int, int, float] | None:
    which = TrialFilter(job=job, study=study, states=(TrialState.COMPLETED,), phases=(phase,))
    statement = (
        select(_T.number, _T.score)
        .where(which.condition(), _is_deployable(job, study))
        .order_by(_best_first(direction), _T.number)
        .limit(1)
    )
    row = connection.execute(statement).one_or_none()
    return None if row is None else (study, row.number, row.score)


def _is_deployable(job: str, study: int | None) -> ColumnElement[bool]:
    external = select(studies.c.number).where(
        studies.c.job == job,
        studies.c.model.is_(None),
        true() if study is None else studies.c.number == study,
    )
    return and_(
        _T.score.is_not(None),
        _T.control.is_(False),
        or_(_T.final_checkpoint != "", _T.study.in_(external)),
    )


def study_filter(study: StudyName) -> TrialFilter:
    """All trials of a study."""
    return TrialFilter(job=study.job, study=study.study)


def _best_first(direction: Direction) -> ColumnElement[Any]:
    return _T.score.asc() if direction is Direction.MINIMIZE else _T.score.desc()


def _is_behind(score: float, direction: Direction) -> ColumnElement[bool]:
    return _T.score > score if direction is Direction.MINIMIZE else _T.score < score


def _follows(study: int, number: int) -> ColumnElement[bool]:
    return or_(_T.study > study, and_(_T.study == study, _T.number > number))


def _trials(connection: Connection, statement: Select[Any]) -> list[Trial]:
    return [trial_of(row) for row in connection.execute(statement)]
