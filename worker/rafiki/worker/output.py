"""Lines from the standard output and error of the child."""

import os

# As a log line may be; longer ones are cut there.
MAX_LINE_BYTES = 8 * 1024
_READ_BYTES = 64 * 1024


class LineReader:
    """Splits what comes through a pipe into lines. The descriptor is made non-blocking."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        self._rest = b""
        self.at_end = False

    def fileno(self) -> int:
        """The descriptor, for selectors."""
        return self._fd

    def read(self) -> list[str]:
        """The complete lines that are there now; at the end of the file, the last too."""
        while not self.at_end:
            try:
                data = os.read(self._fd, _READ_BYTES)
            except BlockingIOError:
                break
            self.at_end = not data
            self._rest += data
            if len(self._rest) > 4 * _READ_BYTES:
                break  # Hand these on first: a template may print faster than anyone reads.
        *lines, self._rest = self._rest.split(b"\n")
        if self.at_end or len(self._rest) > MAX_LINE_BYTES:
            lines.append(self._rest)
            self._rest = b""
        return [text for text in map(_decode, lines) if text]

    def close(self) -> None:
        """Closes the descriptor."""
        os.close(self._fd)


def _decode(line: bytes) -> str:
    # A progress bar overwrites its line; what stands there in the end is what counts.
    shown = line.rstrip(b"\r").rpartition(b"\r")[2]
    return shown[:MAX_LINE_BYTES].decode(errors="replace").rstrip()
