"""What goes wrong in a storm, and when: drawn from a seed, so that it can be drawn again."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

WORKERS = 4


class FaultKind(StrEnum):
    """What goes wrong."""

    KILL_SERVER = "KILL_SERVER"  # kill -9, as the next two
    KILL_WORKER = "KILL_WORKER"
    KILL_CHILD = "KILL_CHILD"
    FREEZE_SERVER = "FREEZE_SERVER"  # SIGSTOP, longer than a lease; then SIGCONT
    FREEZE_WORKER = "FREEZE_WORKER"
    DRAIN_SERVER = "DRAIN_SERVER"  # SIGTERM
    DRAIN_WORKER = "DRAIN_WORKER"
    FILL_DISK = "FILL_DISK"  # the server's files may not grow beyond a limit for a while
    CUT = "CUT"  # of connections: see proxy.Harm
    TRUNCATE = "TRUNCATE"
    DROP = "DROP"
    DUPLICATE = "DUPLICATE"
    DELAY = "DELAY"


# How often each comes in one deck: what is dealt first are all kinds there are.
_DECK = {
    FaultKind.KILL_SERVER: 2,
    FaultKind.KILL_WORKER: 2,
    FaultKind.KILL_CHILD: 3,
    FaultKind.FREEZE_WORKER: 2,
    FaultKind.CUT: 3,
    FaultKind.TRUNCATE: 2,
}
PATIENCE_S = 15.0
_FILE_LIMITS_BYTES = (0, 4096, 64 * 1024, 1 << 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong, `gap_s` after the one before and, if it takes no longer than
    PATIENCE_S, after `results` more have been stored: what does not work cannot be broken.

    `slot` is the worker that is meant, where one is. What is frozen, filled, delayed or
    dead stays so for `duration_s`. A dead worker comes back under its name or under a new one.
    """

    number: int
    kind: FaultKind
    gap_s: float
    results: int
    slot: int
    duration_s: float
    is_up: bool
    after_bytes: int
    limit_bytes: int
    keeps_name: bool


def draw_faults(seed: int, *, lease_s: float) -> Iterator[Fault]:
    """Faults without end, the same for the same seed."""
    draw = random.Random(f"storm {seed}")
    number = 0
    while True:
        deck = list(FaultKind)
        draw.shuffle(deck)
        more = [kind for kind, count in _DECK.items() for _ in range(count - 1)]
        draw.shuffle(more)
        for kind in deck + more:
            number += 1
            yield Fault(
                number=number,
                kind=kind,
                gap_s=draw.uniform(0.1, 2.0),
                results=draw.randrange(12),
                slot=draw.randrange(WORKERS),
                duration_s=_duration_s(kind, draw.random(), lease_s),
                is_up=draw.random() < 0.6,
                after_bytes=draw.choice((0, draw.randrange(2_000), draw.randrange(100_000))),
                limit_bytes=draw.choice(_FILE_LIMITS_BYTES),
                keeps_name=draw.random() < 0.5,
            )


def _duration_s(kind: FaultKind, share: float, lease_s: float) -> float:
    match kind:
        case FaultKind.FREEZE_SERVER | FaultKind.FREEZE_WORKER:
            return lease_s * (1.2 + 1.5 * share)
        case FaultKind.FILL_DISK:
            return 0.3 + 4.0 * share
        case FaultKind.DELAY:
            return 2 * lease_s * share
        case _:
            return 1.0 * share
