"""A child process of a worker, with a record of what it tells."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rafiki.model.knobs import KnobConfig, Policy
from rafiki.model.loading import load_class
from rafiki.model.serial import config_digest
from rafiki.resources import LogLevel, StopReason, Trial, TrialPhase
from rafiki.worker.assignment import Assignment, HeldTrial, StudyInfo, Wakeup
from rafiki.worker.child_process import ChildProcess, ParametersUnavailable
from rafiki.worker.framing import Array
from rafiki.worker.task import Ended, Task

TEMPLATES = Path(__file__).parent / "templates"


@dataclass
class Record:
    """Events of a child, kept; `held` checkpoints can be asked for."""

    checkpoints: dict[str, Mapping[str, Array]] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    levels: dict[str, LogLevel] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    plots: list[str] = field(default_factory=list)
    fractions: list[float] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    on_line: Callable[[str], None] = lambda line: None
    on_progress: Callable[[float], None] = lambda fraction: None

    def log(self, message: str, level: LogLevel, time_s: float) -> None:
        self.lines.append(message)
        self.levels[message] = level
        self.on_line(message)

    def metrics(
        self, values: Mapping[str, float], step: int, score: float | None, time_s: float
    ) -> None:
        self.values.update(values)

    def plot(self, title: str, metrics: tuple[str, ...], x_axis: str) -> None:
        self.plots.append(title)

    def progress(self, fraction: float, remaining_s: float | None) -> None:
        self.fractions.append(fraction)
        self.on_progress(fraction)

    def parameters(self, name: str) -> Mapping[str, Array]:
        self.asked.append(name)
        if name not in self.checkpoints:
            raise ParametersUnavailable(f"no checkpoint {name}")
        return self.checkpoints[name]


class Bench:
    """Runs tasks of one template in one child, as a worker would."""

    def __init__(self, folder: Path, source: Path, class_name: str, limit_bytes: int) -> None:
        self.folder = folder
        self.source = source
        self.model_class = f"{source.stem}:{class_name}"
        self.config: KnobConfig = load_class(source, self.model_class).get_knob_config()
        self.record = Record()
        self.wakeup = Wakeup()
        self.closing = threading.Event()
        self.limit_bytes = limit_bytes
        self.held = self._hold()
        self.runs = 0
        (folder / "train").write_text("2.0")
        (folder / "validation").write_text("0.5")
        (folder / "test").write_text("0.25")
        self.child = self.start()

    def start(self) -> ChildProcess:
        self.child = ChildProcess(
            data_dir=self.folder / "data",
            gpu_count=0,
            memory_limit_bytes=self.limit_bytes,
            wakeup=self.wakeup,
            closing=self.closing,
        )
        return self.child

    def reset(self) -> None:
        """Forgets what was recorded, and replaces a child that has died."""
        self.record = Record()
        self.closing.clear()
        self.wakeup.clear()
        if not self.child.is_alive:
            self.start()

    def task(self, phase: TrialPhase, **fields: object) -> Task:
        self.runs += 1
        defaults: dict[str, object] = {
            "run": self.runs,
            "source": "s",
            "source_path": str(self.source),
            "model_class": self.model_class,
            "config_digest": config_digest(self.config),
            "phase": phase,
            "train_path": str(self.folder / "train"),
            "validation_path": str(self.folder / "validation"),
        }
        return Task(**(defaults | fields))  # type: ignore[arg-type]

    def run(self, phase: TrialPhase, **fields: object) -> tuple[Ended, Mapping[str, Array]]:
        self.held = self._hold()
        return self.child.run(self.task(phase, **fields), self.held, self.record)

    def stop(self, reason: StopReason = StopReason.EARLY_STOPPED) -> None:
        self.held.stop(reason)

    def close(self) -> None:
        self.child.kill()
        self.wakeup.close()

    def _hold(self) -> HeldTrial:
        study = StudyInfo(name="trainJobs/a/studies/1", knob_config=self.config)
        trial = Trial(name=f"{study.name}/trials/1", phase=TrialPhase.TUNE)
        return HeldTrial(Assignment(trial=trial, study=study, lease_token="t"), self.wakeup)


def cells(*choices: Sequence[int]) -> tuple[dict[str, tuple[int, ...]], ...]:
    return tuple({"cell": tuple(choice)} for choice in choices)


def policies(*names: str) -> frozenset[Policy]:
    return frozenset(map(Policy, names))


Make = Callable[..., Bench]
