"""One run of a task: what is asked of the template in each phase.

A template with the pair of candidate methods keeps its instances; any other template gets a
new instance per trial, with the one candidate as its arch knobs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from rafiki.model.base import BaseModel, Candidate, CandidateModel, takes_candidates
from rafiki.model.knobs import Policy, arch_knobs, arch_values
from rafiki.model.logger import logger
from rafiki.model.params import InvalidParams, check_params, is_training_state
from rafiki.resources import TrialPhase
from rafiki.worker.child.instances import Instance, Instances, construct
from rafiki.worker.child.measure import Stopwatch
from rafiki.worker.child.parameters import HeldParameters
from rafiki.worker.child.sink import StopFlag
from rafiki.worker.framing import Array
from rafiki.worker.task import ChildTimings, Ended, Task


class BadResult(Exception):
    """A template returned what its method may not return; the message says what."""


class NonFiniteScore(Exception):
    """A template's score is NaN or infinite."""


class Cancelled(Exception):
    """Nobody waits for the outcome any more."""


@dataclass(slots=True)
class Result:
    """What a run came to; `params` are to be saved, if there are any."""

    score: float | None = None
    candidate_scores: tuple[float, ...] = ()
    test_score: float | None = None
    updates: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    params: dict[str, Array] | None = None
    setup_s: float = 0.0
    train_s: float = 0.0
    evaluate_s: float = 0.0

    def to_ended(self, run: int) -> Ended:
        """As it is told to the worker, but for what is known only later."""
        return Ended(
            run=run,
            score=self.score,
            candidate_scores=self.candidate_scores,
            test_score=self.test_score,
            updates=self.updates,
            metrics=self.metrics,
            timings=ChildTimings(
                setup_s=self.setup_s, train_s=self.train_s, evaluate_s=self.evaluate_s
            ),
        )


class Execution:
    """Runs tasks of every phase but PROBE. For the template's thread."""

    def __init__(
        self,
        instances: Instances,
        parameters: HeldParameters,
        stopwatch: Stopwatch,
        flag: StopFlag,
    ) -> None:
        self._instances = instances
        self._parameters = parameters
        self._stopwatch = stopwatch
        self._flag = flag
        # The instance in use: of unknown state if something is raised.
        self.in_use: Instance | None = None
        # The instance that dumped what is being saved: it holds that checkpoint.
        self._dumped: Instance | None = None

    def run(self, model_class: type[BaseModel], task: Task) -> Result:
        """Runs one task to its end.

        Raises:
            Cancelled, NonFiniteScore, BadResult, MissingParameters: As they say.
            Exception: Whatever the template raises.
        """
        self._dumped = None
        searches = task.phase in (
            TrialPhase.SEARCH_TRAIN,
            TrialPhase.SEARCH_EVAL,
            TrialPhase.FINAL_EVAL,
        )
        if searches and takes_candidates(model_class):
            return self._run_candidates(model_class, task)
        return self._run_single(model_class, task)

    def saved(self, name: str, params: Mapping[str, Array]) -> None:
        """What the latest run dumped is now checkpoint `name`."""
        self._parameters.put(name, params)
        if self._dumped is not None:
            self._dumped.holds = name

    def _run_candidates(self, model_class: type[BaseModel], task: Task) -> Result:
        result = Result()
        with self._stopwatch.span() as setup:
            instance = self.in_use = self._instances.get(model_class, task, task.policies)
            candidates = candidate_values(model_class, task)
        result.setup_s = setup.seconds
        if Policy.SKIP_TRAIN not in task.policies and task.phase is TrialPhase.SEARCH_TRAIN:
            self._train_candidates(instance, task, candidates, result)
        elif task.start_checkpoint and instance.holds != task.start_checkpoint:
            params = self._parameters.get(task.start_checkpoint)
            with self._stopwatch.span() as setup:
                instance.load(task.start_checkpoint, params)
            result.setup_s += setup.seconds
        self._check_cancelled()
        if task.evaluate:
            pair = cast(CandidateModel, instance.model)
            with self._stopwatch.span() as evaluated:
                scores = pair.evaluate_candidates(task.validation_path, candidates, seed=task.seed)
            result.evaluate_s = evaluated.seconds
            result.candidate_scores = check_candidate_scores(scores, len(candidates))
            if len(candidates) == 1:
                result.score = check_score(result.candidate_scores[0])
        if task.save:
            result.params = dump(instance.model)
            self._dumped = instance
        self.in_use = None
        return result

    def _train_candidates(
        self, instance: Instance, task: Task, candidates: Sequence[Candidate], result: Result
    ) -> None:
        shared = self._parameters.get(task.start_checkpoint) if task.start_checkpoint else None
        pair = cast(CandidateModel, instance.model)
        instance.holds = ""
        shard = (task.shard.index, task.shard.count) if task.shard is not None else (0, 1)
        with self._stopwatch.span() as trained:
            report = pair.train_candidates(
                task.train_path,
                candidates,
                shared_params=shared,
                shard=shard,
                data_seed=task.data_seed,
                round=task.round,
            )
        result.train_s = trained.seconds
        read_report(report, result)

    def _run_single(self, model_class: type[BaseModel], task: Task) -> Result:
        result = Result()
        shared = self._parameters.get(task.start_checkpoint) if task.start_checkpoint else None
        with self._stopwatch.span() as setup:
            instance = self.in_use = construct(model_class, task, task.policies)
        result.setup_s = setup.seconds
        model = instance.model
        if Policy.SKIP_TRAIN in task.policies:
            if shared is not None:
                with self._stopwatch.span() as setup:
                    model.load_parameters(shared)
                result.setup_s += setup.seconds
        else:
            with self._stopwatch.span() as trained:
                model.train(task.train_path, shared, **task.train_args)
            result.train_s = trained.seconds
        self._check_cancelled()
        with self._stopwatch.span() as evaluated:
            if task.evaluate:
                result.score = check_score(model.evaluate(task.validation_path))
            if task.test_path:
                self._check_cancelled()
                result.test_score = check_score(model.evaluate(task.test_path))
        result.evaluate_s = evaluated.seconds
        if task.save:
            params = dump(model)
            if task.phase is TrialPhase.FINAL_TRAIN:
                params = {
                    path: array for path, array in params.items() if not is_training_state(path)
                }
            result.params = params
        model.destroy()
        self.in_use = None
        return result

    def _check_cancelled(self) -> None:
        if self._flag.is_cancelled:
            raise Cancelled


