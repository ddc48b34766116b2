"""Readers against messages that no honest peer sends."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rafiki.model.knobs import (
    ArchKnob,
    CategoricalKnob,
    FixedKnob,
    FloatKnob,
    IntegerKnob,
    InvalidKnobConfig,
    KnobConfig,
    KnobValue,
    NodeRef,
    Policy,
    PolicyKnob,
)
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    BayesOptOptions,
    Budget,
    Candidate,
    Checkpoint,
    ControlArm,
    Dataset,
    Digest,
    EarlyStopping,
    EnasOptions,
    EvolutionOptions,
    LogLevel,
    Model,
    ReinforceOptions,
    ScoreStats,
    Shard,
    Study,
    StudyPlan,
    StudyRound,
    StudySpec,
    Tensor,
    TrainJob,
    Trial,
    TrialCosts,
    TrialError,
    TrialErrorKind,
    TrialLog,
    TrialMetrics,
    TrialOutcome,
    TrialPhase,
    TrialPlot,
    TrialProgress,
    TrialTimings,
)
from rafiki.v1 import knobs_pb2, params_pb2
from rafiki.wire import (
    advisors,
    blobs,
    jobs,
    knobs,
    params,
    reports,
    structs,
    studies,
    times,
    trials,
)
from rafiki.wire.fields import InvalidField

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
DIGEST = Digest("0" * 64, 24)
SHARED = KnobValue("conv3x3")
CONFIG: KnobConfig = {
    "fixed": FixedKnob(True),
    "batch": CategoricalKnob([16, 32]),
    "layers": IntegerKnob(1, 8),
    "rate": FloatKnob(1e-4, 1e-1, is_exp=True),
    "cell": ArchKnob([[SHARED, 2.5], [NodeRef(0), SHARED]], nodes=[0, None]),
    "share": PolicyKnob(Policy.SHARE_PARAMS),
}
STATS = ScoreStats(count=2, mean=0.5, standard_deviation=0.1, best=0.6)
SPEC = StudySpec(
    knob_config=CONFIG,
    candidate_batch_size=10,
    advisor=AdvisorSettings(kind=AdvisorKind.ENAS, control_fraction=0.1, enas=EnasOptions()),
)
CANDIDATE = Candidate(archs={"cell": (0, 1)}, score=0.25)
TRIAL = Trial(
    name="trainJobs/0/studies/1/trials/1",
    phase=TrialPhase.SEARCH_TRAIN,
    knobs={"batch": 16, "rate": 0.01},
    candidates=(CANDIDATE,),
    policies=frozenset({Policy.SHARE_PARAMS, Policy.DOWNSCALE}),
    shard=Shard(0, 2),
    score=0.25,
    error=TrialError(kind=TrialErrorKind.CRASHED, message="died"),
    timings=TrialTimings(train_s=1.5),
    progress=TrialProgress(fraction=0.5, remaining_s=3.0),
    create_time=NOW,
    basis={"elapsed_s": 3.0},
)
CHECKPOINT = Checkpoint(
    name="c",
    tensors=(Tensor(path="a", dtype="float32", shape=(2, 3), digest=DIGEST, updates=1),),
    trial="t",
    attempt=1,
    parents=("p",),
    shard=Shard(1, 2),
    size_bytes=24,
    create_time=NOW,
)
JOB = TrainJob(
    app="app",
    task="IMAGE_CLASSIFICATION",
    studies=(SPEC,),
    budget=Budget(time=timedelta(hours=1), gpu_count=1, model_trial_count=3),
    train_args={"epochs": 3, "rates": [0.5, None, {"x": True}]},
    create_time=NOW,
    time_used=timedelta(minutes=2),
)
MODEL = Model(
    display_name="m",
    task="T",
    model_class="a.b:C",
    source=DIGEST,
    knob_config=CONFIG,
    dependencies={"optax": "0.2.8"},
)
STUDY = Study(
    name="s",
    spec=SPEC,
    knob_config=CONFIG,
    plan=StudyPlan(rounds=3, remaining_s=10.0),
    control_arm=ControlArm(search=STATS, control=STATS, rank_correlation=0.5, rank_count=5),
)
ROUND = StudyRound(
    study="s",
    round=1,
    checkpoint="c",
    mean_reward=0.5,
    baseline=0.4,
    entropy=3.0,
    best=CANDIDATE,
    control=STATS,
    train_s=1.0,
)

SETTINGS = {
    "settings of Bayesian optimisation": AdvisorSettings(
        bayes_opt=BayesOptOptions(), early_stopping=EarlyStopping(), final_trains=1
    ),
    "settings of ENAS": AdvisorSettings(enas=EnasOptions(), control_fraction=0.1),
    "settings of evolution": AdvisorSettings(evolution=EvolutionOptions()),
    "settings of REINFORCE": AdvisorSettings(reinforce=ReinforceOptions()),
}

# A valid message of every kind, what reads it, and what writes it.
READERS: dict[str, tuple[Message, Callable[..., object], Callable[..., object]]] = {
    "blob frame": (
        params_pb2.UploadBlobsRequest(header=params.digest_to_proto(DIGEST)),
        blobs.frame_from_proto,
        lambda frame: list(blobs.upload_requests([frame])),
    ),
    "checkpoint": (
        params.checkpoint_to_proto(CHECKPOINT),
        params.checkpoint_from_proto,
        params.checkpoint_to_proto,
    ),
    "costs": (
        trials.trial_costs_to_proto(TrialCosts(steps_per_epoch=3, search_train_s=1.0)),
        trials.trial_costs_from_proto,
        trials.trial_costs_to_proto,
    ),
    "data set": (
        jobs.dataset_to_proto(Dataset(display_name="d", task="T", digest=DIGEST)),
        jobs.dataset_from_proto,
        jobs.dataset_to_proto,
    ),
    "duration": (Duration(seconds=1), times.duration_from_proto, times.duration_to_proto),
    "job": (jobs.train_job_to_proto(JOB), jobs.train_job_from_proto, jobs.train_job_to_proto),
    "knob config": (
        knobs.knob_config_to_proto(CONFIG),
        knobs.knob_config_from_proto,
        knobs.knob_config_to_proto,
    ),
    "knob value": (
        knobs_pb2.KnobValue(int_value=1),
        knobs.scalar_from_proto,
        knobs.scalar_to_proto,
    ),
    "log": (
        reports.trial_log_to_proto(
            TrialLog(sequence=1, time=NOW, level=LogLevel.INFO, message="hello")
        ),
        reports.trial_log_from_proto,
        reports.trial_log_to_proto,
    ),
    "metrics": (
        reports.trial_metrics_to_proto(TrialMetrics(sequence=1, time=NOW, values={"loss": 0.1})),
        reports.trial_metrics_from_proto,
        reports.trial_metrics_to_proto,
    ),
    "model": (jobs.model_to_proto(MODEL), jobs.model_from_proto, jobs.model_to_proto),
    "outcome": (
        trials.trial_outcome_to_proto(
            TrialOutcome(score=0.5, candidate_scores=(0.5, float("nan")), costs=TrialCosts())
        ),
        trials.trial_outcome_from_proto,
        trials.trial_outcome_to_proto,
    ),
    "plot": (
        reports.trial_plot_to_proto(TrialPlot(title="p", metrics=("loss",))),
        reports.trial_plot_from_proto,
        reports.trial_plot_to_proto,
    ),
    "round": (
        studies.study_round_to_proto(ROUND),
        studies.study_round_from_proto,
        studies.study_round_to_proto,
    ),
    "struct": (
        structs.struct_to_proto({"a": 1}),
        structs.struct_from_proto,
        structs.struct_to_proto,
    ),
    "study": (studies.study_to_proto(STUDY), studies.study_from_proto, studies.study_to_proto),
    "timestamp": (Timestamp(seconds=1), times.timestamp_from_proto, times.timestamp_to_proto),
    "trial": (trials.trial_to_proto(TRIAL), trials.trial_from_proto, trials.trial_to_proto),
}
READERS |= {
    name: (
        advisors.advisor_settings_to_proto(valid),
        advisors.advisor_settings_from_proto,
        advisors.advisor_settings_to_proto,
    )
    for name, valid in SETTINGS.items()
}

SCALARS: dict[int, st.SearchStrategy[object]] = {
    FieldDescriptor.CPPTYPE_INT32: st.sampled_from([0, 1, 2, 7, 99, -1, 2**31 - 1, -(2**31)]),
    FieldDescriptor.CPPTYPE_ENUM: st.sampled_from([0, 1, 2, 7, 99, -1, 2**31 - 1, -(2**31)]),
    FieldDescriptor.CPPTYPE_INT64: st.sampled_from([0, 1, 2, 24, -1, 2**62, 2**63 - 1, -(2**63)]),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats() | st.sampled_from([0.0, 0.5, 1.0, 1e308]),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
}
TEXTS = st.sampled_from(
    ["", "a", "cell", "A", "é", "\x00", "\U0001f600" * 200, "m:C", ":", ".:", "x" * 9000, "0" * 64]
)


def fill(draw: st.DrawFn, message: Message, depth: int) -> None:
    """Sets some fields of `message`, at random and with edge cases."""
    fields = list(cast(Sequence[FieldDescriptor], message.DESCRIPTOR.fields))
    for field in draw(st.lists(st.sampled_from(fields), max_size=5, unique=True)) if fields else ():
        target = getattr(message, field.name)
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            key = draw(TEXTS)
            value = entry.fields_by_name["value"]
            if value.message_type is not None:
                fill(draw, target[key], depth - 1)
            else:
                target[key] = draw(scalars(value))
        elif entry is not None:
            if depth > 0:
                if field.is_repeated:
                    fill(draw, target.add(), depth - 1)
                else:
                    target.SetInParent()
                    fill(draw, target, depth - 1)
        elif field.is_repeated:
            target.extend(draw(st.lists(scalars(field), max_size=3)))
        else:
            setattr(message, field.name, draw(scalars(field)))


def scalars(field: FieldDescriptor) -> st.SearchStrategy[object]:
    """Values for a field that holds no message."""
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=3)
    return SCALARS.get(field.cpp_type, TEXTS)


@st.composite
def tampered(draw: st.DrawFn, valid: Message) -> Message:
    """A message of the type of `valid`: some of its fields, some others."""
    message = type(valid)()
    if draw(st.booleans()):
        message.CopyFrom(valid)
    extra = type(valid)()
    fill(draw, extra, depth=4)
    message.MergeFrom(extra)
    # As it arrives.
    return type(valid).FromString(message.SerializeToString())


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_tampered_message_is_refused_in_a_line_or_can_be_answered_with(
    name: str, data: st.DataObject
) -> None:
    valid, read, write = READERS[name]
    message = data.draw(tampered(valid))
    try:
        resource = read(message)
    except (InvalidField, InvalidKnobConfig) as error:
        assert len(str(error)) < 500
    else:
        write(resource)


@pytest.mark.parametrize("name", READERS)
def test_an_empty_message_is_read_or_refused(name: str) -> None:
    valid, read, _ = READERS[name]
    try:
        read(type(valid)())
    except (InvalidField, InvalidKnobConfig) as error:
        assert str(error)


@pytest.mark.parametrize("name", READERS)
def test_a_valid_message_is_read(name: str) -> None:
    valid, read, _ = READERS[name]
    assert read(valid) is not None
