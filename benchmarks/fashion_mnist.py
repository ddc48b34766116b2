"""Runs the whole job on Fashion-MNIST: a server, two workers, a search, one final training.

The zoo's supernet of cells searches within a time budget, evaluates finalists beside random
architectures on the shared weights, and trains the best from scratch. The 60,000 training
images are split into those trained with and those validated with; the 10,000 test images are
used once, at the end. They are read from their four files, which Debian's package
dataset-fashion-mnist installs.

    python benchmarks/fashion_mnist.py --json fashion.json
    python benchmarks/fashion_mnist.py --seeds 3 --random 1 --plain-cnn
    python benchmarks/fashion_mnist.py --tiny

`--random N` trains N random architectures as the one found; they take turns with it on the
workers. `--plain-cnn` trains benchmarks/plain_cnn.py for the seconds that the final training
took, through the same server, once all searches are done: those of several seeds share the
workers, as the one found and a random one do.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
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
    register_template,
    run_to_end,
    span_s,
    wait_for,
    write_parts,
)
from benchmarks.plain_cnn import PlainCnn

from rafiki.client import Client
from rafiki.client.local import LocalPlatform, PlatformConfig
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    ControlArm,
    EnasOptions,
    Model,
    StudySpec,
    TrainJob,
    Trial,
    TrialPhase,
)

PLAIN_CNN = Path(__file__).with_name("plain_cnn.py")
FLOOR = 0.90
# Beyond the budget, which is soft, before a job counts as stuck.
GRACE_S = 1800.0
# What --tiny sets: each part of the way once, learning next to nothing.
TINY = {
    "images": 512,
    "held_out": 128,
    "test_images": 256,
    "channels": 4,
    "epochs": 1,
    "rounds": 2,
    "batches": 4,
    "finalists": 4,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is run; `rounds` of 0 are as many as the time allows."""

    minutes: float
    workers: int
    images: int  # to train with
    held_out: int  # to validate with
    test_images: int
    channels: int
    cells: int
    epochs: int  # of the final training
    batch_size: int
    rounds: int
    batches: int  # of ten candidates in each round
    finalists: int
    random: int
    plain_cnn: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """A network trained from scratch: accuracies, and seconds without compilation."""

    what: str
    validation: float
    test: float
    train_s: float
    compile_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What the job of one seed came to.

    Attributes:
        seed: Of the search.
        rounds: Of the search.
        search_means: Mean accuracy on shared weights of the candidates of each round.
        search_arm, control_arm: Best and mean of the finalists, and of as many random
            architectures, on the whole validation set with shared weights.
        phases_s: Seconds from the first start to the last end of each phase.
        job_s: The same of all.
        compile_s: By worker; part of the seconds above.
        trainings: The one found, random ones, and the plain network.
    """

    seed: int
    rounds: int
    search_means: tuple[float, ...]
    search_arm: tuple[float, float]
    control_arm: tuple[float, float]
    phases_s: Mapping[str, float]
    job_s: float
    compile_s: Mapping[str, float]
    trainings: tuple[Training, ...]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints what it found."""
    flags = parse(arguments)
    settings = settings_of(flags)
    if settings.workers > len(os.sched_getaffinity(0)):
        raise SystemExit(f"{settings.workers} workers need as many cores")
    # As Ctrl-C does: leaves neither a server nor workers behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    runs: dict[int, Run] = {}
    with tempfile.TemporaryDirectory(prefix="rafiki-fashion-") as folder:
        for run in measure(settings, Path(folder), flags.seeds):
            runs[run.seed] = run
            for line in run_lines(run):
                print(line, flush=True)
            if flags.json is not None:  # after each: a seed takes long
                each = [asdict(run) for run in runs.values()]
                content = {"settings": asdict(settings), "runs": each}
                flags.json.write_text(json.dumps(content, indent=2) + "\n")
    for line in summary_lines(list(runs.values())):
        print(line)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=55.0, help="budget of a job, once probed")
    parser.add_argument("--workers", type=int, default=2, help="each on a core of its own")
    parser.add_argument("--images", type=int, default=30_000, help="to train with")
    parser.add_argument("--held-out", type=int, default=5_000, help="to validate with")
    parser.add_argument("--test-images", type=int, default=10_000, help="to test with")
    parser.add_argument("--channels", type=int, default=8, help="of the first stage")
    parser.add_argument("--cells", type=int, default=1, help="per stage, of the final network")
    parser.add_argument("--epochs", type=int, default=8, help="of the final training")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=0, help="at most; 0 is no limit but time")
    parser.add_argument("--batches", type=int, default=30, help="controller updates per round")
    parser.add_argument("--finalists", type=int, default=10, help="and as many random ones")
    parser.add_argument("--seeds", type=int, default=1, help="how many, from 1")
    parser.add_argument("--random", type=int, default=0, help="random architectures to train")
    parser.add_argument("--plain-cnn", action="store_true", help="train a plain network as long")
    parser.add_argument("--tiny", action="store_true", help="the whole way once, to see it work")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args(arguments)


