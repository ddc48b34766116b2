import dataclasses
import math
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rafiki.model.knobs import Policy
from rafiki.resources import (
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
from rafiki.wire.fields import InvalidField
from rafiki.wire.knobs import scalar_to_proto
from rafiki.wire.trials import (
    candidate_from_proto,
    candidate_to_proto,
    trial_costs_from_proto,
    trial_costs_to_proto,
    trial_error_from_proto,
    trial_error_to_proto,
    trial_from_proto,
    trial_outcome_from_proto,
    trial_outcome_to_proto,
    trial_progress_from_proto,
    trial_progress_to_proto,
    trial_timings_from_proto,
    trial_timings_to_proto,
    trial_to_proto,
)

COUNTS = st.integers(0, 2**31 - 1)
LARGE = st.integers(0, 2**63 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
TIMES = st.none() | st.datetimes(timezones=st.just(UTC))
# Exact in nanoseconds and as a float.
SECONDS = st.integers(0, 10**9).map(lambda eighths: eighths / 8)
CANDIDATES = st.builds(
    Candidate,
    archs=st.dictionaries(TEXTS, st.lists(COUNTS, max_size=3).map(tuple), max_size=2),
    score=st.none() | FLOATS,
)
COSTS = st.builds(
    TrialCosts,
    steps_per_epoch=COUNTS,
    search_train_s=SECONDS,
    search_eval_s=SECONDS,
    final_eval_s=SECONDS,
    final_train_s=SECONDS,
    compile_s=SECONDS,
)
TIMINGS = st.builds(
    TrialTimings,
    queue_s=SECONDS,
    setup_s=SECONDS,
    compile_s=SECONDS,
    train_s=SECONDS,
    evaluate_s=SECONDS,
)
TRIALS = st.builds(
    Trial,
    name=TEXTS,
    phase=st.sampled_from(TrialPhase),
    knobs=st.dictionaries(
        TEXTS, st.integers(-(2**63), 2**63 - 1) | FLOATS | st.booleans() | TEXTS, max_size=3
    ),
    candidates=st.lists(CANDIDATES, max_size=3).map(tuple),
    policies=st.frozensets(st.sampled_from(Policy)),
    seed=LARGE,
    start_checkpoint=TEXTS,
    round=COUNTS,
    shard=st.sampled_from([None, Shard(0, 2), Shard(6, 7)]),
    data_seed=LARGE,
    control=st.booleans(),
    state=st.sampled_from(TrialState),
    attempt=COUNTS,
    worker=TEXTS,
    score=st.none() | FLOATS,
    test_score=st.none() | FLOATS,
    final_checkpoint=TEXTS,
    stop_reason=st.none() | st.sampled_from(StopReason),
    error=st.none()
    | st.builds(TrialError, kind=st.sampled_from(TrialErrorKind), message=TEXTS, traceback=TEXTS),
    timings=st.none() | TIMINGS,
    create_time=TIMES,
    start_time=TIMES,
    end_time=TIMES,
    progress=st.none()
    | st.builds(TrialProgress, fraction=st.floats(0, 1), remaining_s=st.none() | SECONDS),
    basis=st.dictionaries(TEXTS, FLOATS, max_size=2),
)
TRIAL = trials_pb2.Trial(
    phase=trials_pb2.TRIAL_PHASE_TUNE, state=trials_pb2.TRIAL_STATE_PENDING, attempt=1
)


@given(TRIALS)
def test_a_trial_survives_the_round_trip(trial: Trial) -> None:
    assert trial_from_proto(trial_to_proto(trial)) == trial


def test_every_field_of_a_trial_is_carried() -> None:
    names = {field.name for field in trials_pb2.Trial.DESCRIPTOR.fields}
    assert {field.name for field in dataclasses.fields(Trial)} == names


def test_policies_ascend_on_the_wire() -> None:
    trial = Trial(name="", phase=TrialPhase.TUNE, policies=frozenset(Policy))
    assert list(trial_to_proto(trial).policies) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"phase": 0}, "trial.phase"),
        ({"phase": 99}, "trial.phase"),
        ({"state": 0}, "trial.state"),
        ({"policies": [2, 1]}, "trial.policies"),
        ({"policies": [1, 1]}, "trial.policies"),
        ({"policies": [1, 99]}, r"trial.policies\[1\]"),
        ({"seed": -1}, "trial.seed"),
        ({"data_seed": -1}, "trial.data_seed"),
        ({"round": -1}, "trial.round"),
        ({"attempt": -1}, "trial.attempt"),
        ({"score": math.nan}, "trial.score"),
        ({"test_score": math.inf}, "trial.test_score"),
        ({"stop_reason": 99}, "trial.stop_reason"),
        ({"shard": {"index": 2, "count": 2}}, "trial.shard.index"),
        ({"shard": {"index": 0, "count": 1}}, "trial.shard.count"),
        ({"error": {}}, "trial.error.kind"),
        ({"timings": {"train": {"seconds": -1}}}, "trial.timings.train"),
        ({"progress": {"fraction": 1.5}}, "trial.progress.fraction"),
        ({"progress": {"fraction": math.nan}}, "trial.progress.fraction"),
        ({"end_time": {"nanos": -1}}, "trial.end_time"),
        ({"candidates": [{}, {"score": math.nan}]}, r"trial.candidates\[1\].score"),
        ({"knobs": {"x": {}}}, r"trial.knobs\['x'\]"),
    ],
)
def test_a_field_out_of_range_is_refused_by_path(fields: dict[str, object], path: str) -> None:
    message = trials_pb2.Trial()
    message.CopyFrom(TRIAL)
    for name, value in fields.items():
        message.ClearField(name)  # type: ignore[arg-type]
        message.MergeFrom(trials_pb2.Trial(**{name: value}))  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match=f"^{path}: "):
        trial_from_proto(message, "trial")


