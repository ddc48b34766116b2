"""What the benchmarks that search image classifiers through a server have in common."""

import sys
import time
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rafiki.client import Client
from rafiki.client.bench import run_bench
from rafiki.client.cli.models import register
from rafiki.model import ImageData, load_images
from rafiki.resources import EnasOptions, Model, TrainJob, TrainJobState, Trial, TrialPhase

TASK = "IMAGE_CLASSIFICATION"
FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
SEARCH_PHASES = (TrialPhase.SEARCH_TRAIN, TrialPhase.SEARCH_EVAL)
POLL_S = 0.5
REPORT_S = 60.0

LIGHT_CNN = '''"""The zoo's supernet with other settings."""

from rafiki.model import FixedKnob, KnobConfig
from rafiki.zoo.enas_cnn import EnasCnn

KNOBS = {knobs}


class LightCnn(EnasCnn):
    @staticmethod
    def get_knob_config() -> KnobConfig:
        config = dict(EnasCnn.get_knob_config())
        return config | {{name: FixedKnob(value) for name, value in KNOBS.items()}}
'''


def read_fashion(folder: Path, part: str) -> ImageData:
    """Fashion-MNIST's "train" or "t10k", by way of a data set of its two files in `folder`."""
    path = folder / f"fashion-{part}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for content in ("images-idx3", "labels-idx1"):
            source = FASHION_FOLDER / f"{part}-{content}-ubyte.gz"
            if not source.exists():
                raise SystemExit(f"{source} is not there; install dataset-fashion-mnist")
            archive.write(source, source.name)
    return load_images(path)


def write_parts(
    folder: Path, parts: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, Path]:
    """Data sets of images and labels by name."""
    paths = {}
    for name, (images, labels) in parts.items():
        paths[name] = folder / f"{name}.npz"
        np.savez(paths[name], images=images, labels=labels)
    return paths


def register_template(client: Client, template: Path) -> Model:
    """The model made of a template's file, which is not tried."""
    return register(client, template, run_bench(template, extract_only=True, is_quiet=True))


def register_light_cnn(client: Client, folder: Path, knobs: Mapping[str, object]) -> Model:
    """The zoo's supernet with some knobs fixed to other values."""
    template = folder / "light_cnn.py"
    template.write_text(LIGHT_CNN.format(knobs=dict(knobs)))
    return register_template(client, template)


def enas_trials(options: EnasOptions, rounds: int, workers: int) -> int:
    """The trials of a search of so many rounds, with all that follows."""
    # The first round has no shards; both FINAL_EVALs are one trial each.
    trials = 1 + options.batches_per_round
    trials += (rounds - 1) * (workers + options.batches_per_round)
    full = options.final_trains + options.final_controls
    return trials + 2 + full + options.rank_trains


def run_to_end(client: Client, job: TrainJob, timeout_s: float) -> TrainJob:
    """Creates a job and waits for it; ends the program if it fails or takes longer."""
    return wait_for(client, client.create_train_job(job)[0].name, timeout_s)


def wait_for(client: Client, name: str, timeout_s: float) -> TrainJob:
    """The job when it has succeeded; tells now and then how far it is."""
    began = reported = time.monotonic()
    while not (job := client.get_train_job(name)).state.is_end:
        now = time.monotonic()
        if now - began > timeout_s:
            raise SystemExit(f"{name} has not ended after {timeout_s:.0f} s")
        if now - reported > REPORT_S:
            reported = now
            trials = client.list_trials(f"{name}/studies/1")
            print(progress_line(name, now - began, list(trials)), file=sys.stderr, flush=True)
        time.sleep(POLL_S)
    if job.state is not TrainJobState.SUCCEEDED:
        raise SystemExit(f"{name} ended as {job.state}: {client.get_study(f'{name}/studies/1')}")
    return job


def progress_line(name: str, elapsed_s: float, trials: Sequence[Trial]) -> str:
    """The trials that have ended by phase, and how far the others are."""
    ended = Counter(trial.phase.name for trial in trials if trial.end_time is not None)
    parts = [f"{count} {phase} ended" for phase, count in ended.items()]
    for trial in trials:
        if trial.end_time is None:
            share = trial.progress.fraction if trial.progress is not None else 0.0
            parts.append(f"{trial.phase.name} at {share:.0%}")
    return f"{name}, {elapsed_s / 60:.0f} min: {', '.join(parts) or 'no trials yet'}"


def compiling_s(trials: Sequence[Trial]) -> dict[str, float]:
    """Seconds that each worker has spent on compilation."""
    seconds: dict[str, float] = {}
    for trial in trials:
        spent = trial.timings.compile_s if trial.timings is not None else 0.0
        seconds[trial.worker] = seconds.get(trial.worker, 0.0) + spent
    return seconds


def span_s(trials: Sequence[Trial]) -> float:
    """Seconds from the first start to the last end; 0 without trials."""
    starts = [trial.start_time for trial in trials if trial.start_time is not None]
    ends = [trial.end_time for trial in trials if trial.end_time is not None]
    return (max(ends) - min(starts)).total_seconds() if starts and ends else 0.0
