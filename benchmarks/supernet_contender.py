"""A contender of `benchmarks/supernet.py`: a process that runs the steps that it is told to.

It is started with its name and a `Setting` as JSON. Per line of its standard input, an
architecture as JSON, it answers with a line: what `measure` returns. It imports nothing of
Rafiki itself, so that PyTorch can have an environment of its own.
"""

import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

# The module that has `make_contender(name, setting)`.
MODULES = {
    "dynamic": "supernet_jax",
    "static": "supernet_jax",
    "select": "supernet_jax",
    "pytorch": "supernet_torch",
}

# The fields of `rafiki.supernet.cells.Architecture` as nested lists.
Choices: TypeAlias = Mapping[str, list[list[int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What all contenders compute.

    Attributes:
        size: Height, width and depth of an image.
        classes: How many.
        channels: Of the first stage.
        stages: Cells per stage.
        batch: Images of a minibatch.
        weights: A file of `np.savez`: what `CellSpace.init` gave, "images" uint8
            `[B, H, W, depth]` and "labels" int32 `[B]`.
        learning_rate: Of SGD with Nesterov momentum 0.9.
        weight_decay: In the gradient.
    """

    size: tuple[int, int, int]
    classes: int
    channels: int
    stages: tuple[int, ...]
    batch: int
    weights: str
    learning_rate: float
    weight_decay: float

    @classmethod
    def of_json(cls, text: str) -> "Setting":
        """From what `json.dumps(asdict(...))` made."""
        fields = json.loads(text)
        return cls(**{**fields, "size": tuple(fields["size"]), "stages": tuple(fields["stages"])})


class Work(Protocol):
    """One architecture, its weights those of the setting at first."""

    @property
    def compile_s(self) -> Sequence[tuple[float, float]]:
        """Wall and CPU time of every program that was compiled for it."""

    def evaluate(self) -> np.ndarray:
        """Class scores `[B, classes]` by the weights of the setting."""

    def train(self) -> float:
        """Trains on the minibatch once more; the loss before."""


class Contender(Protocol):
    """One way to compute the network of any architecture."""

    def prepare(self, arch: Choices) -> Work:
        """Whatever must be done before an architecture is computed."""


def measure(contender: Contender, arch: Choices, repeats: int) -> dict[str, object]:
    """What one architecture takes.

    Returns:
        evaluate, train: Per repetition the wall and the CPU time in seconds.
        compile: The same of every program compiled for it.
        logits, loss: To compare with other contenders: the class scores by the first weights,
            and the loss after as many steps of training as there are repetitions.
        peak_mib: The most memory the process has had.
    """
    work = contender.prepare(arch)
    logits = work.evaluate()
    evaluate = [timed(work.evaluate) for _ in range(repeats)]
    work.train()
    losses: list[float] = []
    train = [timed(lambda: losses.append(work.train())) for _ in range(repeats)]
    return {
        "evaluate": evaluate,
        "train": train,
        "compile": list(work.compile_s),
        "logits": logits.tolist(),
        "loss": losses[-1],
        "peak_mib": memory_mib("VmHWM"),
    }


def timed(function: Callable[[], object]) -> tuple[float, float]:
    """The wall and the CPU time of a call, in seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - cpu


def memory_mib(field: str) -> float:
    """A field of this process's status: VmRSS is its memory now, VmHWM the most it has had."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field + ":")) / 1024


def main() -> None:
    """Answers until standard input ends."""
    name, setting, repeats = sys.argv[1], Setting.of_json(sys.argv[2]), int(sys.argv[3])
    module = importlib.import_module(f"benchmarks.{MODULES[name]}")
    contender: Contender = module.make_contender(name, setting)
    print(json.dumps({"start_mib": memory_mib("VmRSS")}), flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(contender, json.loads(line), repeats)), flush=True)


if __name__ == "__main__":
    # Beside this file are modules, not the package that contenders are imported from.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    main()
