"""How many trials a second a server and its clients get through, all of them on one core."""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from benchmarks.client_processes import client_processes
from benchmarks.control_plane_client import CELL, RATE, Load, Marks
from benchmarks.server_process import ServerProcess, rafiki_server

from rafiki.client import Client
from rafiki.model import ArchKnob, CategoricalKnob, FloatKnob, IntegerKnob, KnobConfig
from rafiki.resources import AdvisorKind, AdvisorSettings, Budget, StudySpec, TrainJob

CLIENT = Path(__file__).with_name("control_plane_client.py")

# More trials than a study of this benchmark comes to.
UNLIMITED = 1_000_000

BATCH = 10
KNOBS: KnobConfig = {
    RATE: FloatKnob(1e-5, 1.0, is_exp=True),
    "dropout": FloatKnob(0.0, 0.9),
    "units": IntegerKnob(1, 1024),
    "activation": CategoricalKnob(["relu", "gelu", "tanh"]),
}
# Far more cells than will be drawn: RANDOM repeats none.
ARCHITECTURES: KnobConfig = {
    CELL: ArchKnob([["none", "skip", "pool", "conv1x1", "conv3x3"]] * 12),
}

# What may take part; those of Optuna are peers.
TRIALS, CANDIDATES, HEALTH = "trials", "candidates", "health"
SQLITE, JOURNAL = "optuna-sqlite", "optuna-journal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """How long is measured, after how long a warm-up."""

    warm_up_s: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What one run came to.

    Attributes:
        what: Who took part.
        clients: How many clients at once.
        per_s: Trials, candidates or calls per second.
        p50_ms, p99_ms: Of handing in a trial and having the next one.
        server_cpu_ms: What the server took of the CPU per trial, candidate or call.
        peak_mib: The most memory that the server held.
    """

    what: str
    clients: int
    per_s: float
    p50_ms: float
    p99_ms: float
    server_cpu_ms: float
    peak_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What clients did together, from `begin` on, and the server's CPU seconds meanwhile."""

    marks: list[Marks]
    begin: float
    server_cpu_s: float

    def handed_in(self) -> list[float]:
        """When trials were handed in."""
        return [at for mark in self.marks for at in mark.handed_in if at >= self.begin]

    def cycles_ms(self) -> list[float]:
        """Milliseconds from the end of each trial to the next that was in hand."""
        return [
            1000 * (taken - ended)
            for mark in self.marks
            for ended, taken in mark.cycles()
            if taken >= self.begin
        ]


def measure_rate(what: str, clients: int, window: Window, folder: Path) -> Rate:
    """Starts a server without any data and loads it with so many clients."""
    with (
        tempfile.TemporaryDirectory(dir=folder) as data,
        contender(what, Path(data)) as (server, load),
    ):
        loads = [replace(load, number=number) for number in range(clients)]
        run = run_clients(server, loads, window)
        peak_mib = server.peak_mib()
    handed_in = run.handed_in()
    done = len(handed_in) * (BATCH if what == CANDIDATES else 1)
    p50_ms, p99_ms = np.percentile(run.cycles_ms(), [50, 99])
    return Rate(
        what=what,
        clients=clients,
        per_s=done / (max(handed_in) - run.begin),
        p50_ms=float(p50_ms),
        p99_ms=float(p99_ms),
        server_cpu_ms=1000 * run.server_cpu_s / done,
        peak_mib=peak_mib,
    )


def measure_gap(prefetch: int, trial_s: float, window: Window, folder: Path) -> float:
    """Milliseconds between two trials of one client: from the end to the next in hand, the median.

    The client takes the next trial before the last is stored, if there is one.
    """
    with (
        tempfile.TemporaryDirectory(dir=folder) as data,
        contender(TRIALS, Path(data)) as (server, load),
    ):
        load = replace(load, trial_s=trial_s, prefetch=prefetch, in_background=True)
        return statistics.median(run_clients(server, [load], window).cycles_ms())


def run_clients(server: ServerProcess, loads: Sequence[Load], window: Window) -> Run:
    """Has clients work for the length of a window, and on to the end of their last trials."""
    with client_processes(CLIENT, [asdict(load) for load in loads]) as running:
        begin = time.monotonic() + window.warm_up_s
        for client in running:
            client.begin(until=begin + window.seconds, trials=UNLIMITED)
        time.sleep(max(0.0, begin - time.monotonic()))
        before_s = server.cpu_s()
        marks = [Marks.from_json(client.answer()) for client in running]
        return Run(marks=marks, begin=begin, server_cpu_s=server.cpu_s() - before_s)


def run_trials(loads: Sequence[Load], trials: Sequence[int], timeout_s: float) -> list[Marks]:
    """Has every client complete so many trials.

    Raises:
        SystemExit: It took too long.
    """
    with client_processes(CLIENT, [asdict(load) for load in loads]) as running:
        until = time.monotonic() + timeout_s
        for client, count in zip(running, trials, strict=True):
            client.begin(until=until, trials=count)
        marks = [Marks.from_json(client.answer()) for client in running]
    done = sum(len(mark.handed_in) for mark in marks)
    if done < sum(trials):
        raise SystemExit(f"only {done} of {sum(trials)} trials were done within {timeout_s:.0f} s")
    return marks


@contextmanager
def contender(what: str, folder: Path) -> Iterator[tuple[ServerProcess, Load]]:
    """A server with its data in `folder`, and what clients of it do."""
    if what in (SQLITE, JOURNAL):
        from benchmarks.control_plane_optuna import optuna_server

        with optuna_server(what, folder) as server:
            yield server, Load(kind="optuna", address=server.address)
        return
    with rafiki_server(folder) as server:
        if what == HEALTH:
            yield server, Load(kind="health", address=server.address)
        else:
            study = create_study(server.address, what)
            yield server, Load(kind="rafiki", address=server.address, study=study)


def create_study(address: str, what: str = TRIALS) -> str:
    """The name of a new study of RANDOM, of ordinary trials or of candidates in batches."""
    is_batched = what == CANDIDATES
    spec = StudySpec(
        knob_config=ARCHITECTURES if is_batched else KNOBS,
        candidate_batch_size=BATCH if is_batched else 0,
        advisor=AdvisorSettings(kind=AdvisorKind.RANDOM),
    )
    job = TrainJob(
        app="benchmark",
        task="NONE",
        studies=(spec,),
        budget=Budget(model_trial_count=UNLIMITED),
        seed=1,
    )
    with Client(address) as client:
        _, (study,) = client.create_train_job(job)
    return study.name


def medians(rates: Sequence[Rate]) -> Rate:
    """The median of every figure over the rounds of one contender with as many clients."""

    def median(figure: Callable[[Rate], float]) -> float:
        return statistics.median(map(figure, rates))

    return Rate(
        what=rates[0].what,
        clients=rates[0].clients,
        per_s=median(lambda rate: rate.per_s),
        p50_ms=median(lambda rate: rate.p50_ms),
        p99_ms=median(lambda rate: rate.p99_ms),
        server_cpu_ms=median(lambda rate: rate.server_cpu_ms),
        peak_mib=median(lambda rate: rate.peak_mib),
    )


def ratio(rates: Sequence[Rate], others: Sequence[Rate]) -> float:
    """How many times as fast some runs were as the others: the median over the rounds."""
    pairs = zip(rates, others, strict=True)
    return statistics.median(rate.per_s / other.per_s for rate, other in pairs)
