"""Trials, and what workers report of them."""

from rafiki.model.knobs import MAX_KNOBS, Policy
from rafiki.resources import (
    Archs,
    Candidate,
    Shard,
    StopReason,
    Trial,
    TrialCosts,
    TrialError,
    TrialErrorKind,
    TrialOutcome,
    TrialPhase,
    TrialProgress,
    TrialState,
    TrialTimings,
)
from rafiki.v1 import advisor_pb2, trials_pb2
from rafiki.wire.enums import enum_to_proto
from rafiki.wire.fields import (
    InvalidField,
    at,
    at_key,
    at_least,
    at_most_bytes,
    at_most_items,
    enum_value,
    finite,
    fraction,
    optional_finite,
    required_enum,
)
from rafiki.wire.knobs import (
    arch_value_from_proto,
    arch_value_to_proto,
    scalar_from_proto,
    scalar_to_proto,
)
from rafiki.wire.params import shard_from_proto, shard_to_proto
from rafiki.wire.text import clean_head, clean_tail
from rafiki.wire.times import (
    nonzero_seconds_to_proto,
    optional_timestamp_from_proto,
    optional_timestamp_to_proto,
    seconds_from_proto,
    seconds_to_proto,
)

MAX_ERROR_BYTES = 8 << 10
MAX_TRACEBACK_BYTES = 16 << 10


def candidate_to_proto(candidate: Candidate) -> trials_pb2.Candidate:
    """The message for a candidate."""
    archs = {name: arch_value_to_proto(choices) for name, choices in candidate.archs.items()}
    return trials_pb2.Candidate(archs=archs, score=candidate.score)


def candidate_from_proto(message: trials_pb2.Candidate, path: str = "") -> Candidate:
    """A candidate; its score is finite."""
    at_most_items(len(message.archs), MAX_KNOBS, at(path, "archs"))
    archs: Archs = {
        name: arch_value_from_proto(value, at_key(at(path, "archs"), name))
        for name, value in sorted(message.archs.items())
    }
    score = finite(message.score, at(path, "score")) if message.HasField("score") else None
    return Candidate(archs=archs, score=score)


def trial_error_to_proto(error: TrialError) -> trials_pb2.TrialError:
    """The message for an error, fit to send: the traceback is cut to its last 16 KiB."""
    return trials_pb2.TrialError(
        kind=enum_to_proto(error.kind),
        message=clean_head(error.message, MAX_ERROR_BYTES),
        traceback=clean_tail(error.traceback, MAX_TRACEBACK_BYTES),
    )


def trial_error_from_proto(message: trials_pb2.TrialError, path: str = "") -> TrialError:
    """An error of a known kind, its texts within bounds."""
    return TrialError(
        kind=required_enum(TrialErrorKind, message.kind, at(path, "kind")),
        message=at_most_bytes(message.message, MAX_ERROR_BYTES, at(path, "message")),
        traceback=at_most_bytes(message.traceback, MAX_TRACEBACK_BYTES, at(path, "traceback")),
    )


def trial_timings_to_proto(timings: TrialTimings) -> trials_pb2.TrialTimings:
    """The message for timings; 0 is left unset."""
    return trials_pb2.TrialTimings(
        queue=nonzero_seconds_to_proto(timings.queue_s),
        setup=nonzero_seconds_to_proto(timings.setup_s),
        compile=nonzero_seconds_to_proto(timings.compile_s),
        train=nonzero_seconds_to_proto(timings.train_s),
        evaluate=nonzero_seconds_to_proto(timings.evaluate_s),
    )


def trial_timings_from_proto(message: trials_pb2.TrialTimings, path: str = "") -> TrialTimings:
    """Timings in seconds; what is unset is 0."""
    return TrialTimings(
        queue_s=seconds_from_proto(message.queue, at(path, "queue")),
        setup_s=seconds_from_proto(message.setup, at(path, "setup")),
        compile_s=seconds_from_proto(message.compile, at(path, "compile")),
        train_s=seconds_from_proto(message.train, at(path, "train")),
        evaluate_s=seconds_from_proto(message.evaluate, at(path, "evaluate")),
    )


