"""The port between the life of a study of full trials and how its points are chosen."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from rafiki.resources import StudyRound
from rafiki.server.advisors.tuning.history import History, Scored
from rafiki.server.advisors.tuning.points import Point
from rafiki.server.domain.advisor import AdvisorState


class Sampler(ABC):
    """Chooses points. Its state, if any, is a fold over the ends of trials, in their order.

    `learns`: whether what it chooses depends on how trials ended.
    """

    learns: ClassVar[bool] = True

    @abstractmethod
    def propose(self, history: History, count: int, seed: int) -> list[Point]:
        """Up to `count` points to try next, at least one; changes nothing.

        All have the same `knobs`. None is taken (`History.is_taken`), nor comes twice: the
        space is not exhausted when this is called.

        Args:
            history: What was tried, with what is running now.
            count: How many points one trial may hold; above 1 only if there are arch knobs.
            seed: The one source of randomness.
        """

    def basis(self, history: History, seed: int) -> Mapping[str, float]:
        """What the points that `propose` gives for the same arguments are based on."""
        return {}

    def learn(self, ended: Sequence[tuple[Point, float | None]]) -> None:
        """Folds in the points of a trial that ended, with their rewards (None: unscored).

        Called after the history has them; not for controls or cancelled trials.
        """
        return None

    def rounds(self) -> tuple[StudyRound, ...]:
        """What is to be reported of the sampler's updates so far; none for most."""
        return ()

    def dump(self) -> AdvisorState:
        """The state that `learn` made."""
        return AdvisorState()

    def load(self, state: AdvisorState) -> None:
        """Restores what `dump` gave."""
        return None


__all__ = ["History", "Point", "Sampler", "Scored"]
