"""What a worker tells its child process to do, and what the child answers.

Messages by "type". To the child: "run" (a task), "parameters" (with tensors),
"no_parameters", "saved", "stop". From the child: "log", "metrics", "plot", "progress",
"need_parameters", and one "ended" per "run" (with tensors if a checkpoint is to be saved).
All but "saved" carry the number of the run, so that what comes late meets no other trial.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from rafiki.model.knobs import Policy, Scalar
from rafiki.resources import (
    JSON,
    Archs,
    Shard,
    TrialCosts,
    TrialError,
    TrialErrorKind,
    TrialPhase,
)
from rafiki.worker.framing import Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One trial for the child: a `Trial` with everything it needs as files.

    `run` counts the tasks of a worker. `source` identifies the template: equal digests are
    one class. `test_path` is empty unless the trial is to be scored on the test data.
    """

    run: int
    source: str
    source_path: str
    model_class: str
    config_digest: str
    phase: TrialPhase
    knobs: Mapping[str, Scalar] = field(default_factory=dict)
    candidates: tuple[Archs, ...] = ()
    policies: frozenset[Policy] = frozenset()
    seed: int = 0
    start_checkpoint: str = ""
    round: int = 0
    shard: Shard | None = None
    data_seed: int = 0
    evaluate: bool = True
    save: bool = True
    train_path: str = ""
    validation_path: str = ""
    test_path: str = ""
    train_args: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildTimings:
    """Where the child's time went, in seconds; compilation is in none of the others."""

    setup_s: float = 0.0
    compile_s: float = 0.0
    train_s: float = 0.0
    evaluate_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a run ended: with `error`, with `cancelled`, or with an outcome.

    `updates` are the update counts of the tensors dumped, by path. `compilations` are the
    programs really compiled, by name; `cache_hits` those found in XLA's cache on disk.
    """

    run: int
    score: float | None = None
    candidate_scores: tuple[float, ...] = ()
    test_score: float | None = None
    costs: TrialCosts | None = None
    updates: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    timings: ChildTimings = field(default_factory=ChildTimings)
    compilations: Mapping[str, int] = field(default_factory=dict)
    cache_hits: int = 0
    cancelled: bool = False
    error: TrialError | None = None


def task_to_message(task: Task) -> Message:
    """The "run" message for a task."""
    fields = asdict(task)
    fields["policies"] = sorted(task.policies)
    return {"type": "run", **fields}


def task_from_message(message: Message) -> Task:
    """The task of a "run" message."""
    fields = {key: value for key, value in message.items() if key != "type"}
    fields["phase"] = TrialPhase(fields["phase"])
    fields["policies"] = frozenset(Policy(policy) for policy in fields["policies"])
    fields["candidates"] = tuple(
        {name: tuple(choices) for name, choices in archs.items()} for archs in fields["candidates"]
    )
    if fields["shard"] is not None:
        fields["shard"] = Shard(**fields["shard"])
    return Task(**fields)


def ended_to_message(ended: Ended) -> Message:
    """The "ended" message."""
    return {"type": "ended", **asdict(ended)}


def ended_from_message(message: Message) -> Ended:
    """The outcome in an "ended" message.

    Raises:
        ValueError, TypeError, KeyError: The message is not one the child writes.
    """
    fields = {key: value for key, value in message.items() if key != "type"}
    fields["candidate_scores"] = tuple(float(score) for score in fields["candidate_scores"])
    fields["timings"] = ChildTimings(**fields["timings"])
    if fields["costs"] is not None:
        fields["costs"] = TrialCosts(**fields["costs"])
    if fields["error"] is not None:
        error = fields["error"]
        fields["error"] = TrialError(
            kind=TrialErrorKind(error["kind"]),
            message=str(error["message"]),
            traceback=str(error["traceback"]),
        )
    return Ended(**fields)
