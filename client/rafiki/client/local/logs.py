"""Where the programs of a local platform write: a file each, and one of all."""

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

Echo = Callable[[str, str], None]


class LogFolder:
    """Log files in one folder: `NAME.log` per program, `all.log` with the name before
    each line. Appended to, whole lines at a time. Thread-safe.

    Args:
        folder: Created if it is not there.
        echo: Told the name of the program and each line, or None.
    """

    def __init__(self, folder: Path, echo: Echo | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._echo = echo
        self._lock = threading.Lock()
        self._tails: dict[str, deque[str]] = {}

    def write(self, name: str, line: str) -> None:
        """Adds one line (without its end) of the program `name`."""
        with self._lock:
            self._tails.setdefault(name, deque(maxlen=50)).append(line)
            self._append(f"{name}.log", line)
            self._append("all.log", f"{name} | {line}")
        if self._echo is not None:
            self._echo(name, line)

    def tail(self, name: str, count: int) -> list[str]:
        """The last lines of a program, those of this run only."""
        with self._lock:
            return list(self._tails.get(name, ()))[-count:]

    def path(self, name: str) -> Path:
        """The log file of a program."""
        return self.folder / f"{name}.log"

    def _append(self, file: str, line: str) -> None:
        with (self.folder / file).open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")
