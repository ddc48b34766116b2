import dataclasses
import math
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import Struct, Value
from hypothesis import given
from hypothesis import strategies as st

from rafiki.model.knobs import CategoricalKnob, FixedKnob, InvalidKnobConfig
from rafiki.resources import (
    Budget,
    Dataset,
    Digest,
    Direction,
    Model,
    StudySpec,
    TrainJob,
    TrainJobState,
)
from rafiki.v1 import datasets_pb2, jobs_pb2, models_pb2
from rafiki.wire.fields import InvalidField
from rafiki.wire.jobs import (
    budget_from_proto,
    budget_to_proto,
    dataset_from_proto,
    dataset_to_proto,
    model_from_proto,
    model_to_proto,
    train_job_from_proto,
    train_job_to_proto,
)

TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
COUNTS = st.integers(0, 2**31 - 1)
TIMES = st.none() | st.datetimes(timezones=st.just(UTC))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
DIGEST = Digest("ab" * 32, 100)
JOB = TrainJob(
    app="digits",
    task="IMAGE_CLASSIFICATION",
    studies=(StudySpec(model="models/1"),),
    budget=Budget(time=timedelta(hours=1)),
)
MODEL = Model(
    display_name="A model",
    task="IMAGE_CLASSIFICATION",
    model_class="package.module:Class",
    source=DIGEST,
    knob_config={"k": FixedKnob(1), "c": CategoricalKnob(["x", "y"])},
    dependencies={"optax": "0.2.8", "scikit-learn": "1.7.0rc1"},
    candidate_batches=True,
    name="models/1",
    owner="users/local",
    create_time=datetime(2026, 1, 1, tzinfo=UTC),
)
DATASET = Dataset(
    display_name="d" * 128,
    task="T",
    digest=DIGEST,
    name="datasets/1",
    owner="users/local",
    create_time=datetime(2026, 1, 1, tzinfo=UTC),
)


@given(
    st.builds(
        TrainJob,
        app=st.from_regex(r"[a-z][a-z0-9-]{0,62}", fullmatch=True),
        task=st.from_regex(r"[A-Z][A-Z0-9_]{0,62}", fullmatch=True),
        studies=st.lists(
            st.builds(StudySpec, model=TEXTS.filter(bool)), min_size=1, max_size=3
        ).map(tuple),
        budget=st.builds(
            Budget,
            time=st.none() | st.timedeltas(timedelta(seconds=1), timedelta(days=36_500)),
            gpu_count=COUNTS,
            model_trial_count=st.integers(1, 2**31 - 1),
        ),
        name=TEXTS,
        app_version=COUNTS,
        train_dataset=TEXTS,
        validation_dataset=TEXTS,
        test_dataset=TEXTS,
        train_args=st.dictionaries(TEXTS, FLOATS | TEXTS | st.booleans(), max_size=3),
        goal_score=st.none() | FLOATS,
        direction=st.sampled_from(Direction),
        seed=st.none() | st.integers(0, 2**63 - 1),
        owner=TEXTS,
        state=st.sampled_from(TrainJobState),
        best_trial=TEXTS,
        create_time=TIMES,
        end_time=TIMES,
        workers=COUNTS,
        waiting_for=TEXTS,
        time_used=st.none() | st.timedeltas(timedelta(0), timedelta(days=36_500)),
    )
)
def test_a_job_survives_the_round_trip(job: TrainJob) -> None:
    assert train_job_from_proto(train_job_to_proto(job)) == job


def test_models_and_data_sets_survive_the_round_trip() -> None:
    assert model_from_proto(model_to_proto(MODEL)) == MODEL
    assert dataset_from_proto(dataset_to_proto(DATASET)) == DATASET


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (TrainJob, jobs_pb2.TrainJob),
        (Budget, jobs_pb2.Budget),
        (Model, models_pb2.Model),
        (Dataset, datasets_pb2.Dataset),
    ],
)
def test_every_field_is_carried(cls: type[Model], message: type[models_pb2.Model]) -> None:
    names = {field.name for field in message.DESCRIPTOR.fields}
    assert {field.name for field in dataclasses.fields(cls)} == names


def test_a_job_as_asked_for_maximizes_and_runs() -> None:
    message = jobs_pb2.TrainJob(
        app="a",
        task="T",
        studies=train_job_to_proto(JOB).studies,
        budget=jobs_pb2.Budget(model_trial_count=1),
    )
    job = train_job_from_proto(message)
    assert (job.direction, job.state, job.seed) == (
        Direction.MAXIMIZE,
        TrainJobState.RUNNING,
        None,
    )


