"""Measures the tuning schemes as `advisors.py` does, through a server of their own.

The server is a process on 127.0.0.1 with a temporary data folder. Every run is a job of one
external study, whose W workers are streams of this process that look results up in the table.
What a study came to is then read back from the server.

    .venv-bench/bin/python benchmarks/advisors_live.py --schemes BAYES_OPT --workers 4
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import spaces
from benchmarks.external import ExternalWorker
from benchmarks.report import report_lines, to_json
from benchmarks.schemes import advisor_settings
from benchmarks.server_process import rafiki_server
from benchmarks.simulation import Run, draw, incumbents
from benchmarks.tables import Indices, Table, load_table, table_names

from rafiki.client import Client
from rafiki.resources import Budget, StudySpec, TrainJob, Trial, TrialState
from rafiki.wire.trials import trial_from_proto

TABLES = ("hpobench/australian", "nasbench201/cifar10")

_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class LiveRun:
    """A run through a server: `distinct` settings among its trials, and trials per second."""

    run: Run
    distinct: int
    trials_per_s: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the runs asked for, prints the report and writes the JSON."""
    options = _parse(arguments)
    at = sorted(set(options.at))
    tables = {name: load_table(name) for name in table_names(options.tables)}
    live: list[LiveRun] = []
    with tempfile.TemporaryDirectory() as folder, rafiki_server(Path(folder)) as server:
        for scheme in options.schemes:
            for table in tables.values():
                for seed in range(options.seeds):
                    live.append(
                        make_run(server.address, table, scheme, seed, options.workers, max(at))
                    )
                    print(_progress(live[-1]), file=sys.stderr)
    runs = [one.run for one in live]
    for line in report_lines(runs, tables, at):
        print(line)
    if options.json is not None:
        content = to_json(runs, tables, at)
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    if any(one.distinct < one.run.evaluations for one in live):
        sys.exit("a setting was proposed twice")


def make_run(
    address: str, table: Table, scheme: str, seed: int, workers: int, evaluations: int
) -> LiveRun:
    """Makes one run: creates the job, works on it to its end, and reads it back."""
    with Client(address) as client, grpc.insecure_channel(address) as channel:
        spec = StudySpec(knob_config=spaces.knob_config(table), advisor=advisor_settings(scheme))
        job = TrainJob(
            app="benchmark",
            task="TABLE",
            studies=(spec,),
            budget=Budget(model_trial_count=evaluations),
            direction=table.direction,
            seed=seed,
        )
        _, (study,) = client.create_train_job(job)
        started_s = time.monotonic()
        with ThreadPoolExecutor(workers) as pool:
            work = [
                pool.submit(
                    ExternalWorker(channel, worker_id=f"worker-{n}", study=study.name).run,
                    lambda trial: _score(table, trial_from_proto(trial), seed),
                )
                for n in range(workers)
            ]
            done = sum(worker.result() for worker in work)
        taken_s = time.monotonic() - started_s
        trials = list(client.list_trials(study.name, states=[TrialState.COMPLETED]))
    if len(trials) != done:
        raise RuntimeError(f"{done} trials were reported, but {len(trials)} are stored")
    by_end = sorted(trials, key=lambda trial: (trial.end_time or _NEVER, _number(trial)))
    configurations = [_indices(table, trial) for trial in by_end]
    scores = [trial.score for trial in by_end if trial.score is not None]
    distinct = len(set(configurations))
    run = Run(
        table=table.name,
        scheme=scheme,
        workers=workers,
        seed=seed,
        evaluations=done,
        incumbents=incumbents(table, zip(configurations, scores, strict=True)),
        repeats=done - distinct,
        ask_tell_ms=1000 * workers * taken_s / done,
    )
    return LiveRun(run, distinct, done / taken_s)


def _score(table: Table, trial: Trial, seed: int) -> float:
    value = draw("result", table.name, seed, _number(trial))
    return table.observe(_indices(table, trial), value)


def _number(trial: Trial) -> int:
    return int(trial.name.rpartition("/")[2])


def _indices(table: Table, trial: Trial) -> Indices:
    archs = [candidate.archs for candidate in trial.candidates]
    return spaces.indices(table, trial.knobs, archs)


def _progress(live: LiveRun) -> str:
    run = live.run
    return (
        f"{run.scheme} on {run.table}, seed {run.seed}: {run.evaluations} trials, "
        f"{live.distinct} distinct, {live.trials_per_s:.0f} per s"
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measures tuning schemes through a server, by external studies.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--tables", nargs="+", default=TABLES, metavar="TABLE", help="names or patterns")
    add("--schemes", nargs="+", default=["RANDOM"], metavar="SCHEME", help="kinds of advisors")
    add("--at", nargs="+", type=int, default=[50, 100], help="evaluations to report after")
    add("--seeds", type=int, default=3, help="runs per scheme and table")
    add("--workers", type=int, default=4, help="streams that take trials, one at a time each")
    add("--json", type=Path, help="a file to write runs and figures to")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
