"""Becomes a module of Rafiki that dies with the process that started it.

    python launch.py PARENT MODULE [ARGUMENT ...]

PARENT is the process id of the starter: it may have died before this runs.

A file of its own that imports nothing: it runs before the module's interpreter does.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(arguments: list[str]) -> None:
    """Replaces this process by `python -m MODULE ARGUMENT ...`."""
    parent, *rest = arguments
    if sys.platform == "linux":
        import ctypes

        # Kept across execv.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(1)
    os.execv(sys.executable, [sys.executable, "-m", *rest])


if __name__ == "__main__":
    main(sys.argv[1:])
