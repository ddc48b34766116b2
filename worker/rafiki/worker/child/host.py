"""The loop of the child: one run after another, in the main thread.

A second thread reads the pipe, so that a stop reaches a template that is training, and so
that the process ends with its worker.
"""

import os
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Mapping
from dataclasses import replace

from rafiki.model.base import BaseModel, takes_candidates
from rafiki.model.loading import ModelRejected, load_class
from rafiki.model.logger import logger
from rafiki.model.serial import config_digest
from rafiki.resources import TrialError, TrialErrorKind, TrialPhase
from rafiki.worker.child.compilation import CompilationWatch
from rafiki.worker.child.execution import Cancelled, Execution, NonFiniteScore
from rafiki.worker.child.instances import Instances
from rafiki.worker.child.measure import Stopwatch
from rafiki.worker.child.parameters import HeldParameters, MissingParameters
from rafiki.worker.child.probe import Probe
from rafiki.worker.child.sink import PipeSink, StopFlag
from rafiki.worker.child.unreadable import drop_unreadable_programs
from rafiki.worker.framing import Array, BrokenFrame, Frame, FrameReader, FrameWriter
from rafiki.worker.task import ChildTimings, Ended, Task, ended_to_message, task_from_message

MAX_TRACEBACK_CHARACTERS = 16 * 1024
MAX_MESSAGE_CHARACTERS = 500

# Compilations are reported by name for programs that took so long, the others together.
REPORTED_COMPILE_S = 0.2
MAX_REPORTED_PROGRAMS = 40


class EnvironmentProblem(Exception):
    """This worker cannot run the template; another one perhaps can."""