def settings_of(flags: argparse.Namespace) -> Settings:
    """The settings that flags ask for; `--tiny` overrules sizes."""
    chosen = {name: getattr(flags, name) for name in Settings.__dataclass_fields__}
    return Settings(**(chosen | TINY if flags.tiny else chosen))


def write_data(settings: Settings, folder: Path) -> dict[str, Path]:
    """The data sets train, validation and test."""
    own, tested = read_fashion(folder, "train"), read_fashion(folder, "t10k")
    if settings.images + settings.held_out > len(own.labels):
        raise SystemExit(f"there are {len(own.labels)} images to train and validate with")
    order = np.random.default_rng(0).permutation(len(own.labels))
    train, rest = order[: settings.images], order[settings.images :]
    held_out, test = rest[: settings.held_out], slice(settings.test_images)
    return write_parts(
        folder,
        {
            "train": (own.images[train], own.labels[train]),
            "validation": (own.images[held_out], own.labels[held_out]),
            "test": (tested.images[test], tested.labels[test]),
        },
    )


def measure(settings: Settings, folder: Path, seeds: int) -> Iterator[Run]:
    """Runs the jobs of all seeds, one after the other; those with a plain network come twice."""
    paths = write_data(settings, folder)
    config = PlatformConfig(
        data_dir=folder / "platform", listen="127.0.0.1:0", workers=settings.workers
    )
    knobs = {
        "channels": settings.channels,
        "cells": settings.cells,
        "downscaled_cells": 1,
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
    }
    with LocalPlatform(config, print) as platform, Client(platform.address) as client:
        model = register_light_cnn(client, folder, knobs)
        datasets = {
            part: client.create_dataset(path, task=TASK).name for part, path in paths.items()
        }
        runs = []
        for seed in range(1, seeds + 1):
            job = search_job(settings, model, datasets, seed)
            job = run_to_end(client, job, settings.minutes * 60 + GRACE_S)
            runs.append(read_run(client, job, seed))
            yield runs[-1]
        if settings.plain_cnn:
            jobs = [start_plain(client, folder, datasets, run) for run in runs]
            # If each had to wait for all before it.
            patience_s = sum(run.trainings[0].train_s for run in runs) + GRACE_S
            for run, started in zip(runs, jobs, strict=True):
                plain = read_plain(client, wait_for(client, started.name, patience_s), paths)
                yield replace(run, trainings=(*run.trainings, plain))


def search_job(
    settings: Settings, model: Model, datasets: Mapping[str, str], seed: int
) -> TrainJob:
    """The job of a search and what follows it."""
    options = EnasOptions(
        batches_per_round=settings.batches,
        final_evals=max(settings.finalists, settings.random),
        final_controls=settings.random,
    )
    trials = enas_trials(options, settings.rounds, settings.workers) if settings.rounds else 0
    advisor = AdvisorSettings(kind=AdvisorKind.ENAS, enas=options)
    return TrainJob(
        app="fashion-mnist",
        task=TASK,
        studies=(StudySpec(model=model.name, advisor=advisor),),
        budget=Budget(time=timedelta(minutes=settings.minutes), model_trial_count=trials),
        train_dataset=datasets["train"],
        validation_dataset=datasets["validation"],
        test_dataset=datasets["test"],
        seed=seed,
    )


def read_run(client: Client, job: TrainJob, seed: int) -> Run:
    """What there is to know of a job that has succeeded."""
    study = client.get_study(f"{job.name}/studies/1")
    rounds = list(client.list_study_rounds(study.name))
    trials = list(client.list_trials(study.name))
    control = study.control_arm
    if control is None:
        raise SystemExit(f"{study.name} has no control arm")
    by_phase = {phase: [trial for trial in trials if trial.phase is phase] for phase in TrialPhase}
    # Training and evaluating take turns, so that their seconds are those of the search.
    search = [trial for phase in SEARCH_PHASES for trial in by_phase.pop(phase)]
    phases_s = {phase.name: span_s(own) for phase, own in by_phase.items() if own}
    # The one found first, random ones after it.
    finals = sorted(by_phase[TrialPhase.FINAL_TRAIN], key=lambda trial: trial.control)
    return Run(
        seed=seed,
        rounds=len(rounds),
        search_means=tuple(item.mean_reward for item in rounds),
        search_arm=arm_scores(control)[0],
        control_arm=arm_scores(control)[1],
        phases_s={"SEARCH": span_s(search), **phases_s},
        job_s=span_s(trials),
        compile_s=compiling_s(trials),
        trainings=tuple(map(read_training, finals)),
    )


