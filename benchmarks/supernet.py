"""Measures the steps of the supernet of cells beside other ways to compute the same networks.

    dynamic     ours: two programs, compiled once; the architecture is data
    static      the same kernels, compiled for one architecture, differentiated by JAX alone
    select      compiled once; every operation is computed and one result selected
    pytorch     PyTorch, eager, channels last

Each is a process of its own on the same core. They take turns, architecture by architecture,
so that whatever else slows the machine down slows all of them; all compute the same class
scores, which is checked. PyTorch lives in an environment of its own (`make
bench-torch-install`) and is left out where there is none.

    .venv/bin/python benchmarks/supernet.py --archs 20 --json supernet.json
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
from benchmarks.supernet_contender import MODULES, Choices, Setting

from rafiki.model import KnobValue
from rafiki.model.knobs import arch_values
from rafiki.supernet import OPERATIONS
from rafiki.supernet.cells import Architecture, CellSpace, Shape, cell_knob
from rafiki.worker.environment import child_environment

CONTENDERS = tuple(MODULES)
PROGRAM = Path(__file__).with_name("supernet_contender.py")
TORCH = Path(__file__).parent.parent / ".venv-torch" / "bin" / "python"
CLASSES = 10
STEPS = ("evaluate", "train")
CLOCKS = ("wall", "cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one contender took for one architecture.

    Attributes:
        contender: Which.
        arch: The number of the architecture.
        evaluate, train: Seconds of every repetition.
        compile: Seconds of every program that was compiled for it.
        logits: Class scores by the first weights.
        loss: After as many steps of training as there are repetitions.
        peak_mib: The most memory that the contender has had so far.
    """

    contender: str
    arch: int
    evaluate: list[float]
    train: list[float]
    compile: list[float]
    logits: list[list[float]]
    loss: float
    peak_mib: float

    def median_ms(self, step: str) -> float:
        """Milliseconds of a step, "evaluate" or "train"."""
        return 1000 * statistics.median(self.evaluate if step == "evaluate" else self.train)


