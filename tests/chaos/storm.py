"""One storm from calm to calm: faults strike a working platform, then everything is compared."""

import heapq
import json
import logging
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import count
from pathlib import Path

from tests.chaos.check import Evidence, check
from tests.chaos.evidence import check_checkpoints, check_storage, facts, gather
from tests.chaos.faults import PATIENCE_S, Fault, FaultKind, draw_faults
from tests.chaos.jobs import Employer, wait_for_jobs
from tests.chaos.ledger import Acknowledged, Moment
from tests.chaos.platform import LEASE_S, Platform, left_behind
from tests.chaos.proxy import Damage, Harm, Loop
from tests.chaos.replay import check_replay
from tests.chaos.watches import check_watches
from tests.e2e.processes import System

from rafiki.client import Client
from rafiki.resources import TrialState

logger = logging.getLogger(__name__)

# How long jobs may take to end once the storm is over, and on top of it for every fault.
CALM_S = 120.0
CALM_PER_FAULT_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a storm."""

    seed: int
    complaints: list[str]
    struck: Counter[FaultKind]
    missed: int
    harmed: Counter[Harm]
    evidence: Evidence | None
    seconds: float

    def __str__(self) -> str:
        lines = [
            f"seed {self.seed}: {self.struck.total()} faults in {self.seconds:.0f} s"
            f" ({self.missed} more found nothing to strike)",
            "  " + ", ".join(f"{kind} {n}" for kind, n in sorted(self.struck.items())),
            "  struck connections: "
            + (", ".join(f"{harm} {n}" for harm, n in sorted(self.harmed.items())) or "none"),
        ]
        if self.evidence is not None:
            lines.append("  " + summary(self.evidence))
        lines += [f"  WRONG: {complaint}" for complaint in self.complaints]
        lines.append("  all holds" if not self.complaints else f"  {len(self.complaints)} wrong")
        return "\n".join(lines)


def summary(evidence: Evidence) -> str:
    """The storm in numbers."""
    states = Counter(trial.state for trial in evidence.trials)
    moments = Counter(report.moment for report in evidence.reports)
    again = sum(trial.attempt > 1 for trial in evidence.trials)
    return (
        f"{len(evidence.studies)} jobs, {len(evidence.trials)} trials:"
        f" {states[TrialState.COMPLETED]} completed, {states[TrialState.ERRORED]} errored,"
        f" {again} in several attempts; results reported {moments[Moment.REPORTING]} times,"
        f" acknowledged {moments[Moment.ACKNOWLEDGED]}, refused {moments[Moment.REFUSED]}"
    )


def run_storm(*, seed: int, faults: int, folder: Path, scale: float = 1.0) -> Outcome:
    """Has `faults` faults strike, drawn from `seed`; whatever is learned lies in `folder`.

    `scale` makes the jobs longer or shorter.
    """
    start = time.monotonic()
    run_id = f"{os.getpid()}-{seed}-{time.monotonic_ns()}"
    with Loop() as loop:
        platform = Platform(folder, run_id, loop)
        storm = _Storm(platform, folder)
        evidence = None
        try:
            platform.start()
            employer = Employer(platform.address, folder, seed, scale)
            try:
                storm.rage(seed, faults)
                employer.stop()
                evidence = _settle(platform, employer, CALM_S + CALM_PER_FAULT_S * faults)
            finally:
                employer.close()
        except Exception as error:
            logger.exception("the storm could not be finished")
            platform.complaints.append(f"the storm could not be finished: {error!r}")
        finally:
            platform.close()
    orphans = left_behind(run_id)
    for pid in orphans:
        platform.complaints.append(f"process {pid} was left behind")
        os.kill(pid, signal.SIGKILL)
    harmed = sum((proxy.struck for proxy in platform.proxies), Counter[Harm]())
    outcome = Outcome(
        seed=seed,
        complaints=platform.complaints,
        struck=storm.struck,
        missed=storm.missed,
        harmed=harmed,
        evidence=evidence,
        seconds=time.monotonic() - start,
    )
    (folder / "outcome.txt").write_text(f"{outcome}\n")
    return outcome


@dataclass
class _Storm:
    """The faults that strike, and what is to be undone of them later."""

    platform: Platform
    folder: Path
    struck: Counter[FaultKind] = field(default_factory=Counter)
    missed: int = 0
    _acknowledged: Acknowledged = field(init=False)
    _due: list[tuple[float, int, Callable[[], object]]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        self._acknowledged = Acknowledged(self.folder / "ledgers")

    def rage(self, seed: int, faults: int) -> None:
        """Returns once so many faults have struck and what could be undone of them is."""
        with (self.folder / "faults.jsonl").open("w", buffering=1) as log:
            start = time.monotonic()
            for fault in draw_faults(seed, lease_s=LEASE_S):
                if self.struck.total() == faults:
                    break
                self._await_turn(fault)
                has_struck = self._strike(fault)
                line = {"at_s": time.monotonic() - start, "struck": has_struck, **asdict(fault)}
                log.write(json.dumps(line) + "\n")
                if has_struck:
                    self.struck[fault.kind] += 1
                else:
                    self.missed += 1
        while self._due:
            self._wait(self._due[0][0])
        for proxy in self.platform.proxies:
            proxy.heal()

    def _await_turn(self, fault: Fault) -> None:
        now = time.monotonic()
        enough = self._acknowledged.count() + fault.results
        self._wait(now + fault.gap_s)
        while self._acknowledged.count() < enough and time.monotonic() < now + PATIENCE_S:
            self._wait(time.monotonic() + 0.05)

    def _wait(self, until: float) -> None:
        """Looks after the platform until a time."""
        while True:
            self.platform.look()
            now = time.monotonic()
            while self._due and self._due[0][0] <= now:
                heapq.heappop(self._due)[2]()
            if now >= until:
                return
            time.sleep(min(0.02, until - now))

    def _later(self, delay_s: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._due, (time.monotonic() + delay_s, next(self._order), action))

    def _strike(self, fault: Fault) -> bool:
        """Does it; False if there was nothing to do it to."""
        match fault.kind:
            case FaultKind.KILL_SERVER | FaultKind.DRAIN_SERVER | FaultKind.FREEZE_SERVER:
                return self._strike_part(fault, slot=None)
            case FaultKind.KILL_WORKER | FaultKind.DRAIN_WORKER | FaultKind.FREEZE_WORKER:
                return self._strike_part(fault, slot=fault.slot)
            case FaultKind.KILL_CHILD:
                child = self.platform.child(fault.slot)
                if child is None:
                    return False
                os.kill(child, signal.SIGKILL)
            case FaultKind.FILL_DISK:
                if not self.platform.limit_files(fault.limit_bytes):
                    return False
                self._later(fault.duration_s, lambda: self.platform.limit_files(None))
            case FaultKind.CUT if fault.after_bytes == 0:
                self.platform.proxies[fault.slot].cut()
            case _:
                damage = Damage(
                    harm=Harm(fault.kind),
                    is_up=fault.is_up,
                    after_bytes=fault.after_bytes,
                    delay_s=fault.duration_s,
                )
                self.platform.proxies[fault.slot].damage(damage)
        return True

    def _strike_part(self, fault: Fault, slot: int | None) -> bool:
        platform = self.platform
        part = platform.server if slot is None else platform.workers[slot]
        if not part.is_running or part.is_expected_to_end:
            return False
        match fault.kind:
            case FaultKind.FREEZE_SERVER | FaultKind.FREEZE_WORKER:
                if part.is_frozen:
                    return False
                process = platform.freeze(part)
                self._later(fault.duration_s, lambda: platform.thaw(process))
                return True
            case FaultKind.KILL_SERVER | FaultKind.KILL_WORKER:
                platform.kill(part, down_s=fault.duration_s)
            case _:
                platform.drain(part, down_s=fault.duration_s)
        if slot is not None and not fault.keeps_name:
            platform.rename(slot)
        return True


def _settle(platform: Platform, employer: Employer, timeout_s: float) -> Evidence:
    """Waits until all jobs have ended, ends everything, and compares."""
    complaints = platform.complaints
    with Client(platform.address, timeout_s=10.0) as client:
        for job in wait_for_jobs(client, platform.look, timeout_s):
            complaints.append(f"{job} did not end within {timeout_s:.0f} s after the storm")
        evidence = gather(client, platform.folder)
        complaints += check(evidence)
        complaints += check_watches((x.seen() for x in employer.watches), evidence.trials)
        complaints += check_checkpoints(client)
        before = facts(client)
    platform.stop_workers()
    platform.stop_server()
    complaints += check_storage(platform.data_dir)
    complaints += _check_copy(platform, before)
    return evidence


def _check_copy(platform: Platform, before: object) -> Iterator[str]:
    """The logs lead to what was proposed, and a server on a copy of the folder serves the same."""
    folder = platform.folder / "copy"
    folder.mkdir()
    shutil.copytree(platform.data_dir, folder / "data")
    (folder / "data" / "server.address").unlink()
    yield from check_replay(folder / "data")
    system = System(folder, folder / "programs")
    try:
        system.start_server()
        with system.client() as client:
            if facts(client) != before:
                yield "a server on a copy of the folder serves other jobs or trials"
    finally:
        system.stop()
    for line in (folder / "server.log").read_text().splitlines():
        if " INFO " not in line:
            yield f"a server on a copy of the folder says: {line}"
    shutil.rmtree(folder)
