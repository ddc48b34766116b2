"""`python -m rafiki.worker.child READ_FD WRITE_FD PARENT_PID`, started by a worker only."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def _die_with(parent: int) -> None:
    """Has the kernel kill this process when its parent ends, however it ends.

    Set here, not between fork and exec: a worker has threads, and nothing but exec is safe
    there. The parent may have died before this ran, hence the check. Where there is no
    prctl, the end of the pipe is what ends the child.
    """
    prctl = getattr(ctypes.CDLL(None, use_errno=True), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def main() -> None:
    """Serves the worker until it closes its end of the pipe."""
    read_fd, write_fd, parent = (int(argument) for argument in sys.argv[1:])
    _die_with(parent)
    # What the template starts must not hold the pipes open.
    os.set_inheritable(read_fd, False)
    os.set_inheritable(write_fd, False)
    # After the guard above: these imports take a moment.
    from rafiki.worker.child.host import Host
    from rafiki.worker.framing import FrameReader, FrameWriter

    Host(FrameReader(read_fd), FrameWriter(write_fd)).serve()


if __name__ == "__main__":
    main()
