"""The best settings of a search, trained again in full."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rafiki.resources import TrialState
from rafiki.server.advisors.tuning.history import History, Point, Scored

# So many of the best may fail in FINAL_TRAIN; then no other is tried.
FAILURES = 3


@dataclass(slots=True)
class Finals:
    """FINAL_TRAIN trials: `wanted` of them, by the place of their points in `History.scored`."""

    wanted: int
    trained: dict[int, TrialState] = field(default_factory=dict)
    has_begun: bool = False

    def count(self, state: TrialState) -> int:
        """The trials in `state`."""
        return sum(trained is state for trained in self.trained.values())

    def open(self, scored: int) -> int:
        """How many more are to be proposed, if there are `scored` points."""
        errored = self.count(TrialState.ERRORED)
        if errored >= FAILURES:
            return 0
        left = self.wanted - (len(self.trained) - errored)
        return max(0, min(left, scored - len(self.trained)))

    def next(self, scored: Sequence[Scored]) -> Scored | None:
        """The best point that was not trained again; of equals the first proposed."""
        if not self.open(len(scored)):
            return None
        best = heapq.nsmallest(
            len(self.trained) + 1,
            range(len(scored)),
            key=lambda index: (-scored[index].reward, scored[index].trial),
        )
        return next(scored[index] for index in best if index not in self.trained)

    def propose(self, point: Point, history: History) -> int:
        """Notes that the point is trained again; returns its place in `History.scored`."""
        key = history.key(point)
        for index, entry in enumerate(history.scored):
            if history.key(entry.point) == key and index not in self.trained:
                self.trained[index] = TrialState.RUNNING
                self.has_begun = True
                return index
        raise ValueError("a FINAL_TRAIN is of no scored point, or of one trained already")

    def end(self, index: int, state: TrialState) -> None:
        """Notes the end of the trial of a point; one cancelled may be proposed again."""
        if state is TrialState.CANCELLED:
            del self.trained[index]
        else:
            self.trained[index] = state

    def dump(self) -> list[Any]:
        """All but `wanted`, as plain JSON."""
        return [self.has_begun, [[index, state] for index, state in self.trained.items()]]

    def load(self, values: list[Any]) -> None:
        """Restores what `dump` gave, from JSON."""
        self.has_begun = values[0]
        self.trained = {index: TrialState(state) for index, state in values[1]}
