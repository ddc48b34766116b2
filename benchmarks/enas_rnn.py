"""Searches a recurrent cell on real text, and trains it beside random cells and an LSTM.

The text is the King James Bible, in lower case, words and punctuation apart, as the program of
Debian's package bible-kjv prints it. It is cut into runs of 100 verses, which are shared out
over training, validation and test.

A server and its workers are started with a temporary data folder, and run one ENAS job of the
zoo's recurrent template. The job trains the cell that it found, and random ones, from scratch.
An LSTM of as many parameters is then trained here with the same recipe, on one core as by a
worker: once for as many steps and once for as long, compilation apart.

    python benchmarks/enas_rnn.py --json enas_rnn.json
"""

import argparse
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.image_jobs import enas_trials, register_template, run_to_end, span_s
from benchmarks.lstm import LstmRecipe, equal_hidden, train_lstm

from rafiki.client import Client
from rafiki.client.health import Level, read_health
from rafiki.client.local import LocalPlatform, PlatformConfig
from rafiki.model import FixedKnob
from rafiki.model.knobs import arch_knobs, arch_values
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    ControlArm,
    EnasOptions,
    StudySpec,
    TrainJob,
    Trial,
    TrialPhase,
)
from rafiki.supernet.recurrent import encoded_text, steps_per_epoch, text_vocabulary
from rafiki.zoo.enas_rnn import NODES, REWARD, EnasRnn

TASK = "LANGUAGE_MODELLING"
PACKAGE = "bible-kjv"
VERSES_PER_RUN = 100

