"""How much memory a process uses, may use, and whether the kernel ended it for that."""

import os
from pathlib import Path

# What is left for the worker itself and the system.
DEFAULT_SHARE = 0.9

_CGROUP_LIMITS = ("memory.max", "memory.limit_in_bytes")
_CGROUP_EVENTS = ("memory.events", "memory.oom_control")


def resident_bytes(pid: int) -> int:
    """The resident memory of a process; 0 if it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def usable_bytes() -> int:
    """The memory of this host, or of the cgroup of this process if that is less."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for folder in _cgroup_folders():
        for name in _CGROUP_LIMITS:
            try:
                total = min(total, int((folder / name).read_text()))
            except (OSError, ValueError):
                continue  # Not there, or "max".
    return total


def oom_kills() -> int:
    """How many processes of this cgroup the kernel killed for lack of memory, so far."""
    for folder in _cgroup_folders():
        for name in _CGROUP_EVENTS:
            try:
                lines = (folder / name).read_text().splitlines()
            except OSError:
                continue
            for line in lines:
                key, _, value = line.partition(" ")
                if key == "oom_kill" and value.isdigit():
                    return int(value)
    return 0


def _cgroup_folders() -> list[Path]:
    """Of this process, version 2 and version 1; as seen from outside and inside a container."""
    folders: list[Path] = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers in ("", "memory"):
            root = Path("/sys/fs/cgroup", controllers)
            folders += [root / path.lstrip("/"), root]
    return folders
