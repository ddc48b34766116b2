"""Clients as processes of their own that begin and end together."""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self


class ClientProcess:
    """A program that takes JSON, says "ready", reads lines of JSON, and answers with others.

    Args:
        program: The file of the program.
        task: Fields of its argument.
    """

    def __init__(self, program: Path, task: Mapping[str, object]) -> None:
        self._command = [sys.executable, str(program), json.dumps(task)]
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def wait_ready(self) -> None:
        """Waits until it is ready to begin."""
        self._read()

    def begin(self, **fields: object) -> None:
        """Sends it the line that it waits for."""
        assert self._process.stdin is not None
        print(json.dumps(fields), file=self._process.stdin, flush=True)

    def answer(self) -> str:
        """The line of JSON that it answers with; waits for it."""
        return self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"a client has failed: {' '.join(self._command[1:])}")
        return line


@contextmanager
def client_processes(
    program: Path, tasks: Sequence[Mapping[str, object]]
) -> Iterator[list[ClientProcess]]:
    """Processes of one program that are ready to begin."""
    with ExitStack() as stack:
        clients = [stack.enter_context(ClientProcess(program, task)) for task in tasks]
        for client in clients:
            client.wait_ready()
        yield clients
