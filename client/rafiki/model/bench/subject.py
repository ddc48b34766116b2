"""The template on the bench: instances as a worker makes them, and careful calls."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rafiki.model.base import BaseModel
from rafiki.model.bench.report import Complaint
from rafiki.model.bench.sample import random_arguments
from rafiki.model.knobs import KnobConfig, Policy, offered_policies
from rafiki.model.logger import Level, logger
from rafiki.model.params import (
    InvalidParams,
    check_params,
    decode_tensor,
    dtype_name,
    encode_tensor,
    is_training_state,
)

Stored = dict[str, tuple[bytes, str, tuple[int, ...]]]


@dataclass(slots=True)
class BenchSink:
    """Counts what a template logs and stops its training at progress call `stop_at`."""

    stop_at: int | None = None
    progress_calls: int = 0

    def log(self, message: str, level: Level) -> None:
        """Drops a line."""

    def metrics(self, values: dict[str, float], step: int | None, score: float | None) -> None:
        """Drops metrics."""

    def plot(self, title: str, metrics: list[str], x_axis: str) -> None:
        """Drops a plot."""

    def progress(self, fraction: float, remaining_s: float | None) -> bool:
        """True from call number `stop_at` on."""
        self.progress_calls += 1
        return self.stop_at is not None and self.progress_calls >= self.stop_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A template with what it is checked on."""

    model_class: type[BaseModel]
    config: KnobConfig
    train_path: Path
    validation_path: Path
    queries: list[object] | None
    full_training_s: float
    instances: list[BaseModel] = field(default_factory=list)

    def offered(self, *policies: Policy) -> frozenset[Policy]:
        """Those of `policies` that the template declares."""
        return offered_policies(self.config) & frozenset(policies)

    def construct(
        self, policies: frozenset[Policy] = frozenset(), *, knob_seed: int = 1, seed: int = 1
    ) -> BaseModel:
        """A new instance as a worker makes one; equal `knob_seed`s give equal knobs."""
        instance = self.model_class(**random_arguments(self.config, knob_seed, policies))
        instance.seed = seed
        self.instances.append(instance)
        return instance


def connect_sink(*, stop_at: int | None = None) -> BenchSink:
    """A fresh sink that the logger is connected to."""
    sink = BenchSink(stop_at)
    logger.connect(sink)
    return sink


def checked_score(value: object, method: str) -> float:
    """`value` as a finite float.

    Raises:
        Complaint: It is none.
    """
    if isinstance(value, str | None):
        raise Complaint(
            f"{method} returned {value!r}, not a number.", "return the score as a float."
        )
    try:
        score = float(value)  # type: ignore[arg-type]  # whatever has __float__
    except (TypeError, ValueError):
        raise Complaint(
            f"{method} returned {type(value).__name__}, not a number.",
            "return the score as a float.",
        ) from None
    if not math.isfinite(score):
        raise Complaint(
            f"{method} returned {score}: a score must be finite.",
            "look for a division by zero or a loss that overflows, and return a number for a "
            "model that learned nothing too.",
        )
    return score


def checked_predictions(value: object, count: int) -> str:
    """The JSON of `count` predictions.

    Raises:
        Complaint: They are not as many, or JSON cannot carry them.
    """
    if not isinstance(value, list) or len(value) != count:
        what = f"{len(value)} predictions" if isinstance(value, list) else type(value).__name__
        raise Complaint(
            f"predict() returned {what} for {count} queries.",
            "return a list with one prediction per query.",
        )
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise Complaint(
            f"predict() returned what JSON cannot carry: {error}.",
            "return plain finite numbers, strings, lists and dicts; array.tolist() makes them.",
        ) from error


def store(params: object) -> Stored:
    """A copy of dumped parameters as the parameter store keeps it.

    Raises:
        Complaint: They break a rule.
    """
    try:
        check_params(params)
    except InvalidParams as error:
        raise Complaint(
            f"dump_parameters(): {error}.", "return a dict of NumPy arrays by path."
        ) from error
    assert isinstance(params, Mapping)
    if not params:
        raise Complaint(
            "dump_parameters() returned nothing.",
            "return everything that training changed, as NumPy arrays by path.",
        )
    return {
        path: (encode_tensor(array), dtype_name(array), array.shape)
        for path, array in params.items()
    }


def restore(stored: Stored) -> dict[str, np.ndarray]:
    """Fresh arrays of what was stored."""
    return {path: decode_tensor(*tensor) for path, tensor in stored.items()}


def deployable(stored: Stored) -> Stored:
    """What is left without the state of the training."""
    return {path: tensor for path, tensor in stored.items() if not is_training_state(path)}


def differing(before: Stored, after: Stored) -> list[str]:
    """The paths in one of them only, or with other bytes, dtypes or shapes, sorted."""
    return sorted(
        path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
    )


def quoted(paths: list[str]) -> str:
    """The first few of many paths, for a message."""
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(map(repr, paths[:3])) + more
