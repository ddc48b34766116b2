"""The settings of a worker: flags, then RAFIKI_* variables, then defaults."""

import argparse
import os
import re
import secrets
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rafiki.worker.memory import DEFAULT_SHARE, usable_bytes

DEFAULT_SERVER = "127.0.0.1:8780"
LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
MAX_WORKER_ID_CHARACTERS = 128

_GIB = 1 << 30
_CORES = re.compile(r"(\d+)(?:-(\d+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Everything a worker is told when it starts. Sizes are in bytes; no cores: all."""

    server: str
    worker_id: str
    data_dir: Path
    cores: tuple[int, ...]
    studies: tuple[str, ...]
    memory_limit_bytes: int
    disk_cache_bytes: int
    memory_cache_bytes: int
    log_level: str


def read_config(arguments: Sequence[str], environment: Mapping[str, str]) -> WorkerConfig:
    """The settings; prints what is wrong and exits where one makes no sense."""
    variables = {key: value for key, value in environment.items() if key.startswith("RAFIKI_")}
    parser = _parser(variables)
    flags = parser.parse_args(arguments)
    if not 1 <= len(flags.worker_id) <= MAX_WORKER_ID_CHARACTERS:
        parser.error(f"--worker-id has 1 to {MAX_WORKER_ID_CHARACTERS} characters")
    limit = flags.memory_limit_gib
    return WorkerConfig(
        server=flags.server,
        worker_id=flags.worker_id,
        data_dir=Path(flags.data_dir).expanduser().absolute(),
        cores=flags.cores,
        studies=tuple(flags.studies),
        memory_limit_bytes=int(limit * _GIB if limit else usable_bytes() * DEFAULT_SHARE),
        disk_cache_bytes=int(flags.disk_cache_gib * _GIB),
        memory_cache_bytes=int(flags.memory_cache_gib * _GIB),
        log_level=flags.log_level,
    )


def parse_cores(text: str) -> tuple[int, ...]:
    """The cores in a list such as "0,2-3"; raises ArgumentTypeError if it is none."""
    cores: set[int] = set()
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = _CORES.fullmatch(part)
        if match is None:
            raise argparse.ArgumentTypeError(f"cores are written like 0,2-3, not {text!r}")
        first, last = int(match[1]), int(match[2] or match[1])
        cores.update(range(first, last + 1))
    usable = os.sched_getaffinity(0)
    if not cores <= usable:
        raise argparse.ArgumentTypeError(
            f"of the cores {text}, {sorted(cores - usable)} cannot be used here"
        )
    return tuple(sorted(cores))


def _parser(variables: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="rafiki-worker",
        description="Runs trials for a Rafiki server until it is told to stop.",
        epilog="Every flag may be given as a variable: --data-dir as RAFIKI_DATA_DIR, and so on. "
        "--data-dir is also read from RAFIKI_WORKER_DATA_DIR.",
        allow_abbrev=False,
    )

    def default(name: str, value: str) -> str:
        return variables.get(f"RAFIKI_{name}", value)

    data_dir = variables.get("RAFIKI_WORKER_DATA_DIR") or default(
        "DATA_DIR", "~/.cache/rafiki/worker"
    )
    parser.add_argument("--server", default=default("SERVER", DEFAULT_SERVER), metavar="HOST:PORT")
    parser.add_argument(
        "--worker-id",
        default=default("WORKER_ID", _new_worker_id()),
        metavar="ID",
        help="unique to this process; by default made up",
    )
    parser.add_argument(
        "--data-dir",
        default=data_dir,
        metavar="DIR",
        help="caches of sources, data sets and compiled programs; workers may share it",
    )
    parser.add_argument(
        "--cores",
        type=parse_cores,
        default=default("CORES", ""),
        metavar="LIST",
        help="run on these cores only, such as 0 or 0,2-3",
    )
    parser.add_argument(
        "--studies",
        nargs="*",
        default=default("STUDIES", "").split(),
        metavar="NAME",
        help="run trials of these studies only; trainJobs/ID/studies/- means all of a job",
    )
    parser.add_argument(
        "--memory-limit-gib",
        type=float,
        default=default("MEMORY_LIMIT_GIB", "0"),
        metavar="N",
        help="end a model that uses more; by default 90 %% of what there is",
    )
    parser.add_argument(
        "--disk-cache-gib", type=float, default=default("DISK_CACHE_GIB", "8"), metavar="N"
    )
    parser.add_argument(
        "--memory-cache-gib", type=float, default=default("MEMORY_CACHE_GIB", "0.5"), metavar="N"
    )
    parser.add_argument("--log-level", choices=LOG_LEVELS, default=default("LOG_LEVEL", "INFO"))
    return parser


def _new_worker_id() -> str:
    # Not the process id alone: workers in containers are often all number 1.
    return f"{socket.gethostname()[:80]}-{os.getpid()}-{secrets.token_hex(3)}"
