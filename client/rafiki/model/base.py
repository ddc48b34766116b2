"""What a model template is: a class that Rafiki can construct, train and ask.

A template is constructed with every knob it declares as a keyword argument: policies as
booleans, arch knobs as lists of values. `C` below is a number of candidates; a candidate
maps the name of every arch knob to its list of values.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol, TypeAlias, runtime_checkable

import numpy as np

from rafiki.model.knobs import KnobConfig, Scalar
from rafiki.model.params import Params

Candidate: TypeAlias = Mapping[str, Sequence[Scalar]]


class BaseModel(ABC):
    """A model template.

    Attributes:
        task: What it solves, such as "IMAGE_CLASSIFICATION"; a job, its models and its data
            sets must agree.
        dependencies: pip project name to exact version of what it imports.
        seed: Set by the worker before it calls anything; every random draw comes from it.
    """

    task: ClassVar[str] = ""
    dependencies: ClassVar[Mapping[str, str]] = {}
    seed: int = 0

    def __init__(self, **knobs: object) -> None:
        """Takes every knob of the knob config under its own name."""
        return

    @staticmethod
    @abstractmethod
    def get_knob_config() -> KnobConfig:
        """The search space; the same at every call."""

    @abstractmethod
    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        """Trains on a data set.

        Calls `logger.progress` now and then and stops, in a usable state, when that answers
        True.

        Args:
            dataset_path: A file in the format of the task.
            shared_params: What to start from (policy SHARE_PARAMS); None is fresh.
            train_args: What the train job passes on to its models.
        """

    @abstractmethod
    def evaluate(self, dataset_path: str) -> float:
        """The score on a data set: finite, and the same for the same parameters."""

    @abstractmethod
    def predict(self, queries: list[object]) -> list[object]:
        """One prediction per query, both in values that JSON can carry."""

    @abstractmethod
    def dump_parameters(self) -> dict[str, np.ndarray]:
        """Everything that was learned, by path.

        Segments of a path are joined by "/"; what begins with "optimizer/" is state of the
        training alone. At most 4000 tensors.
        """

    @abstractmethod
    def load_parameters(self, params: Params) -> None:
        """Takes what an instance with the same knobs dumped, without "optimizer/" perhaps."""

    def destroy(self) -> None:
        """Gives up what the instance holds. It is not used afterwards."""
        return

    @classmethod
    def teardown(cls) -> None:
        """Gives up what the class holds, before its process ends."""
        return


@runtime_checkable
class CandidateModel(Protocol):
    """The optional pair of methods of a template that shares weights among candidates.

    With them one trial trains or evaluates many architectures. The instance is constructed
    with the first candidate's arch knobs, which the pair ignores.
    """

    def train_candidates(
        self,
        dataset_path: str,
        candidates: Sequence[Candidate],
        *,
        shared_params: Params | None,
        shard: tuple[int, int],
        data_seed: int,
        round: int,
    ) -> dict[str, object]:
        """Trains minibatch k with candidate k: exactly `C` minibatches.

        The permutation of the minibatches depends on `data_seed` alone. This shard takes
        those numbered index, index + count, ..., and continues with a further permutation if
        there are more candidates. Calls `logger.progress` like `train`.

        Args:
            dataset_path: A file in the format of the task.
            candidates: `[C]` architectures.
            shared_params: The weights to start from, with training state; None is fresh.
            shard: (index, count); (0, 1) trains alone.
            data_seed: Gives the permutation.
            round: The number of the round, from 1; for learning rate schedules.

        Returns:
            "steps_per_epoch": minibatches of the whole data set, whatever the shard;
            "updates": tensor path to the number of updates in this call; and any further
            metrics as floats, such as "loss".
        """

    def evaluate_candidates(
        self, dataset_path: str, candidates: Sequence[Candidate], *, seed: int
    ) -> list[float]:
        """One score per candidate with the weights held, trained or loaded.

        With QUICK_EVAL on one minibatch, drawn from `seed` and the same for all; otherwise on
        the whole data set.
        """


def takes_candidates(model_class: type[BaseModel]) -> bool:
    """Whether a template has the optional pair of methods (both of them)."""
    return all(
        callable(getattr(model_class, name, None))
        for name in ("train_candidates", "evaluate_candidates")
    )
