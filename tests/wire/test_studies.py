import dataclasses
import math
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rafiki.model.knobs import FixedKnob, InvalidKnobConfig
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Candidate,
    ControlArm,
    EnasOptions,
    EndReason,
    ScoreStats,
    Study,
    StudyPlan,
    StudyRound,
    StudySpec,
    StudyState,
    TrialPhase,
)
from rafiki.v1 import knobs_pb2, studies_pb2
from rafiki.wire.fields import InvalidField
from rafiki.wire.studies import (
    control_arm_from_proto,
    score_stats_from_proto,
    study_from_proto,
    study_round_from_proto,
    study_round_to_proto,
    study_spec_from_proto,
    study_spec_to_proto,
    study_to_proto,
)

TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
COUNTS = st.integers(0, 2**31 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SECONDS = st.integers(0, 10**9).map(lambda eighths: eighths / 8)
CONFIGS = st.dictionaries(st.just("k"), st.builds(FixedKnob, st.integers(0, 9)))
SETTINGS = st.builds(
    AdvisorSettings,
    kind=st.none() | st.sampled_from(AdvisorKind),
    control_fraction=st.floats(0, 0.5),
    enas=st.none() | st.just(EnasOptions(final_controls=1)),
)
SPECS = st.one_of(
    st.builds(StudySpec, model=TEXTS.filter(bool), advisor=SETTINGS),
    st.builds(
        StudySpec,
        knob_config=CONFIGS,
        candidate_batch_size=st.integers(0, 1000),
        advisor=SETTINGS,
    ),
)
STATS = st.builds(
    ScoreStats,
    count=COUNTS,
    mean=FLOATS,
    standard_deviation=st.floats(0, 1e300),
    best=FLOATS,
)


@given(SPECS)
def test_a_spec_survives_the_round_trip(spec: StudySpec) -> None:
    assert study_spec_from_proto(study_spec_to_proto(spec)) == spec


@pytest.mark.parametrize("spec", [StudySpec(), StudySpec(model="models/1", knob_config={})])
def test_a_spec_is_sent_with_exactly_one_subject(spec: StudySpec) -> None:
    with pytest.raises(ValueError, match="either a model or a knob config"):
        study_spec_to_proto(spec)


@pytest.mark.parametrize("message", [studies_pb2.StudySpec(), studies_pb2.StudySpec(model="")])
def test_a_spec_without_a_subject_is_refused(message: studies_pb2.StudySpec) -> None:
    with pytest.raises(InvalidField, match=r"^studies\[0\].model: must be set, or knob_config"):
        study_spec_from_proto(message, "studies[0]")


@pytest.mark.parametrize("size", [-1, 1001])
def test_a_batch_size_out_of_range_is_refused(size: int) -> None:
    message = studies_pb2.StudySpec(model="models/1", candidate_batch_size=size)
    with pytest.raises(InvalidField, match=r"^candidate_batch_size: must be in"):
        study_spec_from_proto(message)


def test_a_knob_that_breaks_a_rule_is_named() -> None:
    message = studies_pb2.StudySpec(knob_config=knobs_pb2.KnobConfig())
    message.knob_config.knobs.add(name="k")
    with pytest.raises(InvalidKnobConfig, match="knob 'k': "):
        study_spec_from_proto(message)


@given(
    st.builds(
        Study,
        name=TEXTS,
        spec=SPECS,
        knob_config=CONFIGS,
        state=st.sampled_from(StudyState),
        phase=st.none() | st.sampled_from(TrialPhase),
        plan=st.builds(
            StudyPlan,
            rounds=COUNTS,
            completed_rounds=COUNTS,
            candidates_per_round=COUNTS,
            trials=COUNTS,
            final_trains=COUNTS,
            final_reserve_s=SECONDS,
            remaining_s=SECONDS,
            measured=st.booleans(),
        ),
        completed_trials=COUNTS,
        errored_trials=COUNTS,
        cancelled_trials=COUNTS,
        best_trial=TEXTS,
        control_arm=st.none()
        | st.builds(
            ControlArm,
            search=STATS,
            control=STATS,
            rank_correlation=st.none() | st.floats(-1, 1),
            rank_count=COUNTS,
        ),
        end_reason=st.none() | st.sampled_from(EndReason),
        end_message=TEXTS,
        end_time=st.none() | st.datetimes(timezones=st.just(UTC)),
    )
)
def test_a_study_survives_the_round_trip(study: Study) -> None:
    assert study_from_proto(study_to_proto(study)) == study


@given(
    st.builds(
        StudyRound,
        study=TEXTS,
        round=st.integers(1, 2**31 - 1),
        checkpoint=TEXTS,
        mean_reward=FLOATS,
        baseline=FLOATS,
        entropy=FLOATS,
        best=st.none() | st.just(Candidate(archs={"cell": (0, 1)}, score=0.5)),
        control=st.none() | STATS,
        train_s=SECONDS,
        merge_s=SECONDS,
        evaluate_s=SECONDS,
    )
)
def test_a_round_survives_the_round_trip(study_round: StudyRound) -> None:
    assert study_round_from_proto(study_round_to_proto(study_round)) == study_round


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Study, studies_pb2.Study),
        (StudyPlan, studies_pb2.StudyPlan),
        (ControlArm, studies_pb2.ControlArm),
        (StudyRound, studies_pb2.StudyRound),
        (ScoreStats, studies_pb2.ScoreStats),
        (StudySpec, studies_pb2.StudySpec),
    ],
)
def test_every_field_is_carried(cls: type[Study], message: type[studies_pb2.Study]) -> None:
    names = {field.name.removesuffix("_s") for field in dataclasses.fields(cls)}
    assert names == {field.name for field in message.DESCRIPTOR.fields}


def test_a_study_needs_a_state() -> None:
    message = studies_pb2.Study(spec=studies_pb2.StudySpec(model="models/1"))
    with pytest.raises(InvalidField, match=r"^study.state: must be one of RUNNING, SUCCEEDED"):
        study_from_proto(message, "study")


def test_a_round_is_numbered_from_one() -> None:
    with pytest.raises(InvalidField, match=r"^round: must be at least 1, not 0"):
        study_round_from_proto(studies_pb2.StudyRound())


@pytest.mark.parametrize("correlation", [-1.1, 1.1, math.nan])
def test_a_correlation_out_of_range_is_refused(correlation: float) -> None:
    with pytest.raises(InvalidField, match=r"^arm.rank_correlation: must be in \[-1, 1\]"):
        control_arm_from_proto(studies_pb2.ControlArm(rank_correlation=correlation), "arm")


@pytest.mark.parametrize(
    ("field", "value"),
    [("count", -1), ("mean", math.nan), ("standard_deviation", -1.0), ("best", math.inf)],
)
def test_statistics_out_of_range_are_refused(field: str, value: float) -> None:
    message = studies_pb2.ScoreStats(**{field: value})  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match=f"^search.{field}: must be"):
        score_stats_from_proto(message, "search")
