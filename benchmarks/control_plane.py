"""Measures how many trials a second a server gets through, beside Optuna's.

Server and clients are processes that share one core; the clients speak the released protocol,
with sessions, leases and heartbeats. The data is in memory (/dev/shm), the settings of the
database are those that a server ships with. Contenders take turns, each time with a server of
their own that has no data.

    .venv-bench/bin/python benchmarks/control_plane.py --peers --json control-plane.json
"""

import argparse
import importlib.util
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.control_plane_growth import measure_growth, measure_peer_restarts
from benchmarks.control_plane_rates import (
    CANDIDATES,
    HEALTH,
    JOURNAL,
    SQLITE,
    TRIALS,
    Rate,
    Window,
    measure_gap,
    measure_rate,
)
from benchmarks.control_plane_report import Findings, report_lines

OURS = (TRIALS, CANDIDATES, HEALTH)
PEERS = (SQLITE, JOURNAL)
# Of a trial whose successor is waited for.
TRIAL_S = 0.005


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints what it found."""
    flags = parse(arguments)
    if flags.peers and importlib.util.find_spec("optuna") is None:
        raise SystemExit("the peers need Optuna; see `make bench-install`")
    # Whatever was started is then stopped, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    os.sched_setaffinity(0, {flags.core})
    peers = PEERS if flags.peers else ()
    window = Window(warm_up_s=flags.warm_up, seconds=flags.seconds)
    findings = Findings()
    for number in range(flags.rounds):
        for clients in flags.clients:
            for what in (*OURS, *peers):
                rate = measure_rate(what, clients, window, flags.folder)
                findings.rates.append(rate)
                print(progress(number, rate), file=sys.stderr, flush=True)
        for prefetch in flags.prefetch:
            gap_ms = measure_gap(prefetch, TRIAL_S, window, flags.folder)
            findings.gaps_ms.setdefault(prefetch, []).append(gap_ms)
    if flags.trials:
        findings.growth = measure_growth(flags.trials, flags.restart_at, flags.rounds, flags.folder)
        for peer in peers:
            findings.peer_restarts[peer] = measure_peer_restarts(
                peer, flags.restart_at, flags.rounds, flags.folder
            )
    print("\n".join(report_lines(findings)))
    if flags.json is not None:
        flags.json.write_text(json.dumps(asdict(findings), indent=1) + "\n")


def progress(number: int, rate: Rate) -> str:
    """One line on one run."""
    return (
        f"round {number + 1}: {rate.what}, {rate.clients} clients: {rate.per_s:.0f} per s, "
        f"p50 {rate.p50_ms:.2f} ms, server {rate.server_cpu_ms:.2f} ms each"
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags; `--quick` changes the defaults."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--clients", nargs="+", type=int, default=[1, 8], help="client processes at once")
    add("--rounds", type=int, default=5, help="how often everybody takes their turn")
    add("--seconds", type=float, default=4.0, help="the window that is measured")
    add("--warm-up", type=float, default=1.5, help="seconds before the window")
    add("--trials", type=int, default=50_000, help="to grow a study to; 0 leaves that out")
    add("--restart-at", type=int, default=5_000, help="trials after which to restart the server")
    add("--prefetch", nargs="*", type=int, default=[0, 1], help="trials that wait at a client")
    add("--peers", action="store_true", help="beside Optuna's proxy")
    add("--core", type=int, default=max(os.sched_getaffinity(0)), help="the core all run on")
    add("--folder", type=Path, default=Path("/dev/shm"), help="for the servers' data")
    add("--json", type=Path, help="a file for all figures")
    add("--quick", action="store_true", help="one short round and 1,000 trials; a first look")
    quick, _ = parser.parse_known_args(arguments)
    if quick.quick:
        parser.set_defaults(rounds=1, seconds=1.0, warm_up=0.5, trials=1000, restart_at=500)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
