"""Trials in the database: their rows, and the conditional updates that move their states."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, bindparam, insert, or_, select, update

from rafiki.model.knobs import Policy
from rafiki.resources import (
    Shard,
    StopReason,
    Trial,
    TrialError,
    TrialErrorKind,
    TrialPhase,
    TrialProgress,
    TrialState,
    TrialTimings,
)
from rafiki.server.domain.advisor import Proposal
from rafiki.server.domain.attempts import LiveTrial
from rafiki.server.domain.names import CheckpointName, StudyName, TrialName
from rafiki.server.store.codecs import (
    archs_from_json,
    archs_to_json,
    candidates_from_json,
    costs_from_json,
    knobs_to_json,
    scores_to_json,
)
from rafiki.server.store.prepared import Prepared
from rafiki.server.store.tables import checkpoints, trials

Values = dict[str, Any]

_INSERT = Prepared(insert(trials))
_KEY = (
    trials.c.job == bindparam("key_job"),
    trials.c.study == bindparam("key_study"),
    trials.c.number == bindparam("key_number"),
)
_GET = select(trials).where(*_KEY)
# Not IN: its list would be rendered anew for every execution.
_IS_UNFINISHED = or_(trials.c.state == TrialState.PENDING, trials.c.state == TrialState.RUNNING)
_UPDATE_PENDING = Prepared(
    update(trials).where(
        *_KEY,
        trials.c.state == TrialState.PENDING,
        trials.c.attempt == bindparam("key_attempt"),
    )
)
_UPDATE_RUNNING = Prepared(
    update(trials).where(
        *_KEY, trials.c.state == TrialState.RUNNING, trials.c.lease_token == bindparam("key_token")
    )
)
# An attempt that has reported an error is over, even while its trial waits for another.
_UPDATE_ATTEMPT = Prepared(
    update(trials).where(
        *_KEY,
        _IS_UNFINISHED,
        trials.c.lease_token == bindparam("key_token"),
        trials.c.error_kind.is_(None),
    )
)
_UPDATE_UNFINISHED = Prepared(update(trials).where(*_KEY, _IS_UNFINISHED))
_LIVE = (
    select(trials)
    .where(
        trials.c.job == bindparam("job"),
        trials.c.study == bindparam("study"),
        _IS_UNFINISHED,
    )
    .order_by(trials.c.number)
)


def insert_trial(connection: Connection, live: LiveTrial) -> None:
    """Inserts a proposed trial, RUNNING its first attempt."""
    trial = live.trial
    _INSERT.execute(
        connection,
        {
            **_identity(TrialName.parse(trial.name)),
            "phase": trial.phase,
            "knobs": knobs_to_json(trial.knobs),
            "candidates": [archs_to_json(candidate.archs) for candidate in trial.candidates],
            "policies": sorted(trial.policies),
            "seed": trial.seed,
            "start_checkpoint": trial.start_checkpoint,
            "round": trial.round,
            "shard_index": trial.shard.index if trial.shard else None,
            "shard_count": trial.shard.count if trial.shard else None,
            "data_seed": trial.data_seed,
            "control": trial.control,
            "evaluate": live.evaluate,
            "save": live.save,
            "basis": dict(trial.basis),
            "state": trial.state,
            "attempt": trial.attempt,
            "worker": trial.worker,
            "lease_token": live.lease_token,
            "final_checkpoint": "",
            "queue_s": trial.timings.queue_s if trial.timings else None,
            "create_time": trial.create_time,
            "start_time": trial.start_time,
        },
    )


def start_attempt(connection: Connection, name: TrialName, live: LiveTrial) -> bool:
    """Starts the next attempt of a PENDING trial; False if it is no longer that."""
    trial = live.trial
    values = {
        "state": trial.state,
        "attempt": trial.attempt,
        "worker": trial.worker,
        "lease_token": live.lease_token,
        "start_time": trial.start_time,
        "pending_since": None,
        "queue_s": trial.timings.queue_s if trial.timings else None,
        "setup_s": None,
        "compile_s": None,
        "train_s": None,
        "evaluate_s": None,
        "error_kind": None,
        "error_message": None,
        "error_traceback": None,
        "progress_fraction": None,
        "progress_remaining_s": None,
    }
    return _update(connection, _UPDATE_PENDING, name, values, key_attempt=trial.attempt - 1)


def end_attempt(connection: Connection, name: TrialName, live: LiveTrial) -> bool:
    """Stores what an attempt came to; False if the lease is no longer the trial's.

    `live` is in the state that follows: an end, or PENDING for another attempt.
    """
    trial = live.trial
    values = {
        "state": trial.state,
        "score": trial.score,
        "candidate_scores": scores_to_json(trial.candidates),
        "test_score": trial.test_score,
        "final_checkpoint": trial.final_checkpoint,
        "costs": asdict(live.costs) if live.costs else None,
        "end_time": trial.end_time,
        "pending_since": live.pending_since,
        "progress_fraction": None,
        "progress_remaining_s": None,
        **_error(live.attempt_error),
    }
    if trial.timings is not None:
        values |= _timing_values(trial.timings)
    return _update(connection, _UPDATE_ATTEMPT, name, values, key_token=live.lease_token or "")


def lose_attempt(connection: Connection, name: TrialName, live: LiveTrial) -> bool:
    """Returns a RUNNING trial to PENDING; its token stays good for a late outcome."""
    values = {
        "state": TrialState.PENDING,
        "pending_since": live.pending_since,
        "handed_back": live.handed_back,
    }
    return _update(connection, _UPDATE_RUNNING, name, values, key_token=live.lease_token or "")


def end_trial(connection: Connection, name: TrialName, live: LiveTrial) -> bool:
    """Ends an unfinished trial from the side of the server: nothing it reports counts."""
    trial = live.trial
    values = {
        "state": trial.state,
        "end_time": trial.end_time,
        "stop_reason": trial.stop_reason,
        "lease_token": None,
        "pending_since": None,
        **_error(trial.error),
    }
    return _update(connection, _UPDATE_UNFINISHED, name, values)


def note_stop(
    connection: Connection, name: TrialName, *, lease_token: str, reason: StopReason
) -> bool:
    """Notes that a RUNNING trial is told to stop."""
    values: Values = {"stop_reason": reason}
    return _update(connection, _UPDATE_RUNNING, name, values, key_token=lease_token)


def note_progress(
    connection: Connection, name: TrialName, *, lease_token: str, progress: TrialProgress
) -> bool:
    """Stores how far a RUNNING trial has come."""
    values: Values = {
        "progress_fraction": progress.fraction,
        "progress_remaining_s": progress.remaining_s,
    }
    return _update(connection, _UPDATE_RUNNING, name, values, key_token=lease_token)


def find_trial(connection: Connection, name: TrialName) -> LiveTrial | None:
    """The trial, if it exists."""
    row = connection.execute(_GET, _key(name)).one_or_none()
    return None if row is None else live_trial(row)


def unfinished_trials(connection: Connection, study: StudyName) -> Iterator[LiveTrial]:
    """The trials of a study that are PENDING or RUNNING, by number."""
    rows = connection.execute(_LIVE, {"job": study.job, "study": study.study})
    return (live_trial(row) for row in rows)


def has_checkpoint(connection: Connection, name: CheckpointName) -> bool:
    """Whether a checkpoint has been created."""
    found = select(checkpoints.c.id).where(
        checkpoints.c.job == name.job,
        checkpoints.c.study == name.study,
        checkpoints.c.id == name.checkpoint_id,
    )
    return connection.execute(found).one_or_none() is not None


def live_trial(row: Row[Any]) -> LiveTrial:
    """The trial of a row with all columns of the table."""
    trial = trial_of(row)
    return LiveTrial(
        trial=trial,
        evaluate=row.evaluate,
        save=row.save,
        lease_token=row.lease_token,
        pending_since=row.pending_since,
        costs=costs_from_json(row.costs),
        attempt_error=_error_of(row),
        handed_back=row.handed_back,
    )


def trial_of(row: Row[Any]) -> Trial:
    """The resource of a row with all columns of the table."""
    state = TrialState(row.state)
    progress = None
    if row.progress_fraction is not None:
        progress = TrialProgress(
            fraction=row.progress_fraction, remaining_s=row.progress_remaining_s
        )
    return Trial(
        name=str(TrialName(row.job, row.study, row.number)),
        phase=TrialPhase(row.phase),
        knobs=row.knobs,
        candidates=candidates_from_json(row.candidates, row.candidate_scores),
        policies=frozenset(map(Policy, row.policies)),
        seed=row.seed,
        start_checkpoint=row.start_checkpoint,
        round=row.round,
        shard=_shard(row),
        data_seed=row.data_seed,
        control=row.control,
        state=state,
        attempt=row.attempt,
        worker=row.worker,
        score=row.score,
        test_score=row.test_score,
        final_checkpoint=row.final_checkpoint,
        stop_reason=StopReason(row.stop_reason) if row.stop_reason else None,
        error=_error_of(row) if state is TrialState.ERRORED else None,
        timings=_timings(row),
        create_time=row.create_time,
        start_time=row.start_time,
        end_time=row.end_time,
        progress=progress,
        basis=row.basis,
    )


def proposal_of(row: Row[Any]) -> Proposal:
    """What was proposed, from a row with all columns of the table."""
    return Proposal(
        phase=TrialPhase(row.phase),
        knobs=row.knobs,
        candidates=tuple(archs_from_json(archs) for archs in row.candidates),
        policies=frozenset(map(Policy, row.policies)),
        start_checkpoint=row.start_checkpoint,
        round=row.round,
        shard=_shard(row),
        data_seed=row.data_seed,
        control=row.control,
        evaluate=row.evaluate,
        save=row.save,
        basis=row.basis,
    )


def _timings(row: Row[Any]) -> TrialTimings | None:
    names = ("queue_s", "setup_s", "compile_s", "train_s", "evaluate_s")
    given = {name: value for name in names if (value := getattr(row, name)) is not None}
    return TrialTimings(**given) if given else None


def _timing_values(timings: TrialTimings) -> Values:
    return {
        "queue_s": timings.queue_s,
        "setup_s": timings.setup_s,
        "compile_s": timings.compile_s,
        "train_s": timings.train_s,
        "evaluate_s": timings.evaluate_s,
    }


def _shard(row: Row[Any]) -> Shard | None:
    return None if row.shard_index is None else Shard(row.shard_index, row.shard_count)


def _error_of(row: Row[Any]) -> TrialError | None:
    if row.error_kind is None:
        return None
    return TrialError(
        kind=TrialErrorKind(row.error_kind),
        message=row.error_message or "",
        traceback=row.error_traceback or "",
    )


def _error(error: TrialError | None) -> Values:
    return {
        "error_kind": error.kind if error else None,
        "error_message": error.message if error else None,
        "error_traceback": error.traceback if error else None,
    }


def _identity(name: TrialName) -> Values:
    return {"job": name.job, "study": name.study, "number": name.trial}


def _key(name: TrialName) -> Values:
    return {"key_job": name.job, "key_study": name.study, "key_number": name.trial}


def _update(
    connection: Connection,
    statement: Prepared,
    name: TrialName,
    values: Mapping[str, Any],
    **conditions: int | str,
) -> bool:
    return statement.execute(connection, values, {**_key(name), **conditions}) == 1
