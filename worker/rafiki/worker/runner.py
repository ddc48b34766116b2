"""One trial from assignment to stored outcome. Runs in the thread that owns the child."""

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from rafiki.model.serial import config_digest
from rafiki.resources import (
    Digest,
    LogLevel,
    TrialError,
    TrialErrorKind,
    TrialOutcome,
    TrialPhase,
    TrialTimings,
)
from rafiki.v1 import advisor_pb2, advisor_pb2_grpc
from rafiki.wire.trials import (
    trial_error_to_proto,
    trial_outcome_to_proto,
    trial_timings_to_proto,
)
from rafiki.worker.assignment import Assignment, HeldTrial, Wakeup
from rafiki.worker.calls import Caller, CallRefused, LeaseLost
from rafiki.worker.child_process import ChildDied, ChildProcess, ParametersUnavailable, Stop
from rafiki.worker.environment import missing_dependencies
from rafiki.worker.framing import Array
from rafiki.worker.parameters import Parameters, TransferFailed
from rafiki.worker.reporter import Reporter
from rafiki.worker.task import ChildTimings, Ended, Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a trial ended: with an error, with an outcome, or cancelled (neither)."""

    completed: TrialOutcome | None = None
    error: TrialError | None = None
    timings: TrialTimings = field(default_factory=TrialTimings)


class EnvironmentProblem(Exception):
    """This worker cannot run the trial; another one perhaps can."""


class Runner:
    """Runs trials one after the other. For one thread, which must outlive the children."""

    def __init__(
        self,
        *,
        channel: grpc.Channel,
        caller: Caller,
        parameters: Parameters,
        data_dir: Path,
        memory_limit_bytes: int,
        wakeup: Wakeup,
        closing: Stop,
    ) -> None:
        self._stub = advisor_pb2_grpc.AdvisorServiceStub(channel)
        self._caller = caller
        self._parameters = parameters
        self._data_dir = data_dir
        self._memory_limit_bytes = memory_limit_bytes
        self._wakeup = wakeup
        self._closing = closing
        self._child: ChildProcess | None = None
        self._runs = 0

    def run(self, held: HeldTrial) -> None:
        """Runs a trial and reports its outcome, unless nobody wants it.

        Raises:
            WorkerClosing: The worker is ending; the lease is still held.
        """
        assignment = held.assignment
        reporter = Reporter(
            assignment.trial.name,
            assignment.lease_token,
            lambda request: self._caller.call(self._stub.ReportTrial, request),
            held.lose,
        )
        try:
            outcome = self._outcome(held, reporter)
        except LeaseLost:
            held.lose()
            outcome = Outcome()
        finally:
            reporter.finish()
        if held.is_lost:
            logger.info("trial dropped, its lease is lost trial=%s", assignment.trial.name)
            return
        self._complete(assignment, outcome)

    def close(self) -> None:
        """Ends the child."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def _outcome(self, held: HeldTrial, reporter: Reporter) -> Outcome:
        if held.is_unwanted:  # since before its turn came
            return Outcome()
        start = time.monotonic()
        try:
            task = self._prepare(held.assignment)
            child = self._child_for(held.assignment.gpu_count)
            setup_s = time.monotonic() - start
            ended, params = child.run(task, held, _Events(reporter, self._parameters))
            timings = _timings(setup_s, ended.timings)
            _report_measures(reporter, ended)
            if ended.error is not None:
                return Outcome(error=ended.error, timings=timings)
            if ended.cancelled or held.is_unwanted:
                return Outcome(timings=timings)
            checkpoint = self._save(held.assignment, child, ended, params)
            completed = TrialOutcome(
                score=ended.score,
                candidate_scores=ended.candidate_scores if ended.score is None else (),
                test_score=ended.test_score,
                checkpoint=checkpoint,
                costs=ended.costs,
            )
            return Outcome(completed=completed, timings=timings)
        except ChildDied as death:
            logger.warning("child died trial=%s: %s", held.assignment.trial.name, death)
            timings = TrialTimings(setup_s=time.monotonic() - start)
            return Outcome(error=death.error, timings=timings)
        except LeaseLost:
            raise
        except (EnvironmentProblem, TransferFailed, CallRefused) as problem:
            logger.warning("trial failed trial=%s: %s", held.assignment.trial.name, problem)
            error = TrialError(kind=TrialErrorKind.ENVIRONMENT, message=str(problem))
            return Outcome(error=error)

    def _prepare(self, assignment: Assignment) -> Task:
        trial, study = assignment.trial, assignment.study
        if study.source is None:
            raise EnvironmentProblem("the study has no model: it is for external workers")
        missing = missing_dependencies(dict(study.dependencies))
        if missing:
            raise EnvironmentProblem("; ".join(missing))
        test = study.test_dataset if trial.phase is TrialPhase.FINAL_TRAIN else None
        wanted = [study.source, study.train_dataset, study.validation_dataset, test]
        digests = [digest for digest in wanted if digest is not None]
        paths = dict(zip(digests, self._parameters.fetch_files(digests), strict=True))

        def path(digest: Digest | None) -> str:
            return str(paths[digest]) if digest is not None else ""

        self._runs += 1
        return Task(
            run=self._runs,
            source=study.source.sha256,
            source_path=path(study.source),
            model_class=study.model_class,
            config_digest=config_digest(study.knob_config),
            phase=trial.phase,
            knobs=trial.knobs,
            candidates=tuple(candidate.archs for candidate in trial.candidates),
            policies=trial.policies,
            seed=trial.seed,
            start_checkpoint=trial.start_checkpoint,
            round=trial.round,
            shard=trial.shard,
            data_seed=trial.data_seed,
            evaluate=assignment.evaluate,
            save=assignment.save,
            train_path=path(study.train_dataset),
            validation_path=path(study.validation_dataset),
            test_path=path(test),
            train_args=study.train_args,
        )

    def _child_for(self, gpu_count: int) -> ChildProcess:
        child = self._child
        if child is not None and (child.gpu_count != gpu_count or not child.is_alive):
            child.kill()
            child = None
        if child is None:
            child = self._child = ChildProcess(
                data_dir=self._data_dir,
                gpu_count=gpu_count,
                memory_limit_bytes=self._memory_limit_bytes,
                wakeup=self._wakeup,
                closing=self._closing,
            )
        return child

    def _save(
        self,
        assignment: Assignment,
        child: ChildProcess,
        ended: Ended,
        params: Mapping[str, Array],
    ) -> str:
        if not assignment.save or assignment.trial.phase is TrialPhase.PROBE:
            return ""
        name = self._parameters.save_checkpoint(
            assignment.study.name, assignment.lease_token, params, ended.updates
        )
        child.saved(name)
        return name

    def _complete(self, assignment: Assignment, outcome: Outcome) -> None:
        name = assignment.trial.name
        request = advisor_pb2.CompleteTrialRequest(
            name=name,
            lease_token=assignment.lease_token,
            timings=trial_timings_to_proto(outcome.timings),
        )
        if outcome.completed is not None:
            request.completed.CopyFrom(trial_outcome_to_proto(outcome.completed))
        elif outcome.error is not None:
            request.error.CopyFrom(trial_error_to_proto(outcome.error))
        else:
            request.cancelled.CopyFrom(advisor_pb2.TrialCancelled())
        try:
            self._caller.call(self._stub.CompleteTrial, request)
        except LeaseLost:
            logger.info("trial dropped, its lease is lost trial=%s", name)
            return
        except CallRefused as refusal:
            logger.error("outcome refused trial=%s: %s", name, refusal)
            self._complain(request, refusal)
            return
        _log_outcome(name, outcome)

    def _complain(self, request: advisor_pb2.CompleteTrialRequest, refusal: CallRefused) -> None:
        """Reports an outcome that the server refuses as an error, so that the trial ends."""
        error = TrialError(
            kind=TrialErrorKind.ENVIRONMENT, message=f"the server refused the outcome: {refusal}"
        )
        request.error.CopyFrom(trial_error_to_proto(error))
        try:
            self._caller.call(self._stub.CompleteTrial, request)
        except CallRefused as second:
            logger.error("error refused too trial=%s: %s", request.name, second)


