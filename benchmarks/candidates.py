"""Measures ten candidates in one call against single trials, through a server and a worker.

The zoo's supernet of cells searches scikit-learn's digits in three ways, which differ in how
many candidates a SEARCH_EVAL trial has:

    ten     a batch of ten, as templates with the pair of candidate methods get
    one     a batch of one, of the same template
    single  one, of the same template without the pair: a new instance that loads the shared
            weights and evaluates its own knobs, as any template does

Each way evaluates as many candidates per round, on as many minibatches of the validation set,
and updates the controller as often but for `one`, which does so per candidate. The ways take
turns, a job each. What counts are candidates per second from the first start to the last end
of a round's SEARCH_EVAL trials, compilation taken off; a job's first round, in which most is
compiled, is left out.

    python benchmarks/candidates.py --json candidates.json
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.image_jobs import LIGHT_CNN, TASK, register_template, run_to_end, span_s

from rafiki.client import Client
from rafiki.client.demo.data import write_digits
from rafiki.client.local import LocalPlatform, PlatformConfig
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    EnasOptions,
    Model,
    StudySpec,
    TrainJob,
    Trial,
    TrialPhase,
)

# One call for ten candidates is to have at least so many times the throughput of ten trials.
TARGET = 1.5
BATCH = 10
FINALISTS = 2
WITHOUT_PAIR = """
    train_candidates = None
    evaluate_candidates = None
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How candidates are evaluated: by which template, so many per trial and per update."""

    name: str
    has_pair: bool
    per_trial: int
    per_update: int


WAYS = (
    Way(name="ten", has_pair=True, per_trial=BATCH, per_update=BATCH),
    Way(name="one", has_pair=True, per_trial=1, per_update=1),
    Way(name="single", has_pair=False, per_trial=1, per_update=BATCH),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """The SEARCH_EVAL trials of a round of a job; seconds are without compilation.

    `setup_s` and `evaluate_s` are those that the template was busy with, of `span_s`.
    """

    way: str
    job: int
    round: int
    candidates: int
    trials: int
    span_s: float
    setup_s: float
    evaluate_s: float

    @property
    def per_s(self) -> float:
        """Candidates per second."""
        return self.candidates / self.span_s


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints what it found."""
    flags = parse(arguments)
    if flags.rounds < 2 or flags.candidates % BATCH:
        raise SystemExit(f"it takes two rounds, and candidates in batches of {BATCH}")
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="rafiki-bench-") as folder:
        for measured in measure(flags, Path(folder)):
            rounds.append(measured)
            print(json.dumps(asdict(measured)), flush=True)
    for line in report_lines(rounds):
        print(line)
    if flags.json is not None:
        content = {
            "flags": {name: str(value) for name, value in vars(flags).items()},
            "rounds": [asdict(item) | {"per_s": item.per_s} for item in rounds],
            "ratios": {name: ratios(rounds, name) for name in ("one", "single")},
        }
        flags.json.write_text(json.dumps(content, indent=2) + "\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=3, help="of each way, in turns")
    parser.add_argument("--rounds", type=int, default=3, help="of a job; the first is left out")
    parser.add_argument("--candidates", type=int, default=100, help="per round")
    parser.add_argument("--channels", type=int, default=16, help="of the first stage")
    parser.add_argument("--timeout-s", type=float, default=1800.0, help="of a job")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args(arguments)


def measure(flags: argparse.Namespace, folder: Path) -> Iterator[Round]:
    """Runs the jobs, one after the other."""
    digits = write_digits(folder)
    # One worker on one core; the server has the others.
    core = max(os.sched_getaffinity(0))
    config = PlatformConfig(
        data_dir=folder / "platform",
        listen="127.0.0.1:0",
        workers=1,
        worker_flags=("--cores", str(core)),
    )
    with LocalPlatform(config, print) as platform, Client(platform.address) as client:
        models = {
            has_pair: register(client, folder, flags.channels, has_pair)
            for has_pair in (True, False)
        }
        datasets = [
            client.create_dataset(part.path, task=TASK).name
            for part in (digits.train, digits.validation)
        ]
        for number in range(1, flags.jobs + 1):
            for way in WAYS:
                job = search_job(flags, way, models[way.has_pair], datasets, number)
                job = run_to_end(client, job, flags.timeout_s)
                trials = client.list_trials(f"{job.name}/studies/1")
                yield from read_rounds(way, number, list(trials))


def register(client: Client, folder: Path, channels: int, has_pair: bool) -> Model:
    """The supernet with the pair of candidate methods or without it."""
    knobs = {"channels": channels, "cells": 1, "epochs": 1, "early_stop_epochs": 1}
    template = folder / ("batch_cnn.py" if has_pair else "single_cnn.py")
    template.write_text(LIGHT_CNN.format(knobs=knobs) + ("" if has_pair else WITHOUT_PAIR))
    model = register_template(client, template)
    if model.candidate_batches is not has_pair:
        raise SystemExit(f"{template.name} takes batches: {model.candidate_batches}")
    return model


def search_job(
    flags: argparse.Namespace, way: Way, model: Model, datasets: Sequence[str], number: int
) -> TrainJob:
    """The job of a search; what has to follow it is short."""
    options = EnasOptions(
        candidates_per_batch=way.per_update,
        batches_per_round=flags.candidates // way.per_update,
        train_shards=1,
        final_evals=FINALISTS,
    )
    per_round = 1 + flags.candidates // way.per_trial
    finals = 2 * -(-FINALISTS // way.per_trial) + options.final_trains
    return TrainJob(
        app=f"candidates-{way.name}",
        task=TASK,
        studies=(
            StudySpec(
                model=model.name, advisor=AdvisorSettings(kind=AdvisorKind.ENAS, enas=options)
            ),
        ),
        budget=Budget(model_trial_count=flags.rounds * per_round + finals),
        train_dataset=datasets[0],
        validation_dataset=datasets[1],
        seed=number,
    )


def read_rounds(way: Way, job: int, trials: Sequence[Trial]) -> Iterator[Round]:
    """All rounds of a job but the first."""
    evaluated: dict[int, list[Trial]] = {}
    for trial in trials:
        if trial.phase is TrialPhase.SEARCH_EVAL:
            evaluated.setdefault(trial.round, []).append(trial)
    for number, own in sorted(evaluated.items())[1:]:
        if {len(trial.candidates) for trial in own} != {way.per_trial}:
            raise SystemExit(f"{own[0].name} and others have not {way.per_trial} candidates each")
        timings = [trial.timings for trial in own if trial.timings is not None]
        yield Round(
            way=way.name,
            job=job,
            round=number,
            candidates=sum(len(trial.candidates) for trial in own),
            trials=len(own),
            span_s=span_s(own) - sum(timing.compile_s for timing in timings),
            setup_s=sum(timing.setup_s for timing in timings),
            evaluate_s=sum(timing.evaluate_s for timing in timings),
        )


def ratios(rounds: Sequence[Round], way: str) -> list[float]:
    """The throughput of batches of ten over that of `way`, per pair of rounds in turn."""
    ten, other = (
        {(item.job, item.round): item.per_s for item in rounds if item.way == name}
        for name in (WAYS[0].name, way)
    )
    return [per_s / other[turn] for turn, per_s in ten.items()]


def report_lines(rounds: Sequence[Round]) -> Iterator[str]:
    """A table with a row per way, medians over rounds, and the ratios."""
    yield ""
    columns = ("rounds", "candidates", "trials", "candidates/s", "setup, ms", "evaluate, ms")
    yield f"{'way':<8}" + "".join(f"{column:>14}" for column in columns)
    for way in WAYS:
        own = [item for item in rounds if item.way == way.name]
        setup = statistics.median(1000 * item.setup_s / item.candidates for item in own)
        evaluate = statistics.median(1000 * item.evaluate_s / item.candidates for item in own)
        per_s = statistics.median(item.per_s for item in own)
        yield (
            f"{way.name:<8}{len(own):>14}{own[0].candidates:>14}{own[0].trials:>14}"
            f"{per_s:>14.1f}{setup:>14.2f}{evaluate:>14.2f}"
        )
    yield "medians over rounds; setup and evaluation are those of a candidate in its template"
    for name in ("one", "single"):
        found = sorted(ratios(rounds, name))
        yield (
            f"ten / {name}: {statistics.median(found):.2f} times the throughput "
            f"({found[0]:.2f} to {found[-1]:.2f}), at least {TARGET} aimed at"
        )


if __name__ == "__main__":
    main()
