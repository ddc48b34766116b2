"""Measures what many open sessions cost a server, and what others notice of them.

First a thousand sessions wait for work, with their heartbeats, each on a connection of its own;
then others beside them work on short trials. All the while a client asks for a job again and again.

    .venv/bin/python benchmarks/sessions.py --json sessions.json
"""

import argparse
import json
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from benchmarks.client_processes import ClientProcess, client_processes
from benchmarks.control_plane_rates import create_study
from benchmarks.server_process import ServerProcess, rafiki_server
from benchmarks.sessions_client import Came, Crowd

from rafiki.client import Client

CROWD = Path(__file__).with_name("sessions_client.py")
PROCESSES = 4
POLL_S = 0.05
# What a caller of a server with many sessions may have to wait.
ANSWER_MS = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A server over some seconds: its share of a core, and how long calls took, in ms."""

    cpu_share: float
    call_ms: list[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Everything that was measured.

    Attributes:
        idle, busy: How many sessions waited, and how many worked.
        session_kib: Memory of the server per session that waits.
        alone, waiting, working: The server before any session, with those that wait, and with
            those that work beside them.
        cycles_ms: From the end of a trial to the next in hand.
        trials_per_s: Of all that worked.
        renewals: Heartbeats that were answered.
        lost: What sessions ended of, before they were to.
    """

    idle: int
    busy: int
    session_kib: float
    alone: Watched
    waiting: Watched
    working: Watched
    cycles_ms: list[float]
    trials_per_s: float
    renewals: int
    lost: list[str]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints what it found."""
    flags = parse(arguments)
    # Whatever was started is then stopped, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    allow_open_files()
    with tempfile.TemporaryDirectory(dir=flags.folder) as data, rafiki_server(Path(data)) as server:
        found = measure(server, flags.idle, flags.busy, flags.trial_s, flags.seconds)
    print("\n".join(report_lines(found)))
    if flags.json is not None:
        flags.json.write_text(json.dumps(asdict(found), indent=1) + "\n")


def allow_open_files() -> None:
    """Lets this process, and those that it starts, open as many files as the system lets them."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def measure(
    server: ServerProcess, idle: int, busy: int, trial_s: float, seconds: float
) -> Findings:
    """Opens the sessions and watches the server."""
    study = create_study(server.address)
    with ExitStack() as stack:
        client = stack.enter_context(Client(server.address))
        alone = watch(server, client, study, seconds / 2)
        before_mib = server.rss_mib()
        waiters = stack.enter_context(crowd(server, idle, "idle"))
        waiting = watch(server, client, study, seconds)
        session_kib = 1024 * (server.rss_mib() - before_mib) / idle
        workers = stack.enter_context(crowd(server, busy, "busy", study, trial_s))
        begin = time.monotonic()
        working = watch(server, client, study, seconds)
        end = time.monotonic()
        for process in (*waiters, *workers):
            process.begin()
        came = [Came.from_json(process.answer()) for process in (*waiters, *workers)]
    cycles = [cycle for one in came for cycle in one.cycles if begin <= cycle[0] < end]
    return Findings(
        idle=idle,
        busy=busy,
        session_kib=session_kib,
        alone=alone,
        waiting=waiting,
        working=working,
        cycles_ms=[1000 * taken_s for _, taken_s in cycles],
        trials_per_s=len(cycles) / (end - begin),
        renewals=sum(one.renewals for one in came),
        lost=[reason for one in came for reason in one.lost],
    )


@contextmanager
def crowd(
    server: ServerProcess, count: int, name: str, study: str = "", trial_s: float = 0.0
) -> Iterator[list[ClientProcess]]:
    """So many open sessions, in a few processes."""
    shares = [count // PROCESSES + (n < count % PROCESSES) for n in range(PROCESSES)]
    tasks = [
        Crowd(address=server.address, name=f"{name}-{n}", count=share, study=study, trial_s=trial_s)
        for n, share in enumerate(shares)
    ]
    with client_processes(CROWD, [asdict(task) for task in tasks]) as processes:
        yield processes


def watch(server: ServerProcess, client: Client, study: str, seconds: float) -> Watched:
    """What the server takes of a core, and how long it takes to tell about a job."""
    job = study.partition("/studies/")[0]
    call_ms = []
    begin, before_s = time.monotonic(), server.cpu_s()
    while time.monotonic() - begin < seconds:
        asked = time.monotonic()
        client.get_train_job(job)
        call_ms.append(1000 * (time.monotonic() - asked))
        time.sleep(POLL_S)
    taken_s = server.cpu_s() - before_s
    return Watched(cpu_share=taken_s / (time.monotonic() - begin), call_ms=call_ms)


def report_lines(found: Findings) -> Iterator[str]:
    """The table, and what must hold."""
    yield f"{'':<32}{'CPU, % of a core':>18}{'GetTrainJob: p50':>18}{'p99':>8}{'most':>8} ms"
    for name, watched in (
        ("no session", found.alone),
        (f"{found.idle} wait", found.waiting),
        (f"{found.busy} work beside them", found.working),
    ):
        p50_ms, p99_ms = np.percentile(watched.call_ms, [50, 99])
        yield (
            f"{name:<32}{100 * watched.cpu_share:>18.1f}{p50_ms:>18.1f}{p99_ms:>8.1f}"
            f"{max(watched.call_ms):>8.1f}"
        )
    p50_ms, p99_ms = np.percentile(found.cycles_ms, [50, 99])
    cycle = f"from one to the next: p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms"
    yield f"{found.trials_per_s:.0f} trials per s; {cycle}"
    yield f"memory of the server per session that waits: {found.session_kib:.0f} KiB"
    yield f"heartbeats answered: {found.renewals}"
    worst_ms = max(found.waiting.call_ms + found.working.call_ms)
    yield f"slowest answer below {ANSWER_MS:.0f} ms: {verdict(worst_ms < ANSWER_MS)}"
    yield f"no session lost: {verdict(not found.lost)}"
    yield from sorted(set(found.lost))


def verdict(holds: bool) -> str:
    """Whether it does, as the tables say it."""
    return "ok" if holds else "MISSED"


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--idle", type=int, default=1000, help="sessions that wait")
    add("--busy", type=int, default=200, help="sessions that work")
    add("--trial-s", type=float, default=1.0, help="seconds that a trial takes, on average")
    add("--seconds", type=float, default=20.0, help="to watch the server with either of them")
    add("--folder", type=Path, default=Path("/dev/shm"), help="for the server's data")
    add("--json", type=Path, help="a file for all figures")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