class _Events:
    """What a child tells, passed on to the reporter; what it asks for, to the server."""

    def __init__(self, reporter: Reporter, parameters: Parameters) -> None:
        self.log = reporter.log
        self.metrics = reporter.metrics
        self.plot = reporter.plot
        self.progress = reporter.progress
        self._parameters = parameters

    def parameters(self, name: str) -> Mapping[str, Array]:
        try:
            return self._parameters.fetch_checkpoint(name)
        except TransferFailed as error:
            raise ParametersUnavailable(str(error)) from error


def _timings(setup_s: float, child: ChildTimings) -> TrialTimings:
    return TrialTimings(
        setup_s=setup_s + child.setup_s,
        compile_s=child.compile_s,
        train_s=child.train_s,
        evaluate_s=child.evaluate_s,
    )


def _report_measures(reporter: Reporter, ended: Ended) -> None:
    values = dict(ended.metrics)
    values |= {f"compilations/{name}": count for name, count in ended.compilations.items()}
    if ended.cache_hits:
        values["compilation_cache_hits"] = ended.cache_hits
    if values:
        reporter.metrics(values, 0, None, time.time())
    if ended.error is not None:
        reporter.log(ended.error.message, LogLevel.ERROR, time.time())


def _log_outcome(name: str, outcome: Outcome) -> None:
    timings = outcome.timings
    if outcome.error is not None:
        logger.info(
            "trial errored trial=%s kind=%s: %s", name, outcome.error.kind, outcome.error.message
        )
    elif outcome.completed is None:
        logger.info("trial cancelled trial=%s", name)
    else:
        score = outcome.completed.score
        logger.info(
            "trial completed trial=%s score=%s setup_s=%.2f compile_s=%.2f train_s=%.2f "
            "evaluate_s=%.2f",
            name,
            "-" if score is None else f"{score:.4f}",
            timings.setup_s,
            timings.compile_s,
            timings.train_s,
            timings.evaluate_s,
        )
