"""Train jobs, and the models and data sets they use."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeAlias

from rafiki.model.knobs import KnobConfig
from rafiki.resources.enums import Direction, TrainJobState
from rafiki.resources.params import Digest
from rafiki.resources.studies import StudySpec

# What JSON holds: the type of the values of `TrainJob.train_args`.
JSON: TypeAlias = "bool | int | float | str | list[JSON] | dict[str, JSON] | None"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """When a job stops by itself: at the first limit reached. None or 0: no limit."""

    time: timedelta | None = None
    gpu_count: int = 0
    model_trial_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainJob:
    """A search for the best model of one task; see the message of the same name."""

    app: str
    task: str
    studies: tuple[StudySpec, ...]
    budget: Budget
    name: str = ""
    app_version: int = 0
    train_dataset: str = ""
    validation_dataset: str = ""
    test_dataset: str = ""
    train_args: Mapping[str, JSON] = field(default_factory=dict)
    goal_score: float | None = None
    direction: Direction = Direction.MAXIMIZE
    seed: int | None = None
    owner: str = ""
    state: TrainJobState = TrainJobState.RUNNING
    best_trial: str = ""
    create_time: datetime | None = None
    end_time: datetime | None = None
    workers: int = 0
    waiting_for: str = ""
    time_used: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A registered model template; see the message of the same name."""

    display_name: str
    task: str
    model_class: str
    source: Digest
    knob_config: KnobConfig
    dependencies: Mapping[str, str] = field(default_factory=dict)
    candidate_batches: bool = False
    name: str = ""
    owner: str = ""
    create_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A stored data set; see the message of the same name."""

    display_name: str
    task: str
    digest: Digest
    name: str = ""
    owner: str = ""
    create_time: datetime | None = None
