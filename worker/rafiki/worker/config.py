"""The settings of a worker."""

import os
import re
import secrets
import socket
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode

from rafiki.program import LogFormat, LogLevel, Settings, Words
from rafiki.worker.memory import DEFAULT_SHARE, usable_bytes

MAX_WORKER_ID_CHARACTERS = 128

_GIB = 1 << 30
_CORES = re.compile(r"(\d+)(?:-(\d+))?")


def parse_cores(text: str) -> tuple[int, ...]:
    """The cores in a list such as "0,2-3"; raises ValueError if it is none."""
    cores: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _CORES.fullmatch(part)
        if match is None:
            raise ValueError("must be cores, written like 0,2-3")
        first, last = int(match[1]), int(match[2] or match[1])
        cores.update(range(first, last + 1))
    usable = os.sched_getaffinity(0)
    if not cores <= usable:
        raise ValueError(f"names cores {sorted(cores - usable)}, which cannot be used here")
    return tuple(sorted(cores))


def _cores(value: object) -> object:
    return parse_cores(",".join(map(str, value)) if isinstance(value, list | tuple) else str(value))


def _new_worker_id() -> str:
    # Not the process id alone: workers in containers are often all number 1.
    return f"{socket.gethostname()[:80]}-{os.getpid()}-{secrets.token_hex(3)}"


class WorkerConfig(Settings):
    """Everything a worker is told when it starts."""

    program: ClassVar[str] = "worker"

    server: str = Field(default="127.0.0.1:8780", description="address of the server")
    worker_id: str = Field(
        default_factory=_new_worker_id,
        min_length=1,
        max_length=MAX_WORKER_ID_CHARACTERS,
        description="unique to this process; by default made up",
    )
    data_dir: Annotated[Path, AfterValidator(lambda x: x.expanduser().absolute())] = Field(
        default=Path("~/.cache/rafiki/worker"),
        description="caches of sources, data sets and compiled programs; workers may share it",
    )
    cores: Annotated[tuple[int, ...], NoDecode, BeforeValidator(_cores)] = Field(
        default=(), description="run on these cores only, such as 0 or 0,2-3; all by default"
    )
    studies: Words = Field(
        default=(),
        description="run trials of these studies only; trainJobs/ID/studies/- means all of a job",
    )
    prefetch: int = Field(
        default=1,
        ge=0,
        le=100,
        description="trials to have at hand beside the one that runs, while trials are short",
    )
    memory_limit_gib: float = Field(
        default=0.0, ge=0, description="end a model that uses more; 0 means 90 % of what there is"
    )
    disk_cache_gib: float = Field(
        default=8.0, ge=0, description="disk for data sets and checkpoints"
    )
    memory_cache_gib: float = Field(
        default=0.5, ge=0, description="memory for tensors of checkpoints"
    )
    log_level: LogLevel = Field(default="INFO", description="how much to log, to stderr")
    log_format: LogFormat = Field(default="text", description="lines for people, or JSON objects")

    @property
    def memory_limit_bytes(self) -> int:
        """What a model may use."""
        limit = self.memory_limit_gib
        return int(limit * _GIB if limit else usable_bytes() * DEFAULT_SHARE)

    @property
    def disk_cache_bytes(self) -> int:
        """What the cache of blobs may take on the disk."""
        return int(self.disk_cache_gib * _GIB)

    @property
    def memory_cache_bytes(self) -> int:
        """What the cache of tensors may take in memory."""
        return int(self.memory_cache_gib * _GIB)