def test_a_key_in_a_path_is_cut() -> None:
    message = trials_pb2.Trial()
    message.CopyFrom(TRIAL)
    message.knobs["x" * 10_000].SetInParent()
    with pytest.raises(InvalidField) as caught:
        trial_from_proto(message)
    assert len(caught.value.field_path) < 100


@given(CANDIDATES)
def test_a_candidate_survives_the_round_trip(candidate: Candidate) -> None:
    assert candidate_from_proto(candidate_to_proto(candidate)) == candidate


@given(COSTS)
def test_costs_survive_the_round_trip(costs: TrialCosts) -> None:
    assert trial_costs_from_proto(trial_costs_to_proto(costs)) == costs


@given(TIMINGS)
def test_timings_survive_the_round_trip(timings: TrialTimings) -> None:
    assert trial_timings_from_proto(trial_timings_to_proto(timings)) == timings


def test_costs_not_measured_are_unset() -> None:
    assert trial_costs_to_proto(TrialCosts()) == advisor_pb2.TrialCosts()


def test_unknown_remaining_time_differs_from_none_left() -> None:
    for progress in (TrialProgress(fraction=0.5), TrialProgress(fraction=1.0, remaining_s=0.0)):
        assert trial_progress_from_proto(trial_progress_to_proto(progress)) == progress


@given(
    st.builds(
        TrialOutcome,
        score=st.none() | FLOATS,
        candidate_scores=st.lists(FLOATS, max_size=3).map(tuple),
        test_score=st.none() | FLOATS,
        checkpoint=TEXTS,
        costs=st.none() | COSTS,
    )
)
def test_an_outcome_survives_the_round_trip(outcome: TrialOutcome) -> None:
    assert trial_outcome_from_proto(trial_outcome_to_proto(outcome)) == outcome


def test_an_unscored_candidate_stays_nan() -> None:
    message = trial_outcome_to_proto(TrialOutcome(candidate_scores=(0.5, math.nan)))
    first, second = trial_outcome_from_proto(message).candidate_scores
    assert first == 0.5
    assert math.isnan(second)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_refused(score: float) -> None:
    with pytest.raises(InvalidField, match=r"^completed.score: must be finite"):
        trial_outcome_from_proto(advisor_pb2.TrialCompleted(score=score), "completed")
    with pytest.raises(InvalidField, match=r"^completed.test_score: must be finite"):
        trial_outcome_from_proto(advisor_pb2.TrialCompleted(test_score=score), "completed")


def test_an_infinite_candidate_score_is_refused() -> None:
    message = advisor_pb2.TrialCompleted(candidate_scores=[math.nan, math.inf])
    with pytest.raises(InvalidField, match=r"^completed.candidate_scores\[1\]: must be finite"):
        trial_outcome_from_proto(message, "completed")


def test_an_error_is_cut_to_what_may_be_sent() -> None:
    error = TrialError(
        kind=TrialErrorKind.MODEL_EXCEPTION,
        message="\udcff" + "m" * 10_000,
        traceback="first" + "t" * 20_000 + "last",
    )
    read = trial_error_from_proto(trial_error_to_proto(error))
    assert read.message.startswith("?m") and len(read.message) == 8 << 10
    assert read.traceback.endswith("tlast") and len(read.traceback) == 16 << 10


def test_a_traceback_that_is_too_long_is_refused() -> None:
    message = trials_pb2.TrialError(
        kind=trials_pb2.TRIAL_ERROR_KIND_CRASHED, traceback="é" * (8 << 10) + "x"
    )
    with pytest.raises(InvalidField, match=r"^error.traceback: must have at most 16384 bytes"):
        trial_error_from_proto(message, "error")


def test_what_a_proposal_was_based_on_may_be_infinite() -> None:
    trial = Trial(name="", phase=TrialPhase.TUNE, basis={"remaining_s": math.inf})
    assert trial_from_proto(trial_to_proto(trial)) == trial


def test_knobs_come_in_order_of_their_names() -> None:
    message = trials_pb2.Trial()
    message.CopyFrom(TRIAL)
    for name in ("b", "c", "a"):
        message.knobs[name].CopyFrom(scalar_to_proto(1))
    assert list(trial_from_proto(message).knobs) == ["a", "b", "c"]
