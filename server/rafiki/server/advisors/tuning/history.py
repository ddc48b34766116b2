"""What a study of full trials has tried so far."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rafiki.model.knobs import KnobConfig, Scalar
from rafiki.server.advisors.grid import Grid
from rafiki.server.advisors.tuning.points import Arrays, Point, PointCodec, below, under

# What identifies a point: its number in a countable space, else its values.
Key = int | tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Scored:
    """A point with its reward: the score, negated where less is better. Finite."""

    point: Point
    reward: float
    trial: int = 0


class History:
    """The points of a study by what became of them.

    `scored` is in the order in which trials ended, `running` by trial number in the order
    proposed, `failed` those whose trials errored or came back unscored. `controls` are the
    uniform draws of the control arm that have ended: the others do not hold them, and no
    sampler learns from them, but they are taken like the rest.
    """

    def __init__(self, knob_config: KnobConfig) -> None:
        self.knob_config = knob_config
        self.grid = Grid(knob_config)
        self.scored: list[Scored] = []
        self.running: dict[int, list[Point]] = {}
        self.failed: list[Point] = []
        self.controls: list[Point] = []
        self._codec = PointCodec(knob_config)
        self._taken: set[Key] = set()

    @property
    def pending(self) -> list[Point]:
        """The points of the running trials, in the order proposed."""
        return [point for points in self.running.values() for point in points]

    @property
    def is_exhausted(self) -> bool:
        """Whether every point of a countable space is taken."""
        return self.free == 0

    @property
    def free(self) -> int | None:
        """How many points of a countable space are not taken; None if it is not countable."""
        if self.grid.points is None:
            return None
        return max(0, self.grid.points - len(self._taken))

    @property
    def taken_numbers(self) -> set[int]:
        """The points taken of a countable space, as numbers of its grid: not to be changed."""
        return cast(set[int], self._taken) if self.grid.points is not None else set()

    def is_taken(self, point: Point) -> bool:
        """Whether the point was proposed before, whatever became of it."""
        return self.key(point) in self._taken

    def take(self, point: Point) -> None:
        """Notes that the point is proposed."""
        self._taken.add(self.key(point))

    def release(self, point: Point) -> None:
        """Forgets that the point was proposed: its trial was cancelled."""
        self._taken.discard(self.key(point))

    def key(self, point: Point) -> Key:
        """What the point is recognised by."""
        if self.grid.points is not None:
            return self.grid.number(point.knobs, point.choices)
        return (*(point.knobs[name] for name in self.grid.names), *point.choices)

    def dump(self) -> dict[str, NDArray[np.generic]]:
        """All but what runs, as arrays."""
        arrays: dict[str, NDArray[np.generic]] = {
            "reward": np.array([entry.reward for entry in self.scored], np.float64),
            "trial": np.array([entry.trial for entry in self.scored], np.int64),
        }
        points = [entry.point for entry in self.scored]
        arrays |= under("scored/", self._codec.dump(points))
        arrays |= under("failed/", self._codec.dump(self.failed))
        arrays |= under("controls/", self._codec.dump(self.controls))
        return arrays

    def load(self, arrays: Arrays, running: Mapping[int, list[Point]]) -> None:
        """Restores what `dump` gave; `running` are the points of the running trials."""
        rewards, trials = arrays["reward"].tolist(), arrays["trial"].tolist()
        points = self._codec.load(below("scored/", arrays))
        self.scored = list(map(Scored, points, rewards, trials))
        self.failed = self._codec.load(below("failed/", arrays))
        self.controls = self._codec.load(below("controls/", arrays))
        self.running = dict(running)
        self._taken = set()
        self._take_all(points, self.failed, self.controls, self.pending)

    def _take_all(self, *lists: Iterable[Point]) -> None:
        for points in lists:
            for point in points:
                self.take(point)


__all__ = ["History", "Key", "Point", "Scored"]
