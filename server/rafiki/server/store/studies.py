"""Studies and their rounds in the database."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from rafiki.model.serial import config_from_json, config_to_json
from rafiki.resources import (
    ControlArm,
    EndReason,
    Study,
    StudyPlan,
    StudyRound,
    StudyState,
    TrialPhase,
    TrialState,
)
from rafiki.server.domain.names import ModelName, StudyName
from rafiki.server.store.codecs import (
    candidate_from_json,
    candidate_to_json,
    control_arm_from_json,
    control_arm_to_json,
    plan_from_json,
    plan_to_json,
    settings_to_json,
    spec_from_json,
    spec_to_json,
    stats_from_json,
)
from rafiki.server.store.prepared import Prepared
from rafiki.server.store.tables import rounds, studies
from rafiki.server.store.upserts import insert_or_keep

_COUNT = {
    state: Prepared(
        update(studies)
        .where(studies.c.job == bindparam("key_job"), studies.c.number == bindparam("key_number"))
        .values({column: column + 1})
    )
    for state, column in (
        (TrialState.COMPLETED, studies.c.completed_trials),
        (TrialState.ERRORED, studies.c.errored_trials),
        (TrialState.CANCELLED, studies.c.cancelled_trials),
    )
}


@dataclass(frozen=True, slots=True)
class StoredStudy:
    """A study with what only the server needs of it."""

    study: Study
    batch_size: int
    has_probe: bool


def insert_study(connection: Connection, study: Study, *, batch_size: int, has_probe: bool) -> None:
    """Inserts a study as it was created."""
    name = StudyName.parse(study.name)
    spec = study.spec
    connection.execute(
        insert(studies),
        {
            "job": name.job,
            "number": name.study,
            "spec": spec_to_json(spec),
            "knob_config": config_to_json(study.knob_config),
            "settings": settings_to_json(spec.advisor),
            "model": ModelName.parse(spec.model).model if spec.model else None,
            "batch_size": batch_size,
            "has_probe": has_probe,
            "state": study.state,
            "phase": study.phase,
            "plan": plan_to_json(study.plan),
        },
    )


def find_study(connection: Connection, name: StudyName) -> StoredStudy | None:
    """The study, if it exists."""
    row = connection.execute(select(studies).where(*_is(name))).one_or_none()
    return None if row is None else _stored(row)


def studies_of(
    connection: Connection, job_id: str, *, after: int = 0, most: int = 1000
) -> list[StoredStudy]:
    """The studies of a job by number, from the one after number `after`."""
    statement = (
        select(studies)
        .where(studies.c.job == job_id, studies.c.number > after)
        .order_by(studies.c.number)
        .limit(most)
    )
    return [_stored(row) for row in connection.execute(statement)]


def running_studies(connection: Connection, job_id: str) -> int:
    """How many studies of a job have not ended."""
    statement = select(func.count()).where(
        studies.c.job == job_id, studies.c.state == StudyState.RUNNING
    )
    return int(connection.execute(statement).scalar_one())


def study_numbers(connection: Connection, job_id: str) -> list[int]:
    """The numbers of the studies of a job."""
    statement = select(studies.c.number).where(studies.c.job == job_id)
    return list(connection.execute(statement).scalars())


def has_succeeded(connection: Connection, job_id: str) -> bool:
    """Whether a study of a job has ended with a deployable trial."""
    statement = select(func.count()).where(
        studies.c.job == job_id, studies.c.state == StudyState.SUCCEEDED
    )
    return bool(connection.execute(statement).scalar_one())


def count_end(connection: Connection, name: StudyName, state: TrialState) -> None:
    """Counts a trial that has ended in `state`."""
    _COUNT[state].execute(connection, {}, {"key_job": name.job, "key_number": name.study})


def set_progress(
    connection: Connection,
    name: StudyName,
    *,
    phase: TrialPhase,
    plan: StudyPlan,
    control_arm: ControlArm | None,
) -> None:
    """Stores how far the search has come."""
    connection.execute(
        update(studies).where(*_is(name)),
        {
            "phase": phase,
            "plan": plan_to_json(plan),
            "control_arm": control_arm_to_json(control_arm),
        },
    )


def set_best_of_study(connection: Connection, name: StudyName, best_trial: str) -> None:
    """Sets the best deployable trial so far, a name."""
    connection.execute(update(studies).where(*_is(name)), {"best_trial": best_trial})


def end_study(
    connection: Connection,
    name: StudyName,
    *,
    state: StudyState,
    reason: EndReason,
    message: str,
    time: datetime,
) -> bool:
    """Ends a RUNNING study; False if it has ended already."""
    statement = update(studies).where(*_is(name), studies.c.state == StudyState.RUNNING)
    values = {"state": state, "end_reason": reason, "end_message": message, "end_time": time}
    return connection.execute(statement, values).rowcount == 1


def insert_rounds(connection: Connection, name: StudyName, new: Sequence[StudyRound]) -> None:
    """Inserts completed rounds; those stored already stay as they are."""
    for item in new:
        values = {
            "job": name.job,
            "study": name.study,
            "round": item.round,
            "checkpoint": item.checkpoint,
            "mean_reward": item.mean_reward,
            "baseline": item.baseline,
            "entropy": item.entropy,
            "best": candidate_to_json(item.best),
            "control": asdict(item.control) if item.control else None,
            "train_s": item.train_s,
            "merge_s": item.merge_s,
            "evaluate_s": item.evaluate_s,
        }
        connection.execute(insert_or_keep(connection, rounds), values)


def count_rounds(connection: Connection, name: StudyName) -> int:
    """How many rounds of a study are stored."""
    statement = select(func.count()).where(rounds.c.job == name.job, rounds.c.study == name.study)
    return int(connection.execute(statement).scalar_one())


def find_round(connection: Connection, name: StudyName, number: int) -> StudyRound | None:
    """A completed round, if it is stored."""
    found = list_rounds(connection, name, after=number - 1, most=1)
    return found[0] if found and found[0].round == number else None


def list_rounds(
    connection: Connection, name: StudyName, *, after: int, most: int
) -> list[StudyRound]:
    """Completed rounds by number, from the one after number `after`."""
    statement = (
        select(rounds)
        .where(rounds.c.job == name.job, rounds.c.study == name.study, rounds.c.round > after)
        .order_by(rounds.c.round)
        .limit(most)
    )
    return [_round(name, row) for row in connection.execute(statement)]


def _stored(row: Row[Any]) -> StoredStudy:
    study = Study(
        name=str(StudyName(row.job, row.number)),
        spec=spec_from_json(row.spec, row.knob_config, row.settings),
        knob_config=config_from_json(row.knob_config),
        state=StudyState(row.state),
        phase=TrialPhase(row.phase) if row.phase else None,
        plan=plan_from_json(row.plan),
        completed_trials=row.completed_trials,
        errored_trials=row.errored_trials,
        cancelled_trials=row.cancelled_trials,
        best_trial=row.best_trial,
        control_arm=control_arm_from_json(row.control_arm),
        end_reason=EndReason(row.end_reason) if row.end_reason else None,
        end_message=row.end_message,
        end_time=row.end_time,
    )
    return StoredStudy(study, row.batch_size, row.has_probe)


def _round(name: StudyName, row: Row[Any]) -> StudyRound:
    return StudyRound(
        study=str(name),
        round=row.round,
        checkpoint=row.checkpoint,
        mean_reward=row.mean_reward,
        baseline=row.baseline,
        entropy=row.entropy,
        best=candidate_from_json(row.best),
        control=stats_from_json(row.control),
        train_s=row.train_s,
        merge_s=row.merge_s,
        evaluate_s=row.evaluate_s,
    )


def _is(name: StudyName) -> tuple[Any, Any]:
    return studies.c.job == name.job, studies.c.number == name.study
