"""The tables of the control plane's benchmark: what was measured, and what must hold."""

import statistics
from collections.abc import Iterator
from dataclasses import dataclass, field

from benchmarks.control_plane_growth import Growth, Restart
from benchmarks.control_plane_rates import (
    CANDIDATES,
    JOURNAL,
    SQLITE,
    TRIALS,
    Rate,
    medians,
    ratio,
)

# Per second, by contender and clients.
RATE_FLOORS = {
    (TRIALS, 1): 600.0,
    (TRIALS, 8): 450.0,
    (CANDIDATES, 1): 4000.0,
    (CANDIDATES, 8): 4000.0,
}
RATIO_FLOORS = {SQLITE: 12.0, JOURNAL: 4.0}
GAP_MS = 1.0
GROWTH_RATIO = 1.2
FIRST_TRIAL_MS = 100.0
PEAK_MIB = 120.0


@dataclass(slots=True)
class Findings:
    """Everything that was measured; gaps by the number of trials that may wait at a client."""

    rates: list[Rate] = field(default_factory=list)
    gaps_ms: dict[int, list[float]] = field(default_factory=dict)
    growth: Growth | None = None
    peer_restarts: dict[str, list[Restart]] = field(default_factory=dict)

    def runs(self) -> dict[tuple[str, int], list[Rate]]:
        """The rounds by contender and clients."""
        runs: dict[tuple[str, int], list[Rate]] = {}
        for rate in self.rates:
            runs.setdefault((rate.what, rate.clients), []).append(rate)
        return runs


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A figure and the limit that it must keep to: at least, or at most if `is_ceiling`."""

    name: str
    value: float
    limit: float
    is_ceiling: bool = False

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.value <= self.limit if self.is_ceiling else self.value >= self.limit


def report_lines(findings: Findings) -> Iterator[str]:
    """All tables."""
    yield from _rates(findings)
    yield from _gaps(findings)
    if findings.growth is not None:
        yield from _growth(findings.growth)
    for what, restarts in findings.peer_restarts.items():
        yield f"{what}: {_restarts(restarts)}"
    yield ""
    yield f"{'what must hold':<62}{'measured':>9}{'limit':>9}"
    for check in checks(findings):
        limit = f"{'<=' if check.is_ceiling else '>='} {check.limit:g}"
        verdict = "ok" if check.holds else "MISSED"
        yield f"{check.name:<62}{check.value:>9.4g}{limit:>9} {verdict}"


def checks(findings: Findings) -> Iterator[Check]:
    """What must hold, of what was measured."""
    runs = findings.runs()
    for (what, clients), floor in RATE_FLOORS.items():
        if own := runs.get((what, clients)):
            name = f"{what} per second, {_clients(clients)}"
            yield Check(name=name, value=medians(own).per_s, limit=floor)
    for (what, clients), peers in runs.items():
        if what in RATIO_FLOORS and (own := runs.get((TRIALS, clients))):
            name = f"{TRIALS} per second, times those of {what}, {_clients(clients)}"
            yield Check(name=name, value=ratio(own, peers), limit=RATIO_FLOORS[what])
    for prefetch, gaps_ms in findings.gaps_ms.items():
        if prefetch:
            name = f"ms between two trials, prefetch {prefetch}"
            yield _ceiling(name, statistics.median(gaps_ms), GAP_MS)
    if (growth := findings.growth) is not None:
        at, late = growth.restarted_at, growth.trials
        peak_mib = max([growth.peak_mib, *(restart.peak_mib for restart in growth.restarts)])
        first_ms = statistics.median(restart.first_trial_ms for restart in growth.restarts)
        yield _ceiling(
            f"p50 after {late:,} trials over that of the first", growth.ratio, GROWTH_RATIO
        )
        yield _ceiling(f"ms to a first trial, restarted with {at:,}", first_ms, FIRST_TRIAL_MS)
        yield _ceiling(f"peak MiB of the server with {at:,} trials", peak_mib, PEAK_MIB)


def _ceiling(name: str, value: float, limit: float) -> Check:
    return Check(name=name, value=value, limit=limit, is_ceiling=True)


def _clients(clients: int) -> str:
    return "1 client" if clients == 1 else f"{clients} clients"


def _rates(findings: Findings) -> Iterator[str]:
    heads = ("per s", "p50 ms", "p99 ms", "CPU ms", "peak MiB")
    yield f"{'':<16}{'clients':>8}" + "".join(f"{head:>10}" for head in heads)
    for own in findings.runs().values():
        rate = medians(own)
        yield (
            f"{rate.what:<16}{rate.clients:>8}{rate.per_s:>10.0f}{rate.p50_ms:>10.2f}"
            f"{rate.p99_ms:>10.2f}{rate.server_cpu_ms:>10.2f}{rate.peak_mib:>10.0f}"
        )
    yield "p50 and p99: of handing in and having the next; CPU: the server's, for each"


def _gaps(findings: Findings) -> Iterator[str]:
    for prefetch, gaps_ms in findings.gaps_ms.items():
        yield f"between two trials, prefetch {prefetch}: {statistics.median(gaps_ms):.2f} ms"


def _growth(growth: Growth) -> Iterator[str]:
    first_ms, late_ms = statistics.median(growth.first_ms), statistics.median(growth.late_ms)
    yield ""
    yield f"p50 of the first trials {first_ms:.2f} ms, after {growth.trials:,} {late_ms:.2f} ms"
    for trials, rss_mib, peak_mib in (
        (growth.restarted_at, growth.rss_mib, growth.peak_mib),
        (growth.trials, growth.late_rss_mib, growth.late_peak_mib),
    ):
        yield f"memory with {trials:,} trials: {rss_mib:.0f} MiB, peak {peak_mib:.0f} MiB"
    yield f"restarted with {growth.restarted_at:,} trials: {_restarts(growth.restarts)}"


def _restarts(restarts: list[Restart]) -> str:
    first_ms = statistics.median(restart.first_trial_ms for restart in restarts)
    start_ms = statistics.median(restart.start_ms for restart in restarts)
    peak_mib = statistics.median(restart.peak_mib for restart in restarts)
    return (
        f"a first trial after {first_ms:.0f} ms, of a server that listens after "
        f"{start_ms:.0f} ms; peak {peak_mib:.0f} MiB"
    )
