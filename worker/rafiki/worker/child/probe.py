"""PROBE: a short run that measures what the trials of a study will cost.

All durations are without compilation, which is reported apart. What a template does only
once (loading its data, say) is in the first of two calls, and the second is timed.
"""

from collections.abc import Callable, Sequence
from typing import cast

from rafiki.model.base import BaseModel, Candidate, CandidateModel, takes_candidates
from rafiki.model.knobs import Policy, offered_policies
from rafiki.model.logger import Level, LogSink, logger
from rafiki.resources import TrialCosts
from rafiki.worker.child.execution import (
    Cancelled,
    Result,
    candidate_values,
    check_candidate_scores,
    check_score,
    dump,
    read_report,
)
from rafiki.worker.child.instances import construct
from rafiki.worker.child.measure import Stopwatch
from rafiki.worker.child.sink import StopFlag
from rafiki.worker.framing import Array
from rafiki.worker.task import Task

# Training is watched for so long after its first report, and for so many reports.
WATCH_S = 1.0
WATCH_REPORTS = 3

SEARCH_EVAL_POLICIES = frozenset(
    (Policy.SHARE_PARAMS, Policy.SKIP_TRAIN, Policy.QUICK_EVAL, Policy.DOWNSCALE)
)
FINAL_EVAL_POLICIES = SEARCH_EVAL_POLICIES - {Policy.QUICK_EVAL}


class TrainingWatch:
    """A sink that stops a training once its speed is known, and passes all else on."""

    def __init__(self, sink: LogSink, stopwatch: Stopwatch) -> None:
        self._sink = sink
        self._stopwatch = stopwatch
        self._reports: list[tuple[float, float]] = []

    def log(self, message: str, level: Level) -> None:
        self._sink.log(message, level)

    def metrics(self, values: dict[str, float], step: int | None, score: float | None) -> None:
        self._sink.metrics(values, step, score)

    def plot(self, title: str, metrics: list[str], x_axis: str) -> None:
        self._sink.plot(title, metrics, x_axis)

    def progress(self, fraction: float, remaining_s: float | None) -> bool:
        self._reports.append((self._stopwatch.now(), fraction))
        # Nobody is helped by how far a training is that will be stopped.
        stop = self._sink.progress(0.0, None)
        first_time, first_fraction = self._reports[0]
        last_time, last_fraction = self._reports[-1]
        return stop or (
            len(self._reports) >= WATCH_REPORTS
            and last_time - first_time >= WATCH_S
            and last_fraction > first_fraction
        )

    def whole_s(self, ran_s: float) -> float:
        """Seconds for a whole training, of which `ran_s` have been run.

        What came before the first report is counted once, the rest by the share done between
        the first report and the last. A training that did not report is taken as whole.
        """
        if len(self._reports) < 2:
            return ran_s
        first_time, first_fraction = self._reports[0]
        last_time, last_fraction = self._reports[-1]
        if last_fraction <= first_fraction or last_fraction >= 1.0:
            return ran_s
        per_fraction = (last_time - first_time) / (last_fraction - first_fraction)
        return ran_s + per_fraction * (1.0 - last_fraction)