class Host:
    """Serves one worker. `serve` runs in the main thread until the process ends."""

    def __init__(self, reader: FrameReader, writer: FrameWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._inbox: queue.SimpleQueue[Frame] = queue.SimpleQueue()
        self._flag = StopFlag()
        self._watch = CompilationWatch()
        self._stopwatch = Stopwatch(self._watch)
        self._instances = Instances()
        self._parameters = HeldParameters(self._request_parameters)
        self._execution = Execution(self._instances, self._parameters, self._stopwatch, self._flag)
        self._checked: set[tuple[str, str, str]] = set()
        self._run = 0
        self._dumped: Mapping[str, Array] = {}

    def serve(self) -> None:
        """Runs tasks as they come. Never returns: the end of the pipe ends the process."""
        drop_unreadable_programs()
        threading.Thread(target=self._read, name="pipe", daemon=True).start()
        while True:
            frame = self._inbox.get()
            match frame.message["type"]:
                case "run":
                    self._serve_run(task_from_message(frame.message))
                case "saved":
                    self._execution.saved(frame.message["name"], self._dumped)
                    self._dumped = {}

    def _read(self) -> None:
        try:
            while (frame := self._reader.read()) is not None:
                if frame.message["type"] == "stop":
                    self._flag.stop(frame.message["run"], cancel=frame.message["cancel"])
                else:
                    if frame.message["type"] == "run":
                        # Here, so that a stop that follows at once is not forgotten.
                        self._flag.begin(frame.message["run"])
                    self._inbox.put(frame)
        except (BrokenFrame, OSError):
            pass
        _end_process_group()

    def _serve_run(self, task: Task) -> None:
        self._run = task.run
        self._dumped = {}
        self._watch.begin()
        sink = PipeSink(self._writer.write, task.run, self._flag)
        logger.connect(sink)
        params: Mapping[str, Array] = {}
        try:
            ended, params = self._execute(task, sink)
        # The one place where anything a template does is caught.
        except (Exception, SystemExit) as error:
            ended = self._failure(task, error)
        finally:
            logger.connect(None)
        ended = self._with_compilations(ended)
        self._dumped = params
        sys.stdout.flush()
        sys.stderr.flush()
        self._writer.write(ended_to_message(ended), params)

    def _execute(self, task: Task, sink: PipeSink) -> tuple[Ended, Mapping[str, Array]]:
        with self._stopwatch.span() as loading:
            model_class = self._load(task)
        self._watch.install()
        if task.phase is TrialPhase.PROBE:
            costs = Probe(self._stopwatch, self._flag).run(model_class, task, sink)
            compile_s = self._watch.seconds
            return Ended(run=task.run, costs=replace(costs, compile_s=compile_s)), {}
        result = self._execution.run(model_class, task)
        result.setup_s += loading.seconds
        return result.to_ended(task.run), result.params or {}

    def _load(self, task: Task) -> type[BaseModel]:
        try:
            model_class = load_class(task.source_path, task.model_class)
        except ModelRejected as error:
            if isinstance(error.__cause__, ImportError):
                raise EnvironmentProblem(str(error)) from error
            raise
        key = (task.source, task.model_class, task.config_digest)
        if key not in self._checked:
            digest = config_digest(model_class.get_knob_config())
            if digest != task.config_digest:
                raise EnvironmentProblem(
                    f"{task.model_class} declares other knobs here than where it was uploaded: "
                    "get_knob_config must not depend on the machine, the time or chance"
                )
            self._checked.add(key)
        if task.phase is TrialPhase.SEARCH_TRAIN and len(task.candidates) > 1:
            if not takes_candidates(model_class):
                raise EnvironmentProblem(f"{task.model_class} takes no batches of candidates")
        return model_class

    def _request_parameters(self, name: str) -> Mapping[str, Array]:
        self._writer.write({"type": "need_parameters", "run": self._run, "name": name})
        while True:
            frame = self._inbox.get()
            match frame.message["type"]:
                case "parameters" if frame.message["name"] == name:
                    return frame.tensors
                case "no_parameters":
                    raise MissingParameters(frame.message["message"])

    def _failure(self, task: Task, error: BaseException) -> Ended:
        in_use, self._execution.in_use = self._execution.in_use, None
        if in_use is not None:
            self._instances.forget(in_use)
        if isinstance(error, Cancelled) or self._flag.is_cancelled:
            return Ended(run=task.run, cancelled=True)
        return Ended(run=task.run, error=_describe(error))

    def _with_compilations(self, ended: Ended) -> Ended:
        compiled = self._watch.end()
        slowest = sorted(compiled.programs, key=lambda name: -compiled.longest_s[name])
        named = {
            name: compiled.programs[name]
            for name in slowest[:MAX_REPORTED_PROGRAMS]
            if compiled.longest_s[name] >= REPORTED_COMPILE_S
        }
        others = sum(compiled.programs.values()) - sum(named.values())
        if others:
            named["others"] = named.get("others", 0) + others
        timings: ChildTimings = replace(ended.timings, compile_s=compiled.seconds)
        return replace(ended, timings=timings, compilations=named, cache_hits=compiled.cache_hits)


def _describe(error: BaseException) -> TrialError:
    kind = TrialErrorKind.MODEL_EXCEPTION
    if isinstance(error, NonFiniteScore):
        kind = TrialErrorKind.NON_FINITE_SCORE
    elif isinstance(error, MissingParameters | EnvironmentProblem):
        kind = TrialErrorKind.ENVIRONMENT
    elif isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)[:200]:
        kind = TrialErrorKind.OUT_OF_MEMORY
    if isinstance(error, NonFiniteScore | MissingParameters | EnvironmentProblem | ModelRejected):
        # Their messages say it all; the traceback would be the worker's.
        return TrialError(kind=kind, message=str(error)[: 4 * MAX_MESSAGE_CHARACTERS])
    first_line = (str(error).strip().splitlines() or [""])[0]
    message = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
    return TrialError(
        kind=kind,
        message=message[:MAX_MESSAGE_CHARACTERS],
        traceback=_template_traceback(error)[-MAX_TRACEBACK_CHARACTERS:],
    )


def _template_traceback(error: BaseException) -> str:
    """The traceback from where the template was entered."""
    own = os.path.dirname(os.path.abspath(__file__))
    entry = error.__traceback__
    while entry is not None and entry.tb_frame.f_code.co_filename.startswith(own):
        entry = entry.tb_next
    return "".join(traceback.format_exception(type(error), error, entry))


def _end_process_group() -> None:
    """Ends this process and what the template started in its group."""
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