def test_a_clock_that_has_not_started_is_not_one_at_zero() -> None:
    waiting = train_job_to_proto(JOB)
    started = train_job_to_proto(dataclasses.replace(JOB, time_used=timedelta(0)))
    assert train_job_from_proto(waiting).time_used is None
    assert train_job_from_proto(started).time_used == timedelta(0)


def test_a_paused_job_goes_on_some_time() -> None:
    paused = dataclasses.replace(JOB, state=TrainJobState.PAUSED)
    assert train_job_from_proto(train_job_to_proto(paused)).state is TrainJobState.PAUSED
    assert not TrainJobState.PAUSED.is_end


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"app": ""}, "app"),
        ({"app": "a b"}, "app"),
        ({"app": "a" * 64}, "app"),
        ({"app": "a\n"}, "app"),
        ({"task": "image"}, "task"),
        ({"studies": []}, "studies"),
        ({"studies": [{}] * 33}, "studies"),
        ({"studies": [{}]}, r"studies\[0\].model"),
        ({"studies": [{"model": "m", "advisor": {"kind": 99}}]}, r"studies\[0\].advisor.kind"),
        ({"budget": {}}, "budget.time"),
        ({"budget": None}, "budget.time"),
        ({"budget": {"gpu_count": -1, "model_trial_count": 1}}, "budget.gpu_count"),
        ({"budget": {"model_trial_count": -1}}, "budget.model_trial_count"),
        ({"budget": {"time": {"seconds": -1}}}, "budget.time"),
        ({"budget": {"time": {"seconds": 10**11}}}, "budget.time"),
        ({"goal_score": math.nan}, "goal_score"),
        ({"direction": 99}, "direction"),
        ({"state": 99}, "state"),
        ({"seed": -1}, "seed"),
        ({"train_args": Struct(fields={"x": Value()})}, r"train_args\['x'\]"),
        ({"workers": -1}, "workers"),
        ({"app_version": -1}, "app_version"),
        ({"create_time": {"nanos": -1}}, "create_time"),
        ({"time_used": {"seconds": -1}}, "time_used"),
    ],
)
def test_a_job_out_of_range_is_refused_by_path(fields: dict[str, object], path: str) -> None:
    message = train_job_to_proto(JOB)
    for name, value in fields.items():
        message.ClearField(name)  # type: ignore[arg-type]
        message.MergeFrom(jobs_pb2.TrainJob(**{name: value}))  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match=rf"^train_job\.{path}: "):
        train_job_from_proto(message, "train_job")


def test_a_budget_of_no_time_is_one_without_a_limit_of_time() -> None:
    budget = Budget(time=timedelta(0), model_trial_count=1)
    assert not budget_to_proto(budget).HasField("time")
    message = jobs_pb2.Budget(time=Duration(), model_trial_count=1)
    assert budget_from_proto(message) == Budget(model_trial_count=1)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"display_name": ""}, "display_name"),
        ({"display_name": "x" * 129}, "display_name"),
        ({"task": ""}, "task"),
        ({"model_class": ""}, "model_class"),
        ({"model_class": "module"}, "model_class"),
        ({"model_class": "a..b:C"}, "model_class"),
        ({"model_class": "../a:C"}, "model_class"),
        ({"model_class": "a:C.d"}, "model_class"),
        ({"model_class": "a:C:d"}, "model_class"),
        ({"source": None}, "source.sha256"),
        ({"dependencies": {"a; rm": "1"}}, r"dependencies\['a; rm'\]"),
        ({"dependencies": {"-r": "1"}}, r"dependencies\['-r'\]"),
        ({"dependencies": {"a": ""}}, r"dependencies\['a'\]"),
        ({"dependencies": {"a": ">=1"}}, r"dependencies\['a'\]"),
        ({"dependencies": {f"a{n}": "1" for n in range(101)}}, "dependencies"),
    ],
)
def test_a_malformed_model_is_refused_by_path(fields: dict[str, object], path: str) -> None:
    message = model_to_proto(MODEL)
    for name, value in fields.items():
        message.ClearField(name)  # type: ignore[arg-type]
        message.MergeFrom(models_pb2.Model(**{name: value}))  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match=f"^model.{path}: "):
        model_from_proto(message, "model")


def test_a_model_with_a_knob_that_breaks_a_rule_is_refused() -> None:
    message = model_to_proto(MODEL)
    message.knob_config.knobs[0].name = "K"
    with pytest.raises(InvalidKnobConfig, match="knob 'K': a name matches"):
        model_from_proto(message)


@pytest.mark.parametrize(
    ("field", "path"), [("display_name", "display_name"), ("digest", "digest.sha256")]
)
def test_a_data_set_that_lacks_a_field_is_refused(field: str, path: str) -> None:
    message = dataset_to_proto(DATASET)
    message.ClearField(field)  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match=f"^dataset.{path}: "):
        dataset_from_proto(message, "dataset")
