"""Train jobs, and the models and data sets they use."""

import re
from collections.abc import Mapping
from datetime import timedelta

from rafiki.resources import Budget, Dataset, Direction, Model, TrainJob, TrainJobState
from rafiki.v1 import datasets_pb2, jobs_pb2, models_pb2
from rafiki.wire.enums import enum_to_proto
from rafiki.wire.fields import (
    APP,
    TASK,
    InvalidField,
    at,
    at_key,
    at_least,
    at_most_items,
    display_name,
    enum_value,
    matching,
    optional_finite,
)
from rafiki.wire.knobs import knob_config_from_proto, knob_config_to_proto
from rafiki.wire.params import digest_from_proto, digest_to_proto
from rafiki.wire.structs import struct_from_proto, struct_to_proto
from rafiki.wire.studies import study_spec_from_proto, study_spec_to_proto
from rafiki.wire.times import (
    duration_from_proto,
    duration_to_proto,
    optional_timestamp_from_proto,
    optional_timestamp_to_proto,
)

MAX_STUDIES = 32
MAX_DEPENDENCIES = 100
# So that a deadline is a date.
MAX_BUDGET_TIME = timedelta(days=36_500)

# A project name as in PEP 508, and what can be one exact version of PEP 440.
_PROJECT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]{0,127}")


def budget_to_proto(budget: Budget) -> jobs_pb2.Budget:
    """The message for a budget; a time of 0 is no limit and left unset."""
    return jobs_pb2.Budget(
        time=duration_to_proto(budget.time) if budget.time else None,
        gpu_count=budget.gpu_count,
        model_trial_count=budget.model_trial_count,
    )


def budget_from_proto(message: jobs_pb2.Budget, path: str = "") -> Budget:
    """A budget with a time or a number of trials, nothing in it negative."""
    time = duration_from_proto(message.time, at(path, "time"))
    if time > MAX_BUDGET_TIME:
        raise InvalidField(at(path, "time"), f"must be at most {MAX_BUDGET_TIME.days} days")
    count = at_least(message.model_trial_count, 0, at(path, "model_trial_count"))
    if not (time or count):
        raise InvalidField(at(path, "time"), "must be set, or model_trial_count")
    return Budget(
        time=time or None,
        gpu_count=at_least(message.gpu_count, 0, at(path, "gpu_count")),
        model_trial_count=count,
    )


def train_job_to_proto(job: TrainJob) -> jobs_pb2.TrainJob:
    """The message for a job.

    Raises:
        InvalidKnobConfig: A study has a knob config that breaks a rule.
        InvalidField: `train_args` holds what is not JSON.
        ValueError: Anything else that no message can hold.
    """
    return jobs_pb2.TrainJob(
        name=job.name,
        app=job.app,
        app_version=job.app_version,
        task=job.task,
        train_dataset=job.train_dataset,
        validation_dataset=job.validation_dataset,
        test_dataset=job.test_dataset,
        train_args=struct_to_proto(job.train_args, "train_args") if job.train_args else None,
        studies=[study_spec_to_proto(spec) for spec in job.studies],
        budget=budget_to_proto(job.budget),
        goal_score=job.goal_score,
        direction=enum_to_proto(job.direction),
        seed=job.seed,
        owner=job.owner,
        state=enum_to_proto(job.state),
        best_trial=job.best_trial,
        create_time=optional_timestamp_to_proto(job.create_time),
        end_time=optional_timestamp_to_proto(job.end_time),
        workers=job.workers,
        waiting_for=job.waiting_for,
        time_used=None if job.time_used is None else duration_to_proto(job.time_used),
    )