TEMPLATE = '''"""The zoo's recurrent template, in the size of the benchmark."""

from rafiki.model import FixedKnob, KnobConfig
from rafiki.zoo.enas_rnn import EnasRnn

KNOBS = {knobs}


class BenchRnn(EnasRnn):
    @staticmethod
    def get_knob_config() -> KnobConfig:
        config = dict(EnasRnn.get_knob_config())
        return config | {{name: FixedKnob(value) for name, value in KNOBS.items()}}
'''


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model trained from scratch: its perplexities, and what it took."""

    name: str
    parameters: int
    steps: int
    train_s: float
    validation: float
    test: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the job came to.

    Attributes:
        cell: Its values, as those of the knob.
        search_s: Of SEARCH_TRAIN and SEARCH_EVAL, from the first start to the last end.
        round_means: The mean score of the candidates of each round. Scores are 80 / perplexity.
        arms: On shared weights and all validation text.
        health: What `rafiki job health` says of the search beside chance, and its warnings.
        trained: From scratch: the cell found, then random ones.
    """

    cell: list[object]
    search_s: float
    round_means: list[float]
    arms: ControlArm
    health: list[str]
    trained: list[Trained]


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """The parts of the text, numbered by the vocabulary of the training part."""

    paths: dict[str, Path]
    words: int
    numbers: dict[str, np.ndarray]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints what it found."""
    flags = parse(arguments)
    knobs = {
        "hidden": flags.hidden,
        "downscaled_hidden": flags.search_hidden,
        "vocabulary": flags.vocabulary,
        "epochs": flags.epochs,
    }
    with tempfile.TemporaryDirectory(prefix="rafiki-bench-") as folder:
        texts = read_texts(write_texts(Path(folder), flags.words, flags.held_out), flags.vocabulary)
        found = run_search(Path(folder), texts, knobs, flags)
    # JAX has not been started here yet: like a worker's child it will see one core.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = [*found.trained, *train_lstms(texts, knobs, found.trained[0], flags.seed)]
    frequencies = {part: unigram_perplexity(texts, part) for part in ("validation", "test")}
    for line in report_lines(found, rows, frequencies):
        print(line)
    if flags.json is not None:
        content = {
            "flags": {name: str(value) for name, value in vars(flags).items()},
            "search": asdict(found),
            "trained": [asdict(row) for row in rows],
            "unigram": frequencies,
        }
        flags.json.write_text(json.dumps(content, indent=2) + "\n")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--words", type=int, default=200_000, help="to train with")
    parser.add_argument("--held-out", type=int, default=30_000, help="to validate, and to test")
    parser.add_argument("--vocabulary", type=int, default=5000, help="words at most")
    parser.add_argument("--hidden", type=int, default=128, help="units of a final training")
    parser.add_argument("--search-hidden", type=int, default=64, help="units in search")
    parser.add_argument("--epochs", type=int, default=10, help="of a final training")
    # With more, shared weights learn these words by heart: validation gets worse from about then.
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", type=int, default=30, help="controller updates per round")
    parser.add_argument("--random-cells", type=int, default=1, help="trained, too")
    parser.add_argument("--workers", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout-s", type=float, default=3600.0, help="of the job")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    return parser.parse_args(arguments)


def write_texts(folder: Path, words: int, held_out: int) -> dict[str, Path]:
    """The files of the three parts: train, validation and test."""
    program = shutil.which("bible")
    if program is None:
        raise SystemExit(f"there is no program `bible`; install Debian's package {PACKAGE}")
    done = subprocess.run(
        [program, "-f", "gen1:1-rev22:21"], capture_output=True, text=True, check=True
    )
    # Every line is a verse behind its place, such as "Ge1:1".
    verses = [line.partition(" ")[2].lower() for line in done.stdout.splitlines()]
    lines = [" ".join(re.findall(r"[a-z']+|[^\sa-z']", verse)) + "\n" for verse in verses]
    runs = [lines[k : k + VERSES_PER_RUN] for k in range(0, len(lines), VERSES_PER_RUN)]
    random.Random(0).shuffle(runs)
    paths = {}
    for part, wanted in (("test", held_out), ("validation", held_out), ("train", words)):
        taken: list[str] = []
        count = 0
        while count < wanted:
            if not runs:
                raise SystemExit("the text has fewer words than are asked for")
            taken += runs.pop()
            count = sum(len(line.split()) + 1 for line in taken)
        paths[part] = folder / f"{part}.txt"
        paths[part].write_text("".join(taken), encoding="utf-8")
    return paths


def read_texts(paths: dict[str, Path], vocabulary: int) -> Texts:
    """The parts as numbers."""
    known = text_vocabulary(str(paths["train"]), vocabulary)
    numbers = {part: encoded_text(str(path), known) for part, path in paths.items()}
    return Texts(paths=paths, words=len(known.words), numbers=numbers)


def run_search(
    folder: Path, texts: Texts, knobs: dict[str, int], flags: argparse.Namespace
) -> Found:
    """Runs the job through a server and workers of its own."""
    template = folder / "bench_rnn.py"
    template.write_text(TEMPLATE.format(knobs=knobs))
    config = PlatformConfig(
        data_dir=folder / "platform", listen="127.0.0.1:0", workers=flags.workers
    )
    options = EnasOptions(batches_per_round=flags.batches, final_controls=flags.random_cells)
    with LocalPlatform(config, print) as platform, Client(platform.address) as client:
        settings = AdvisorSettings(kind=AdvisorKind.ENAS, enas=options)
        model = register_template(client, template).name
        names = {
            part: client.create_dataset(path, task=TASK).name for part, path in texts.paths.items()
        }
        job = TrainJob(
            app="enas-rnn",
            task=TASK,
            studies=(StudySpec(model=model, advisor=settings),),
            budget=Budget(model_trial_count=enas_trials(options, flags.rounds, flags.workers)),
            train_dataset=names["train"],
            validation_dataset=names["validation"],
            test_dataset=names["test"],
            seed=flags.seed,
        )
        job = run_to_end(client, job, flags.timeout_s)
        return read_found(client, job, texts, knobs)


def read_found(client: Client, job: TrainJob, texts: Texts, knobs: dict[str, int]) -> Found:
    """What there is to know of the study of a job that has succeeded."""
    name = f"{job.name}/studies/1"
    study, trials = client.get_study(name), list(client.list_trials(name))
    if study.control_arm is None:
        raise SystemExit(f"{name} has no control arm")
    search = [t for t in trials if t.phase in (TrialPhase.SEARCH_TRAIN, TrialPhase.SEARCH_EVAL)]
    finals = [trial for trial in trials if trial.phase is TrialPhase.FINAL_TRAIN]
    finals.sort(key=lambda trial: trial.control)
    (candidate,) = finals[0].candidates
    knob = arch_knobs(EnasRnn.get_knob_config())["cell"]
    return Found(
        cell=list(arch_values(knob, candidate.archs["cell"])),
        search_s=span_s(search),
        round_means=[item.mean_reward for item in client.list_study_rounds(name)],
        arms=study.control_arm,
        health=list(health_lines(client, job)),
        trained=[read_trained(trial, texts, knobs) for trial in finals],
    )


def health_lines(client: Client, job: TrainJob) -> Iterator[str]:
    """The findings of the health report that are warnings or compare with random cells."""
    for health in read_health(client, job.name):
        for finding in health.findings:
            compares = "chance" in finding.title or "random" in finding.title
            if finding.level is Level.WARNING or compares:
                yield f"{finding.level}: {finding.title}. {finding.explanation}"


def read_trained(trial: Trial, texts: Texts, knobs: dict[str, int]) -> Trained:
    """What a final training came to."""
    if trial.score is None or trial.test_score is None or trial.timings is None:
        raise SystemExit(f"{trial.name} has no scores")
    hidden = knobs["hidden"]
    per_epoch = steps_per_epoch(
        len(texts.numbers["train"]), int(default("batch_size")), int(default("steps"))
    )
    return Trained(
        name="random cell" if trial.control else "cell found",
        # Node 0 has twice the weights of any other.
        parameters=texts.words * (hidden + 1) + (2 + NODES) * 2 * hidden**2,
        steps=knobs["epochs"] * per_epoch,
        train_s=trial.timings.train_s,
        validation=REWARD / trial.score,
        test=REWARD / trial.test_score,
    )


def train_lstms(texts: Texts, knobs: dict[str, int], cell: Trained, seed: int) -> Iterator[Trained]:
    """An LSTM as large as a cell: trained for as many steps, and for as long."""
    recipe = LstmRecipe(
        batch_size=int(default("batch_size")),
        evaluation_batch_size=int(default("evaluation_batch_size")),
        steps=int(default("steps")),
        learning_rate=default("learning_rate"),
        clip_norm=default("clip_norm"),
        weight_decay=default("weight_decay"),
        average_from=default("average_from"),
    )
    hidden = equal_hidden(cell.parameters, texts.words)
    for name, steps in (("LSTM, same steps", cell.steps), ("LSTM, same time", None)):
        run = train_lstm(
            texts.numbers, texts.words, hidden, recipe, seed, steps=steps, seconds=cell.train_s
        )
        yield Trained(
            name=name,
            parameters=run.parameters,
            steps=run.steps,
            train_s=run.seconds,
            validation=run.perplexity["validation"],
            test=run.perplexity["test"],
        )


def default(name: str) -> float:
    """The value of a knob of the template that the benchmark leaves as it is."""
    knob = EnasRnn.get_knob_config()[name]
    assert isinstance(knob, FixedKnob)
    return float(knob.value)


def unigram_perplexity(texts: Texts, part: str) -> float:
    """Of a part by the frequencies of words in training, 1 added to each."""
    counts = np.bincount(texts.numbers["train"], minlength=texts.words) + 1
    surprises = -np.log(counts / counts.sum())
    return math.exp(float(np.mean(surprises[texts.numbers[part]])))


def report_lines(
    found: Found, rows: Sequence[Trained], frequencies: dict[str, float]
) -> Iterator[str]:
    """The cell, both arms of the search, and a table of what was trained from scratch."""
    yield ""
    means = found.round_means
    yield f"found in {len(means)} rounds, {found.search_s:.0f} s: " + " ".join(map(str, found.cell))
    yield (
        f"mean 80 / perplexity of a round: first {means[0]:.4f}, "
        f"highest {max(means):.4f} in round {1 + means.index(max(means))}, last {means[-1]:.4f}"
    )
    arms = (("finalists", found.arms.search), ("random", found.arms.control))
    for name, arm in arms:
        yield (
            f"{name} on shared weights, 80 / perplexity: best {arm.best:.4f}, "
            f"mean {arm.mean:.4f} ±{arm.standard_deviation:.4f} of {arm.count}"
        )
    yield "rafiki job health:"
    yield from (f"  {line}" for line in found.health)
    yield ""
    columns = ("parameters", "steps", "trained, s", "validation", "test")
    yield f"{'perplexity of':<20}" + "".join(f"{column:>13}" for column in columns)
    for row in rows:
        yield (
            f"{row.name:<20}{row.parameters:>13,}{row.steps:>13,}{row.train_s:>13.0f}"
            f"{row.validation:>13.2f}{row.test:>13.2f}"
        )
    validation, test = frequencies["validation"], frequencies["test"]
    yield f"{'frequencies':<20}" + " " * 39 + f"{validation:>13.2f}{test:>13.2f}"


if __name__ == "__main__":
    main()