def candidate_values(model_class: type[BaseModel], task: Task) -> list[Candidate]:
    """The task's candidates as a template takes them: lists of values by arch knob."""
    knobs = arch_knobs(model_class.get_knob_config())
    return [
        {name: arch_values(knob, archs[name]) for name, knob in knobs.items()}
        for archs in task.candidates
    ]


def dump(model: BaseModel) -> dict[str, Array]:
    """What a template dumps, checked; arrays of its own that nobody changes."""
    params = model.dump_parameters()
    try:
        check_params(params)
    except InvalidParams as error:
        raise BadResult(f"dump_parameters: {error}") from error
    return {path: array.copy() for path, array in params.items()}


def check_score(score: object) -> float:
    """A score as a finite float."""
    try:
        value = float(cast(float, score))
    except (TypeError, ValueError):
        raise BadResult(f"evaluate returned no number but {type(score).__name__}") from None
    if not math.isfinite(value):
        raise NonFiniteScore(f"the score is {value}")
    return value


def check_candidate_scores(scores: object, count: int) -> tuple[float, ...]:
    """One score per candidate; one that is infinite is no score, hence NaN."""
    if not isinstance(scores, Sequence) and not hasattr(scores, "__len__"):
        raise BadResult(f"evaluate_candidates returned no list but {type(scores).__name__}")
    values = [float(score) for score in cast(Sequence[float], scores)]
    if len(values) != count:
        raise BadResult(f"evaluate_candidates returned {len(values)} scores for {count} candidates")
    if any(math.isinf(value) for value in values):
        logger.log("infinite scores count as unscored", level="WARNING")
    return tuple(math.nan if math.isinf(value) else value for value in values)


def read_report(report: object, result: Result) -> int:
    """Puts what `train_candidates` returned into `result`; returns the steps per epoch."""
    if not isinstance(report, Mapping):
        raise BadResult(f"train_candidates returned no dict but {type(report).__name__}")
    steps = report.get("steps_per_epoch")
    updates = report.get("updates", {})
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise BadResult(f"train_candidates: steps_per_epoch must be at least 1, not {steps!r}")
    if not isinstance(updates, Mapping):
        raise BadResult("train_candidates: updates must be a dict of counts by tensor path")
    result.updates = {str(path): int(count) for path, count in updates.items()}
    result.metrics = {
        str(name): float(value)
        for name, value in report.items()
        if name not in ("steps_per_epoch", "updates")
    }
    return steps