def trial_costs_to_proto(costs: TrialCosts) -> advisor_pb2.TrialCosts:
    """The message for costs; what was not measured is left unset."""
    return advisor_pb2.TrialCosts(
        steps_per_epoch=costs.steps_per_epoch,
        search_train=nonzero_seconds_to_proto(costs.search_train_s),
        search_eval=nonzero_seconds_to_proto(costs.search_eval_s),
        final_eval=nonzero_seconds_to_proto(costs.final_eval_s),
        final_train=nonzero_seconds_to_proto(costs.final_train_s),
        compile=nonzero_seconds_to_proto(costs.compile_s),
    )


def trial_costs_from_proto(message: advisor_pb2.TrialCosts, path: str = "") -> TrialCosts:
    """Costs in seconds; what is unset is 0, not measured."""
    return TrialCosts(
        steps_per_epoch=at_least(message.steps_per_epoch, 0, at(path, "steps_per_epoch")),
        search_train_s=seconds_from_proto(message.search_train, at(path, "search_train")),
        search_eval_s=seconds_from_proto(message.search_eval, at(path, "search_eval")),
        final_eval_s=seconds_from_proto(message.final_eval, at(path, "final_eval")),
        final_train_s=seconds_from_proto(message.final_train, at(path, "final_train")),
        compile_s=seconds_from_proto(message.compile, at(path, "compile")),
    )


def trial_progress_to_proto(progress: TrialProgress) -> trials_pb2.TrialProgress:
    """The message for progress."""
    remaining = None
    if progress.remaining_s is not None:
        remaining = seconds_to_proto(progress.remaining_s)
    return trials_pb2.TrialProgress(fraction=progress.fraction, remaining=remaining)


def trial_progress_from_proto(message: trials_pb2.TrialProgress, path: str = "") -> TrialProgress:
    """Progress, the fraction in [0, 1]."""
    remaining_s = None
    if message.HasField("remaining"):
        remaining_s = seconds_from_proto(message.remaining, at(path, "remaining"))
    return TrialProgress(
        fraction=fraction(message.fraction, 1.0, at(path, "fraction")), remaining_s=remaining_s
    )


def trial_outcome_to_proto(outcome: TrialOutcome) -> advisor_pb2.TrialCompleted:
    """The message for an outcome."""
    return advisor_pb2.TrialCompleted(
        score=outcome.score,
        candidate_scores=outcome.candidate_scores,
        test_score=outcome.test_score,
        checkpoint=outcome.checkpoint,
        costs=None if outcome.costs is None else trial_costs_to_proto(outcome.costs),
    )


def trial_outcome_from_proto(message: advisor_pb2.TrialCompleted, path: str = "") -> TrialOutcome:
    """An outcome: its scores are finite, those of candidates finite or NaN."""
    scores = tuple(message.candidate_scores)
    for number, score in enumerate(scores):
        # NaN is the only value that is not itself.
        if score == score:
            finite(score, at(path, f"candidate_scores[{number}]"))
    has = message.HasField
    return TrialOutcome(
        score=optional_finite(message.score if has("score") else None, at(path, "score")),
        candidate_scores=scores,
        test_score=optional_finite(
            message.test_score if has("test_score") else None, at(path, "test_score")
        ),
        checkpoint=message.checkpoint,
        costs=trial_costs_from_proto(message.costs, at(path, "costs")) if has("costs") else None,
    )


