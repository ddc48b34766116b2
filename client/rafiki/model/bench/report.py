"""What the bench found: numbered steps, each with what is wrong and what to do about it."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from rafiki.model.failures import describe_failure
from rafiki.model.knobs import KnobConfig
from rafiki.model.serial import Json, config_to_json

T = TypeVar("T")

UNFINISHED = (
    "The process ended during this step.\n"
    "What to do: look for a crash in native code, os._exit(), or too little memory."
)


@dataclass(frozen=True, slots=True)
class Step:
    """One check. The message of a step that is ok is a remark, or empty."""

    name: str
    ok: bool
    seconds: float
    message: str = ""


class Complaint(Exception):
    """Something that a template does wrong, and what to do about it."""

    def __init__(self, wrong: str, advice: str) -> None:
        super().__init__(f"{wrong}\nWhat to do: {advice}")


@dataclass(slots=True)
class Report:
    """What is known of a template, and the steps so far."""

    model_class: str = ""
    task: str = ""
    dependencies: Mapping[str, str] = field(default_factory=dict)
    candidate_batches: bool = False
    knob_config: KnobConfig | None = None
    steps: list[Step] = field(default_factory=list)

    @property
    def is_ok(self) -> bool:
        """Whether every step so far is ok."""
        return all(step.ok for step in self.steps)

    def to_json(self) -> dict[str, Json]:
        """The report as plain values; `knob_config` as in `rafiki.model.serial`, or None."""
        return {
            "ok": self.is_ok,
            "model_class": self.model_class,
            "task": self.task,
            "dependencies": dict(self.dependencies),
            "candidate_batches": self.candidate_batches,
            "knob_config": None if self.knob_config is None else config_to_json(self.knob_config),
            "steps": [
                {
                    "name": step.name,
                    "ok": step.ok,
                    "seconds": round(step.seconds, 3),
                    "message": step.message,
                }
                for step in self.steps
            ],
        }


class Recorder:
    """Runs steps and keeps their outcome.

    Args:
        source_path: The file of the template: of a traceback, only its lines are shown.
        on_change: Called before a step, which counts as failed until it ends, and after it.
    """

    def __init__(self, source_path: Path, on_change: Callable[[Report, bool], None]) -> None:
        self.report = Report()
        self._source_path = source_path
        self._on_change = on_change
        self._remarks: list[str] = []

    def remark(self, text: str) -> None:
        """Adds a remark to the message of the running step."""
        self._remarks.append(text)

    def run(self, name: str, check: Callable[[], T]) -> T | None:
        """What `check` returns, or None if the step failed."""
        self._remarks = []
        self.report.steps.append(Step(name, False, 0.0, UNFINISHED))
        self._on_change(self.report, False)
        start = time.monotonic()
        result: T | None = None
        failure = ""
        try:
            result = check()
        except Complaint as error:
            failure = str(error)
        # A template may raise anything; a failed step is the answer.
        except (Exception, SystemExit) as error:
            failure = describe_failure(error, self._source_path)
        seconds = time.monotonic() - start
        message = "\n".join([failure, *self._remarks]).strip()
        self.report.steps[-1] = Step(name, not failure, seconds, message)
        self._on_change(self.report, True)
        return result


def render(number: int, step: Step) -> str:
    """A step as lines of text."""
    head = f"{number:2}. {step.name:<73} {'ok' if step.ok else 'FAILED':<6} {step.seconds:6.1f} s"
    return "\n".join([head, *(f"      {line}" for line in step.message.splitlines())])
