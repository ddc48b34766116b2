"""Workers: what a process that runs trials says of itself, and which studies it may run."""

from dataclasses import dataclass

from rafiki.resources import Platform
from rafiki.server.domain.names import JobName, StudyName


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDevice:
    """Devices of one kind; `count` is cores for a CPU."""

    platform: Platform
    count: int
    model: str = ""
    memory_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One worker process, as it opened its session.

    `studies` restricts it to these studies, a job standing for all of its studies; empty
    means any study that has a model. `capacity` is how many trials it can run at once, and
    `prefetch` how many more it likes to have at hand, for when one of them ends.
    """

    worker_id: str
    capacity: int
    prefetch: int = 0
    version: str = ""
    studies: tuple[StudyName | JobName, ...] = ()
    devices: tuple[WorkerDevice, ...] = ()

    @property
    def accelerators(self) -> int:
        """GPUs and TPU chips."""
        return sum(d.count for d in self.devices if d.platform is not Platform.CPU)

    @property
    def memory_bytes(self) -> int:
        """The memory of the largest device."""
        return max((device.memory_bytes for device in self.devices), default=0)

    def names(self, study: StudyName) -> bool:
        """Whether it asked for this study."""
        return study in self.studies or study.parent in self.studies

    def may_run(self, study: StudyName, *, is_external: bool, needs_accelerator: bool) -> bool:
        """Whether trials of the study can be given to it at all."""
        if needs_accelerator and not self.accelerators:
            return False
        return self.names(study) or not (self.studies or is_external)
