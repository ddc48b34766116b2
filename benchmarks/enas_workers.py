"""Measures ENAS with one worker and with several, each pinned to a core of its own.

A server and its workers are started with a temporary data folder, and run one job per seed of
the zoo's supernet, made light. All searches have the same rounds. Their time is that from
the first SEARCH_TRAIN to the last SEARCH_EVAL of a job; a short job before them compiles the
programs of the search, and what they compile all the same is taken off.

Fashion-MNIST is read from its four files, which Debian's package dataset-fashion-mnist
installs; `--data digits` takes the images that come with scikit-learn.

    python benchmarks/enas_workers.py --seeds 5 --json enas_workers.json
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

import numpy as np
from benchmarks.image_jobs import (
    SEARCH_PHASES,
    TASK,
    compiling_s,
    enas_trials,
    read_fashion,
    register_light_cnn,
    run_to_end,
    span_s,
    write_parts,
)

from rafiki.client import Client
from rafiki.client.local import LocalPlatform, PlatformConfig
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    EnasOptions,
    Model,
    StudySpec,
    TrainJob,
    TrialPhase,
)

# The search of several workers may take this much of the time of one.
TARGET = 0.65


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is measured: the data, the network, the search."""

    data: str
    images: int  # to train with
    held_out: int  # each to validate and to test with
    channels: int
    epochs: int
    rounds: int
    batches: int
    rank_trains: int
    timeout_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a job came to; scores are accuracies, `compile_s` is not in `search_s`."""

    workers: int
    seed: int
    search_s: float
    merge_s: float
    compile_s: float
    rounds: int
    search_mean: float
    search_best: float
    validation: float
    test: float
    rank_correlation: float | None


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints what it found."""
    flags = parse(arguments)
    settings = Settings(
        data=flags.data,
        images=flags.images,
        held_out=flags.held_out,
        channels=flags.channels,
        epochs=flags.epochs,
        rounds=flags.rounds,
        batches=flags.batches,
        rank_trains=flags.rank_trains,
        timeout_s=flags.timeout_s,
    )
    cores = sorted(os.sched_getaffinity(0))
    if max(flags.workers) > len(cores):
        raise SystemExit(f"{max(flags.workers)} workers need as many cores; there are {len(cores)}")
    runs: list[Run] = []
    with tempfile.TemporaryDirectory(prefix="rafiki-bench-") as folder:
        data = write_data(settings, Path(folder))
        for workers in flags.workers:
            for run in measure(settings, Path(folder), data, workers, cores[0], flags.seeds):
                runs.append(run)
                print(json.dumps(asdict(run)), flush=True)
    for line in report_lines(runs):
        print(line)
    if flags.json is not None:
        content = {"settings": asdict(settings), "runs": [asdict(run) for run in runs]}
        flags.json.write_text(json.dumps(content, indent=2) + "\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", choices=("fashion-mnist", "digits"), default="fashion-mnist")
    parser.add_argument("--images", type=int, default=2000, help="images to train with")
    parser.add_argument("--held-out", type=int, default=500, help="to validate, and to test")
    parser.add_argument("--channels", type=int, default=8, help="of the first stage")
    parser.add_argument("--epochs", type=int, default=8, help="of the final training")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--batches", type=int, default=30, help="controller updates per round")
    parser.add_argument("--rank-trains", type=int, default=0, help="for Kendall's tau")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 1")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--timeout-s", type=float, default=3600.0, help="of a job")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args(arguments)


def write_data(settings: Settings, folder: Path) -> dict[str, Path]:
    """The data sets of the three parts: train, validation and test."""
    if settings.data == "digits":
        # scikit-learn carries no types.
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
        labels = digits.target.astype(np.int32)
    else:
        fashion = read_fashion(folder, "train")
        images, labels = fashion.images, fashion.labels
    order = np.random.default_rng(0).permutation(len(labels))
    counts = np.cumsum([settings.images, settings.held_out, settings.held_out])
    if counts[-1] > len(labels):
        raise SystemExit(f"{settings.data} has only {len(labels)} images, not {counts[-1]}")
    chosen = np.split(order, counts)[:3]
    names = ("train", "validation", "test")
    parts = {name: (images[own], labels[own]) for name, own in zip(names, chosen, strict=True)}
    return write_parts(folder, parts)


