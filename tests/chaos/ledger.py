"""What workers and templates note down while a storm rages: every line is on the disk, synced,
before whoever wrote it goes on.

Each process has a file of its own, so a process that is killed can spoil at most the line it was
writing, which then has no end.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Moment(StrEnum):
    """When a line about an outcome was written."""

    REPORTING = "REPORTING"  # just before the call
    ACKNOWLEDGED = "ACKNOWLEDGED"  # the server has answered
    REFUSED = "REFUSED"  # it has answered with an error, or not at all


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A line about one outcome on its way.

    `outcome` is the field of the request that is set, with its `score`. An answer has the
    state and the score of the trial as the server then knew them; a refusal its `code`.
    """

    moment: Moment
    worker: str
    trial: str
    token: str
    outcome: str
    score: float | None = None
    answered_state: str = ""
    answered_score: float | None = None
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A line by the template: a trial, known by its seed, came to this score in a child."""

    seed: int
    score: float


class Ledger:
    """A file that lines are added to. Thread-safe: a line is one write."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, report: Report) -> None:
        """Adds a line; it is on the disk on return."""
        os.write(self._file, json.dumps(asdict(report)).encode() + b"\n")
        os.fsync(self._file)


class Acknowledged:
    """Counts the results that were acknowledged so far, reading only what is new."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read_bytes: dict[Path, int] = {}
        self._count = 0

    def count(self) -> int:
        """How many lines in all ledgers of the folder are about an acknowledgement."""
        for path in self._folder.glob("*.jsonl"):
            with path.open("rb") as file:
                file.seek(self._read_bytes.get(path, 0))
                new = file.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._read_bytes[path] = self._read_bytes.get(path, 0) + len(whole)
            self._count += whole.count(b'"ACKNOWLEDGED"')
        return self._count


def read_reports(folder: Path) -> list[Report]:
    """The lines of all ledgers in a folder, those of one process in their order."""
    return [
        Report(**{**line, "moment": Moment(line["moment"])})
        for path in sorted(folder.glob("*.jsonl"))
        for line in _lines(path)
    ]


def read_runs(folder: Path) -> list[Run]:
    """The lines of all templates in a folder."""
    return [Run(**line) for path in sorted(folder.glob("*.jsonl")) for line in _lines(path)]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    *whole, _ = path.read_text().split("\n")  # what follows the last end of line is torn
    return map(json.loads, whole)