class Process:
    """A contender that waits for architectures."""

    def __init__(self, name: str, python: str, setting: Setting, repeats: int) -> None:
        command = [python, str(PROGRAM), name, json.dumps(asdict(setting)), str(repeats)]
        # For all of them what a worker sets for its child; but nothing is compiled beforehand.
        environment = child_environment(Path(), 0)
        del environment["JAX_COMPILATION_CACHE_DIR"]
        # One thread: CPU time is then what a wall clock shows on an idle core.
        environment["OMP_NUM_THREADS"] = "1"
        self.name = name
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.start_mib = float(str(self._answer()["start_mib"]))

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.wait()

    def measure(self, number: int, arch: Architecture, clock: str) -> Measured:
        """One architecture's steps by the clock "wall" or "cpu"."""
        assert self._process.stdin is not None
        choices: Choices = {name: value.tolist() for name, value in arch._asdict().items()}
        print(json.dumps(choices), file=self._process.stdin, flush=True)
        answer = self._answer()
        for field in (*STEPS, "compile"):
            answer[field] = [took[CLOCKS.index(clock)] for took in answer[field]]  # type: ignore[attr-defined]
        return Measured(contender=self.name, arch=number, **answer)  # type: ignore[arg-type]

    def _answer(self) -> dict[str, object]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} has failed")
        answer: dict[str, object] = json.loads(line)
        return answer


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark and prints what it found."""
    flags = parse(arguments)
    os.sched_setaffinity(0, {flags.core})
    names = list(flags.contenders)
    if "pytorch" in names and not has_torch(flags.torch_python):
        names.remove("pytorch")
        print(f"without pytorch: {flags.torch_python} has none; see --help", file=sys.stderr)
    limits = {"static": flags.static, "select": flags.select}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        setting = make_setting(flags, Path(folder) / "weights.npz")
        pythons = {"pytorch": str(flags.torch_python)}
        processes = [
            stack.enter_context(
                Process(name, pythons.get(name, sys.executable), setting, flags.repeats)
            )
            for name in names
        ]
        start_mib = {process.name: process.start_mib for process in processes}
        measured: list[Measured] = []
        for number, arch in enumerate(random_architectures(flags.archs, flags.seed)):
            turn = [p for p in processes if number < limits.get(p.name, flags.archs)]
            # Who comes first changes.
            turn = turn[number % len(turn) :] + turn[: number % len(turn)]
            found = [process.measure(number, arch, flags.clock) for process in turn]
            check_agreement(found)
            measured += found
            print(progress(number, found), file=sys.stderr, flush=True)
    print("\n".join(report(names, measured, start_mib)))
    if flags.json is not None:
        write_json(flags.json, setting, flags.clock, measured, start_mib)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The flags."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--contenders", nargs="+", choices=CONTENDERS, default=CONTENDERS)
    add("--archs", type=int, default=20, help="random architectures")
    add("--static", type=int, default=20, help="architectures that are compiled one by one")
    add("--select", type=int, default=3, help="architectures by selection: they take the same")
    add("--repeats", type=int, default=5, help="steps of each kind that are timed")
    add("--channels", type=int, default=16)
    add("--side", type=int, default=28, help="pixels of the square images")
    add("--stages", type=int, nargs="+", default=[3], help="cells per stage")
    add("--batch", type=int, default=32)
    add("--seed", type=int, default=0)
    add("--core", type=int, default=max(os.sched_getaffinity(0)))
    add("--clock", choices=CLOCKS, default="wall", help="cpu: where others use the core as well")
    add("--torch-python", type=Path, default=TORCH, help="interpreter that has PyTorch")
    add("--json", type=Path)
    return parser.parse_args(arguments)


def has_torch(python: Path) -> bool:
    """Whether an interpreter is there and can import PyTorch and NumPy."""
    if not python.exists():
        return False
    command = [str(python), "-c", "import numpy, torch"]
    return subprocess.run(command, capture_output=True).returncode == 0


def make_setting(flags: argparse.Namespace, weights: Path) -> Setting:
    """What all compute; their weights and a minibatch are written to the file `weights`."""
    shape = Shape(flags.side, flags.side, 1, CLASSES, flags.channels, tuple(flags.stages))
    rng = np.random.default_rng(flags.seed)
    size = (flags.batch, flags.side, flags.side, 1)
    np.savez(
        weights,
        **CellSpace(shape).init(flags.seed),  # type: ignore[arg-type]
        images=rng.integers(256, size=size).astype(np.uint8),
        labels=rng.integers(CLASSES, size=flags.batch).astype(np.int32),
    )
    return Setting(
        size=size[1:],
        classes=CLASSES,
        channels=flags.channels,
        stages=shape.stages,
        batch=flags.batch,
        weights=str(weights),
        learning_rate=0.01,
        weight_decay=1e-4,
    )


def random_architectures(count: int, seed: int) -> Iterator[Architecture]:
    """Architectures of which every decision is drawn evenly."""
    rng = np.random.default_rng(seed)
    knob = cell_knob([KnobValue(name) for name in OPERATIONS])
    for _ in range(count):
        normal, reduction = (
            arch_values(knob, [int(rng.integers(len(item))) for item in knob.items])
            for _ in range(2)
        )
        yield Architecture.of(normal, reduction)


def check_agreement(found: Sequence[Measured]) -> None:
    """Ends the program if class scores or losses differ by more than a thousandth."""
    for one in found[1:]:
        expected, scores = np.array(found[0].logits), np.array(one.logits)
        if not np.abs(scores - expected).max() <= 1e-3 * np.abs(expected).max():
            raise SystemExit(f"{one.contender} has other class scores: {one.arch}")
        if not math.isclose(one.loss, found[0].loss, rel_tol=1e-2):
            raise SystemExit(f"{one.contender} trains another way: {one.loss}, {found[0].loss}")


def progress(number: int, found: Sequence[Measured]) -> str:
    """A line on one architecture."""
    parts = [
        f"{m.contender} {m.median_ms('evaluate'):.1f} {m.median_ms('train'):.1f}" for m in found
    ]
    return f"{number}: " + ", ".join(parts)


def report(
    names: Sequence[str], measured: Sequence[Measured], start_mib: Mapping[str, float]
) -> Iterator[str]:
    """The tables: what each takes, and dynamic's share of it."""
    yield f"{'':10}{'archs':>6}{'evaluate, ms':>22}{'train, ms':>22}{'compile, s':>14}" + (
        f"{'programs':>9}{'peak MiB':>9}{'at start':>9}"
    )
    for name in names:
        mine = [one for one in measured if one.contender == name]
        programs = [seconds for one in mine for seconds in one.compile]
        once = [one.compile for one in mine if one.compile]
        compiling = " + ".join(
            f"{statistics.median(times):.1f}" for times in zip(*once, strict=True)
        )
        yield (
            f"{name:10}{len(mine):6}"
            + "".join(
                f"{quartiles([one.median_ms(step) for one in mine], 1):>22}" for step in STEPS
            )
            + f"{compiling or '-':>14}{len(programs):9}"
            + (f"{mine[-1].peak_mib:9.0f}{start_mib[name]:9.0f}")
        )
    if "dynamic" in names:
        yield "dynamic's time divided by that of others, same architecture:"
        for name in names:
            if name != "dynamic":
                yield f"{name:16}" + "".join(
                    f"{quartiles(ratios(measured, name, step), 2):>22}" for step in STEPS
                )
    yield "medians over architectures (quartiles)"


def ratios(measured: Sequence[Measured], name: str, step: str) -> list[float]:
    """Dynamic's time divided by another contender's, per architecture that it covers."""
    times = {(one.contender, one.arch): one.median_ms(step) for one in measured}
    return [
        times["dynamic", arch] / took
        for (contender, arch), took in times.items()
        if contender == name
    ]


def quartiles(values: Sequence[float], digits: int) -> str:
    """Median (first quartile-third quartile)."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def write_json(
    path: Path,
    setting: Setting,
    clock: str,
    measured: Sequence[Measured],
    start_mib: Mapping[str, float],
) -> None:
    """Everything but the class scores."""
    runs = [{k: v for k, v in asdict(one).items() if k != "logits"} for one in measured]
    fields = {k: v for k, v in asdict(setting).items() if k != "weights"}
    content = {"setting": fields, "clock": clock, "start_mib": dict(start_mib), "runs": runs}
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