def trial_to_proto(trial: Trial) -> trials_pb2.Trial:
    """The message for a trial, its policies in ascending order."""
    return trials_pb2.Trial(
        name=trial.name,
        phase=enum_to_proto(trial.phase),
        knobs={name: scalar_to_proto(value) for name, value in trial.knobs.items()},
        candidates=[candidate_to_proto(candidate) for candidate in trial.candidates],
        policies=sorted(enum_to_proto(policy) for policy in trial.policies),
        seed=trial.seed,
        start_checkpoint=trial.start_checkpoint,
        round=trial.round,
        shard=None if trial.shard is None else shard_to_proto(trial.shard),
        data_seed=trial.data_seed,
        control=trial.control,
        state=enum_to_proto(trial.state),
        attempt=trial.attempt,
        worker=trial.worker,
        score=trial.score,
        test_score=trial.test_score,
        final_checkpoint=trial.final_checkpoint,
        stop_reason=enum_to_proto(trial.stop_reason),
        error=None if trial.error is None else trial_error_to_proto(trial.error),
        timings=None if trial.timings is None else trial_timings_to_proto(trial.timings),
        create_time=optional_timestamp_to_proto(trial.create_time),
        start_time=optional_timestamp_to_proto(trial.start_time),
        end_time=optional_timestamp_to_proto(trial.end_time),
        progress=None if trial.progress is None else trial_progress_to_proto(trial.progress),
        basis=trial.basis,
    )


def trial_from_proto(message: trials_pb2.Trial, path: str = "") -> Trial:
    """A trial with its phase and state set and every number in its range."""
    has = message.HasField
    return Trial(
        name=message.name,
        phase=required_enum(TrialPhase, message.phase, at(path, "phase")),
        knobs={
            name: scalar_from_proto(value, at_key(at(path, "knobs"), name))
            for name, value in sorted(message.knobs.items())
        },
        candidates=tuple(
            candidate_from_proto(candidate, at(path, f"candidates[{number}]"))
            for number, candidate in enumerate(message.candidates)
        ),
        policies=_policies_from_proto(message, path),
        seed=at_least(message.seed, 0, at(path, "seed")),
        start_checkpoint=message.start_checkpoint,
        round=at_least(message.round, 0, at(path, "round")),
        shard=_shard_from_proto(message, path),
        data_seed=at_least(message.data_seed, 0, at(path, "data_seed")),
        control=message.control,
        state=required_enum(TrialState, message.state, at(path, "state")),
        attempt=at_least(message.attempt, 0, at(path, "attempt")),
        worker=message.worker,
        score=optional_finite(message.score if has("score") else None, at(path, "score")),
        test_score=optional_finite(
            message.test_score if has("test_score") else None, at(path, "test_score")
        ),
        final_checkpoint=message.final_checkpoint,
        stop_reason=enum_value(StopReason, message.stop_reason, at(path, "stop_reason")),
        error=trial_error_from_proto(message.error, at(path, "error")) if has("error") else None,
        timings=(
            trial_timings_from_proto(message.timings, at(path, "timings"))
            if has("timings")
            else None
        ),
        create_time=optional_timestamp_from_proto(
            message.create_time if has("create_time") else None, at(path, "create_time")
        ),
        start_time=optional_timestamp_from_proto(
            message.start_time if has("start_time") else None, at(path, "start_time")
        ),
        end_time=optional_timestamp_from_proto(
            message.end_time if has("end_time") else None, at(path, "end_time")
        ),
        progress=(
            trial_progress_from_proto(message.progress, at(path, "progress"))
            if has("progress")
            else None
        ),
        basis=dict(sorted(message.basis.items())),
    )


def _policies_from_proto(message: trials_pb2.Trial, path: str) -> frozenset[Policy]:
    numbers = list(message.policies)
    if numbers != sorted(set(numbers)):
        raise InvalidField(at(path, "policies"), "must ascend, none twice")
    return frozenset(
        required_enum(Policy, number, at(path, f"policies[{index}]"))
        for index, number in enumerate(numbers)
    )


def _shard_from_proto(message: trials_pb2.Trial, path: str) -> Shard | None:
    if not message.HasField("shard"):
        return None
    return shard_from_proto(message.shard, at(path, "shard"))
