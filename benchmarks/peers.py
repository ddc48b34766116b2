"""The peers: plain random search, and the samplers of Optuna by ask and tell."""

import importlib.util
import random
import warnings
from typing import Any

from benchmarks.tables import Indices, Table


class PlainRandom:
    """Uniform draws that may repeat."""

    def __init__(self, table: Table, seed: int) -> None:
        self._sizes = table.sizes
        self._random = random.Random(seed)

    def ask(self, number: int) -> Indices | None:
        return tuple(self._random.randrange(size) for size in self._sizes)

    def tell(self, number: int, value: float) -> None:
        pass


class OptunaScheme:
    """A study of Optuna in memory, its sampler as it comes but for the seed.

    A grid of numbers is an integer over the indices, anything else categorical. Trials that
    run are known to the sampler.
    """

    def __init__(self, name: str, table: Table, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        seed %= 2**32
        if name == "optuna-gp":
            if not has_torch():
                raise ValueError("optuna-gp needs torch, which is not installed")
            sampler = optuna.samplers.GPSampler(seed=seed)
        else:
            sampler = optuna.samplers.TPESampler(seed=seed)
        direction = "maximize" if table.is_maximised else "minimize"
        self._study = optuna.create_study(sampler=sampler, direction=direction)
        self._parameters = table.parameters
        self._running: dict[int, Any] = {}

    def ask(self, number: int) -> Indices | None:
        trial = self._running[number] = self._study.ask()
        indices = []
        for parameter in self._parameters:
            if parameter.is_ordered:
                index = trial.suggest_int(parameter.name, 0, len(parameter.values) - 1)
            else:
                value = trial.suggest_categorical(parameter.name, parameter.values)
                index = parameter.values.index(value)
            indices.append(index)
        return tuple(indices)

    def tell(self, number: int, value: float) -> None:
        self._study.tell(self._running.pop(number), value)


def has_torch() -> bool:
    """Whether torch is installed, which the GP sampler of Optuna needs."""
    return importlib.util.find_spec("torch") is not None
