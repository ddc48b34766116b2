"""What becomes of the control plane as a study grows: latency, memory, and a restart."""

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.control_plane_client import Load
from benchmarks.control_plane_rates import create_study, run_trials
from benchmarks.server_process import ServerProcess, rafiki_server

# The trials whose median is taken, at the beginning of a study and late in it.
SAMPLE = 100
# After which clients that fill a study are given up.
LONGEST_S = 3600.0


# How a server is started, its data being there.
Start = Callable[[], AbstractContextManager[ServerProcess]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restart:
    """A server that was started with a study of many trials.

    Attributes:
        start_ms: From starting the process to its listening.
        first_trial_ms: From opening the channel of a fresh client to its first trial.
        peak_mib: The most memory that the server has held until then.
    """

    start_ms: float
    first_trial_ms: float
    peak_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What a study of so many trials came to, restarted at the number `restarted_at`.

    Attributes:
        first_ms, late_ms: Medians of handing in a trial and having the next one, in the first
            trials of a study and after `trials`; a pair per round.
        rss_mib, peak_mib: The memory of the server before the restart, and the most until then.
        late_rss_mib, late_peak_mib: The same after `trials`, of a server that was restarted.
    """

    trials: int
    restarted_at: int
    first_ms: list[float]
    late_ms: list[float]
    rss_mib: float
    peak_mib: float
    late_rss_mib: float
    late_peak_mib: float
    restarts: list[Restart]

    @property
    def ratio(self) -> float:
        """How much slower a late trial is: the median over the rounds."""
        return statistics.median(
            late / first for first, late in zip(self.first_ms, self.late_ms, strict=True)
        )


def measure_growth(trials: int, restart_at: int, rounds: int, folder: Path) -> Growth:
    """Grows a study, restarts its server on the way, and compares it with new ones."""
    sample = min(SAMPLE, trials)
    with tempfile.TemporaryDirectory(dir=folder) as data:
        grown, fresh = Path(data) / "grown", Path(data) / "fresh"
        with rafiki_server(grown) as server:
            study = create_study(server.address)
            fill(server, study, restart_at, clients=1)
            rss_mib, peak_mib = server.rss_mib(), server.peak_mib()
        restarts = [restart(lambda: rafiki_server(grown), "rafiki", study) for _ in range(rounds)]
        with rafiki_server(grown) as server, rafiki_server(fresh) as other:
            fill(server, study, trials - restart_at, clients=8)
            late_rss_mib, late_peak_mib = server.rss_mib(), server.peak_mib()
            first_ms, late_ms = [], []
            for _ in range(rounds):
                first_ms.append(sample_ms(other, create_study(other.address), sample))
                late_ms.append(sample_ms(server, study, sample))
    return Growth(
        trials=trials,
        restarted_at=restart_at,
        first_ms=first_ms,
        late_ms=late_ms,
        rss_mib=rss_mib,
        peak_mib=peak_mib,
        late_rss_mib=late_rss_mib,
        late_peak_mib=late_peak_mib,
        restarts=restarts,
    )


def measure_peer_restarts(what: str, trials: int, rounds: int, folder: Path) -> list[Restart]:
    """Starts Optuna's proxy before a storage that has so many trials, once per round."""
    from benchmarks.control_plane_optuna import fill_storage, optuna_server

    with tempfile.TemporaryDirectory(dir=folder) as data:
        fill_storage(what, Path(data), trials)
        return [
            restart(lambda: optuna_server(what, Path(data)), "optuna", "") for _ in range(rounds)
        ]


def restart(start: Start, kind: str, study: str) -> Restart:
    """Starts a server, has a fresh client take one trial, and stops it."""
    begin = time.monotonic()
    with start() as server:
        start_ms = 1000 * (time.monotonic() - begin)
        load = Load(kind=kind, address=server.address, study=study)
        (marks,) = run_trials([load], [1], LONGEST_S)
        return Restart(
            start_ms=start_ms,
            first_trial_ms=1000 * (marks.taken[0] - marks.opened),
            peak_mib=server.peak_mib(),
        )


def fill(server: ServerProcess, study: str, trials: int, *, clients: int) -> None:
    """Has clients complete so many trials together."""
    shares = [trials // clients + (n < trials % clients) for n in range(clients)]
    loads = [
        Load(kind="rafiki", address=server.address, study=study, number=n) for n in range(clients)
    ]
    run_trials(loads, shares, LONGEST_S)


def sample_ms(server: ServerProcess, study: str, trials: int) -> float:
    """The median of so many trials of one client: of handing in and having the next."""
    load = Load(kind="rafiki", address=server.address, study=study)
    (marks,) = run_trials([load], [trials], LONGEST_S)
    return 1000 * statistics.median(taken - ended for ended, taken in marks.cycles())
