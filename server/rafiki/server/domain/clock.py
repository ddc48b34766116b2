"""The time as an argument: whoever needs it is given a clock."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

# Reads the time now: aware, in UTC. Thread-safe.
Clock: TypeAlias = Callable[[], datetime]


def system_clock() -> datetime:
    """The time of this computer, in UTC."""
    return datetime.now(UTC)