def train_job_from_proto(message: jobs_pb2.TrainJob, path: str = "") -> TrainJob:
    """A job as asked for or as answered. Raises InvalidKnobConfig too.

    An unspecified direction is MAXIMIZE, an unspecified state RUNNING.
    """
    has = message.HasField
    if not 1 <= len(message.studies) <= MAX_STUDIES:
        rule = f"must have 1 to {MAX_STUDIES} entries, not {len(message.studies)}"
        raise InvalidField(at(path, "studies"), rule)
    direction = enum_value(Direction, message.direction, at(path, "direction"))
    state = enum_value(TrainJobState, message.state, at(path, "state"))
    return TrainJob(
        app=matching(message.app, APP, at(path, "app")),
        task=matching(message.task, TASK, at(path, "task")),
        studies=tuple(
            study_spec_from_proto(spec, at(path, f"studies[{number}]"))
            for number, spec in enumerate(message.studies)
        ),
        budget=budget_from_proto(message.budget, at(path, "budget")),
        name=message.name,
        app_version=at_least(message.app_version, 0, at(path, "app_version")),
        train_dataset=message.train_dataset,
        validation_dataset=message.validation_dataset,
        test_dataset=message.test_dataset,
        train_args=struct_from_proto(message.train_args, at(path, "train_args")),
        goal_score=optional_finite(
            message.goal_score if has("goal_score") else None, at(path, "goal_score")
        ),
        direction=direction or Direction.MAXIMIZE,
        seed=at_least(message.seed, 0, at(path, "seed")) if has("seed") else None,
        owner=message.owner,
        state=state or TrainJobState.RUNNING,
        best_trial=message.best_trial,
        create_time=optional_timestamp_from_proto(
            message.create_time if has("create_time") else None, at(path, "create_time")
        ),
        end_time=optional_timestamp_from_proto(
            message.end_time if has("end_time") else None, at(path, "end_time")
        ),
        workers=at_least(message.workers, 0, at(path, "workers")),
        waiting_for=message.waiting_for,
        time_used=(
            duration_from_proto(message.time_used, at(path, "time_used"))
            if has("time_used")
            else None
        ),
    )


def model_to_proto(model: Model) -> models_pb2.Model:
    """The message for a model. Raises InvalidKnobConfig."""
    return models_pb2.Model(
        name=model.name,
        display_name=model.display_name,
        task=model.task,
        model_class=model.model_class,
        source=digest_to_proto(model.source),
        dependencies=model.dependencies,
        knob_config=knob_config_to_proto(model.knob_config),
        candidate_batches=model.candidate_batches,
        owner=model.owner,
        create_time=optional_timestamp_to_proto(model.create_time),
    )


def model_from_proto(message: models_pb2.Model, path: str = "") -> Model:
    """A model; what its source may be is for the server to say. Raises InvalidKnobConfig too."""
    return Model(
        display_name=display_name(message.display_name, at(path, "display_name")),
        task=matching(message.task, TASK, at(path, "task")),
        model_class=model_class(message.model_class, at(path, "model_class")),
        source=digest_from_proto(message.source, at(path, "source")),
        knob_config=knob_config_from_proto(message.knob_config),
        dependencies=dependencies_from_proto(message.dependencies, at(path, "dependencies")),
        candidate_batches=message.candidate_batches,
        name=message.name,
        owner=message.owner,
        create_time=optional_timestamp_from_proto(
            message.create_time if message.HasField("create_time") else None,
            at(path, "create_time"),
        ),
    )


def model_class(text: str, path: str = "") -> str:
    """`text`, if it is `module:Class` with dots only in the module."""
    module, _, name = text.partition(":")
    if not name.isidentifier() or not all(part.isidentifier() for part in module.split(".")):
        raise InvalidField(path, "must be `module:Class`")
    return text


def dependencies_from_proto(messages: Mapping[str, str], path: str = "") -> dict[str, str]:
    """Project names to exact versions, neither of which means anything to a shell."""
    at_most_items(len(messages), MAX_DEPENDENCIES, path)
    for project, version in messages.items():
        if not (_PROJECT.fullmatch(project) and _VERSION.fullmatch(version)):
            raise InvalidField(
                at_key(path, project), "must be a project name and one exact version"
            )
    return dict(sorted(messages.items()))


def dataset_to_proto(dataset: Dataset) -> datasets_pb2.Dataset:
    """The message for a data set."""
    return datasets_pb2.Dataset(
        name=dataset.name,
        display_name=dataset.display_name,
        task=dataset.task,
        digest=digest_to_proto(dataset.digest),
        owner=dataset.owner,
        create_time=optional_timestamp_to_proto(dataset.create_time),
    )


def dataset_from_proto(message: datasets_pb2.Dataset, path: str = "") -> Dataset:
    """A data set with a digest."""
    return Dataset(
        display_name=display_name(message.display_name, at(path, "display_name")),
        task=matching(message.task, TASK, at(path, "task")),
        digest=digest_from_proto(message.digest, at(path, "digest")),
        name=message.name,
        owner=message.owner,
        create_time=optional_timestamp_from_proto(
            message.create_time if message.HasField("create_time") else None,
            at(path, "create_time"),
        ),
    )