def arm_scores(control: ControlArm) -> tuple[tuple[float, float], tuple[float, float]]:
    """Best and mean of the finalists, and of the random ones."""
    search, random = control.search, control.control
    return (search.best, search.mean), (random.best, random.mean)


def read_training(trial: Trial) -> Training:
    """What a final training came to."""
    if trial.score is None or trial.test_score is None or trial.timings is None:
        raise SystemExit(f"{trial.name} has no scores: {trial.error}")
    return Training(
        what="random" if trial.control else "found",
        validation=trial.score,
        test=trial.test_score,
        train_s=trial.timings.train_s,
        compile_s=trial.timings.compile_s,
    )


def start_plain(client: Client, folder: Path, datasets: Mapping[str, str], run: Run) -> TrainJob:
    """The job of a plain network, trained as long as the one found was."""
    template = folder / f"plain_cnn_{run.seed}.py"
    source = PLAIN_CNN.read_text()
    default = '"seconds": FixedKnob(2.0)'
    if default not in source:
        raise SystemExit(f"{PLAIN_CNN.name} has no knob {default}")
    seconds = run.trainings[0].train_s
    template.write_text(source.replace(default, f'"seconds": FixedKnob({seconds!r})'))
    job = TrainJob(
        app="fashion-mnist-plain",
        task=TASK,
        studies=(StudySpec(model=register_template(client, template).name),),
        budget=Budget(model_trial_count=1),
        train_dataset=datasets["train"],
        validation_dataset=datasets["validation"],
        seed=run.seed,
    )
    return client.create_train_job(job)[0]


def read_plain(client: Client, job: TrainJob, paths: Mapping[str, Path]) -> Training:
    """What it came to; it is tested here, as a job of one fixed setting does no FINAL_TRAIN."""
    (trial,) = client.list_trials(f"{job.name}/studies/1")
    if trial.score is None or trial.timings is None:
        raise SystemExit(f"{trial.name} has no score")
    network = PlainCnn(**trial.knobs)
    network.load_parameters(client.download_checkpoint(trial.final_checkpoint))
    return Training(
        what="plain CNN",
        validation=trial.score,
        test=network.evaluate(str(paths["test"])),
        train_s=trial.timings.train_s,
        compile_s=trial.timings.compile_s,
    )


def run_lines(run: Run) -> Iterator[str]:
    """What a run came to, for people."""
    yield ""
    yield f"seed {run.seed}: {run.rounds} rounds, {run.job_s / 60:.1f} minutes from first to last"
    first, last = run.search_means[0], run.search_means[-1]
    yield f"  mean accuracy of the candidates of a round: first {first:.3f}, last {last:.3f}"
    for name, (best, mean) in (("finalists", run.search_arm), ("random", run.control_arm)):
        yield f"  on shared weights, {name:<9}: best {best:.3f}, mean {mean:.3f}"
    phases = ", ".join(f"{name} {seconds:.0f}" for name, seconds in run.phases_s.items())
    yield f"  seconds: {phases}"
    compiled = ", ".join(f"{seconds:.0f}" for seconds in run.compile_s.values())
    yield f"  of them compiling, by worker: {compiled}"
    for training in run.trainings:
        yield (
            f"  {training.what:<9}: validation {training.validation:.4f}, "
            f"test {training.test:.4f}, trained {training.train_s:.0f} s"
        )


def summary_lines(runs: Sequence[Run]) -> Iterator[str]:
    """Test accuracies over the seeds."""
    tests: dict[str, list[float]] = {}
    for run in runs:
        for training in run.trainings:
            tests.setdefault(training.what, []).append(training.test)
    yield ""
    for what, values in tests.items():
        deviation = f" ±{statistics.stdev(values):.4f}" if len(values) > 1 else ""
        verdict = f", {FLOOR} needed" if what == "found" else ""
        yield (
            f"test accuracy, {what:<9}: {statistics.fmean(values):.4f}{deviation} "
            f"(networks: {len(values)}){verdict}"
        )


if __name__ == "__main__":
    main()