def measure(
    settings: Settings,
    folder: Path,
    data: dict[str, Path],
    workers: int,
    core: int,
    seeds: int,
) -> Iterator[Run]:
    """Runs the jobs of all seeds, one after the other, with so many workers."""
    # Several workers share the cores of the machine out by themselves: one each.
    pinned = ("--cores", str(core)) if workers == 1 else ()
    config = PlatformConfig(
        data_dir=folder / f"{workers}-workers",
        listen="127.0.0.1:0",
        workers=workers,
        worker_flags=pinned,
    )
    knobs = {
        "channels": settings.channels,
        "cells": 1,
        "downscaled_cells": 1,
        "epochs": settings.epochs,
        "early_stop_epochs": 2,
    }
    with LocalPlatform(config, print) as platform, Client(platform.address) as client:
        model = register_light_cnn(client, folder, knobs)
        names = {part: client.create_dataset(path, task=TASK).name for part, path in data.items()}
        warm_up = options(settings, batches=4, final_evals=4)
        # Two rounds: the first has no shards, so that not every worker trains in it.
        run_job(client, settings, model, names, warm_up, seed=0, rounds=2, workers=workers)
        for seed in range(1, seeds + 1):
            search = options(settings, batches=settings.batches, rank_trains=settings.rank_trains)
            job = run_job(client, settings, model, names, search, seed, settings.rounds, workers)
            yield read_run(client, job, workers, seed)


def options(
    settings: Settings, *, batches: int, final_evals: int = 10, rank_trains: int = 0
) -> EnasOptions:
    """Of a job of so many batches per round."""
    return EnasOptions(batches_per_round=batches, final_evals=final_evals, rank_trains=rank_trains)


def run_job(
    client: Client,
    settings: Settings,
    model: Model,
    names: dict[str, str],
    search: EnasOptions,
    seed: int,
    rounds: int,
    workers: int,
) -> TrainJob:
    """The job of one search, once it has ended."""
    job = TrainJob(
        app=f"enas-{workers}-workers",
        task=TASK,
        studies=(
            StudySpec(
                model=model.name, advisor=AdvisorSettings(kind=AdvisorKind.ENAS, enas=search)
            ),
        ),
        budget=Budget(model_trial_count=enas_trials(search, rounds, workers)),
        train_dataset=names["train"],
        validation_dataset=names["validation"],
        test_dataset=names["test"],
        seed=seed,
    )
    return run_to_end(client, job, settings.timeout_s)


def read_run(client: Client, job: TrainJob, workers: int, seed: int) -> Run:
    """What there is to know of a job that has succeeded."""
    study = client.get_study(f"{job.name}/studies/1")
    rounds = list(client.list_study_rounds(study.name))
    trials = list(client.list_trials(study.name))
    search = [trial for trial in trials if trial.phase in SEARCH_PHASES]
    (final,) = (trial for trial in trials if trial.phase is TrialPhase.FINAL_TRAIN)
    shards = [trial for trial in search if trial.shard is not None]
    if workers > 1 and len(shards) != workers * (len(rounds) - 1):
        raise SystemExit(f"{job.name} had {len(shards)} shards in {len(rounds)} rounds")
    control = study.control_arm
    if control is None or final.score is None or final.test_score is None:
        raise SystemExit(f"{final.name} and its finalists have no scores")
    compile_s = max(compiling_s(search).values())
    return Run(
        workers=workers,
        seed=seed,
        search_s=span_s(search) - compile_s,
        merge_s=sum(item.merge_s for item in rounds),
        compile_s=compile_s,
        rounds=len(rounds),
        search_mean=rounds[-1].mean_reward,
        search_best=control.search.best,
        validation=final.score,
        test=final.test_score,
        rank_correlation=control.rank_correlation,
    )


def report_lines(runs: Sequence[Run]) -> Iterator[str]:
    """A table with a row per number of workers, and the ratio of their times."""
    by_workers: dict[int, list[Run]] = {}
    for run in runs:
        by_workers.setdefault(run.workers, []).append(run)
    yield ""
    columns = ("workers", "jobs", "search, s", "merge, s", "last mean", "best finalist")
    yield "".join(f"{column:>16}" for column in (*columns, "validation", "test", "tau"))
    for workers, own in by_workers.items():
        cells = [
            str(workers),
            str(len(own)),
            f"{statistics.median(run.search_s for run in own):.1f}",
            f"{statistics.median(run.merge_s for run in own):.2f}",
            *(
                spread([getattr(run, name) for run in own])
                for name in ("search_mean", "search_best", "validation", "test")
            ),
            spread([x for run in own if (x := run.rank_correlation) is not None]),
        ]
        yield "".join(f"{cell:>16}" for cell in cells)
    yield "times are medians over the jobs, scores mean and standard deviation"
    alone = by_workers.get(1)
    for workers, own in by_workers.items():
        if alone is None or workers == 1:
            continue
        times = [statistics.median(run.search_s for run in some) for some in (own, alone)]
        verdict = f", at most {TARGET} aimed at" if workers == 2 else ""
        yield f"search of {workers} workers: {times[0] / times[1]:.2f} of the time of one{verdict}"


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation."""
    if not values:
        return "-"
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.fmean(values):.3f} ±{deviation:.3f}"


if __name__ == "__main__":
    main()