class Probe:
    """Runs PROBE tasks. Instances are its own and given up again."""

    def __init__(self, stopwatch: Stopwatch, flag: StopFlag) -> None:
        self._stopwatch = stopwatch
        self._flag = flag

    def run(self, model_class: type[BaseModel], task: Task, sink: LogSink) -> TrialCosts:
        """The costs of a template's trials but for compilation, which the caller knows.

        A task with DOWNSCALE on stands for a search on shared weights, then training in
        full; any other for trials that are trained on their own, under its policies. If
        these stop such a trial early, training in full is measured beside it.
        """
        if Policy.DOWNSCALE not in task.policies:
            return self._probe_tuning(model_class, task, sink)
        offered = offered_policies(model_class.get_knob_config())
        if takes_candidates(model_class):
            costs = self._probe_candidates(model_class, task, offered)
        else:
            costs = self._probe_single(model_class, task, offered, sink)
        self._check_stopped()
        final_train_s = self._train_in_full(model_class, task, frozenset(), sink)
        return TrialCosts(
            steps_per_epoch=costs.steps_per_epoch,
            search_train_s=costs.search_train_s,
            search_eval_s=costs.search_eval_s,
            final_eval_s=costs.final_eval_s,
            final_train_s=final_train_s,
        )

    def _probe_tuning(self, model_class: type[BaseModel], task: Task, sink: LogSink) -> TrialCosts:
        tune_s = self._train_in_full(model_class, task, task.policies, sink)
        if Policy.EARLY_STOP not in task.policies:
            return TrialCosts(final_train_s=tune_s)
        self._check_stopped()
        final_train_s = self._train_in_full(model_class, task, frozenset(), sink)
        return TrialCosts(search_train_s=tune_s, final_train_s=final_train_s)

    def _probe_candidates(
        self, model_class: type[BaseModel], task: Task, offered: frozenset[Policy]
    ) -> TrialCosts:
        candidates = candidate_values(model_class, task)
        model = construct(model_class, task, task.policies).model
        pair = cast(CandidateModel, model)
        result = Result()
        steps = 0

        def train(some: Sequence[Candidate]) -> float:
            nonlocal steps
            with self._stopwatch.span() as span:
                report = pair.train_candidates(
                    task.train_path,
                    some,
                    shared_params=None,
                    shard=(0, 1),
                    data_seed=task.data_seed,
                    round=1,
                )
            steps = read_report(report, result)
            self._check_stopped()
            return span.seconds

        train(candidates)
        search_train_s = _scaled(
            train(candidates), train(candidates[:1]), len(candidates), whole=steps
        )
        with self._stopwatch.span() as dumped:
            params = dump(model)
        model.destroy()
        search_eval_s = self._evaluate_candidates(
            model_class, task, SEARCH_EVAL_POLICIES & offered, params, candidates
        )
        # On all of the data one candidate is enough to tell what several cost.
        final_eval_s = len(candidates) * self._evaluate_candidates(
            model_class, task, FINAL_EVAL_POLICIES & offered, params, candidates[:1]
        )
        return TrialCosts(
            steps_per_epoch=steps,
            search_train_s=search_train_s + dumped.seconds,
            search_eval_s=search_eval_s,
            final_eval_s=final_eval_s,
        )

    def _evaluate_candidates(
        self,
        model_class: type[BaseModel],
        task: Task,
        policies: frozenset[Policy],
        params: dict[str, Array],
        candidates: Sequence[Candidate],
    ) -> float:
        model = construct(model_class, task, policies).model
        model.load_parameters({path: array.copy() for path, array in params.items()})
        pair = cast(CandidateModel, model)

        def evaluate() -> object:
            return pair.evaluate_candidates(task.validation_path, candidates, seed=task.seed)

        check_candidate_scores(evaluate(), len(candidates))
        self._check_stopped()
        seconds = self._time(evaluate)
        model.destroy()
        return seconds

    def _probe_single(
        self,
        model_class: type[BaseModel],
        task: Task,
        offered: frozenset[Policy],
        sink: LogSink,
    ) -> TrialCosts:
        model = construct(model_class, task, task.policies).model
        search_train_s = self._watch_training(model, task, sink)
        params = dump(model)
        model.destroy()
        seconds: list[float] = []
        for policies in (SEARCH_EVAL_POLICIES & offered, FINAL_EVAL_POLICIES & offered):
            self._check_stopped()
            model = construct(model_class, task, policies).model
            model.load_parameters({path: array.copy() for path, array in params.items()})
            seconds.append(self._time_evaluation(model, task))
            model.destroy()
        return TrialCosts(
            search_train_s=search_train_s, search_eval_s=seconds[0], final_eval_s=seconds[1]
        )

    def _train_in_full(
        self,
        model_class: type[BaseModel],
        task: Task,
        policies: frozenset[Policy],
        sink: LogSink,
    ) -> float:
        """Seconds to train and evaluate as in FINAL_TRAIN or TUNE, extrapolated."""
        model = construct(model_class, task, policies).model
        train_s = self._watch_training(model, task, sink)
        self._check_stopped()
        evaluate_s = self._time_evaluation(model, task)
        model.destroy()
        return train_s + evaluate_s

    def _watch_training(self, model: BaseModel, task: Task, sink: LogSink) -> float:
        watch = TrainingWatch(sink, self._stopwatch)
        logger.connect(watch)
        try:
            ran_s = self._time(lambda: model.train(task.train_path, None, **task.train_args))
        finally:
            logger.connect(sink)
        return watch.whole_s(ran_s)

    def _time_evaluation(self, model: BaseModel, task: Task) -> float:
        return self._time(lambda: check_score(model.evaluate(task.validation_path)))

    def _time(self, call: Callable[[], object]) -> float:
        with self._stopwatch.span() as span:
            call()
        return span.seconds

    def _check_stopped(self) -> None:
        # A PROBE that was stopped has nothing to say.
        if self._flag.is_stopped:
            raise Cancelled


def _scaled(several_s: float, one_s: float, count: int, *, whole: int) -> float:
    """Seconds for `whole` steps, from calls of `count` steps and of a single one.

    What every call takes once, however many steps, is told apart by the two calls; where
    noise leaves nothing sensible, all of it counts as steps.
    """
    naive_s = several_s / count
    if count == 1:
        return naive_s * whole
    step_s = (several_s - one_s) / (count - 1)
    if not 0.2 * naive_s <= step_s <= naive_s:
        return naive_s * whole
    return step_s * whole + max(one_s - step_s, 0.0)
