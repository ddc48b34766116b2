"""The distinct architectures scored in a search, by their mean reward."""

import heapq
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from rafiki.server.advisors.space import Choices


class BestSeen:
    """Sums and counts of rewards by architecture, in the order first seen."""

    def __init__(self, positions: int) -> None:
        self._positions = positions
        # The choices as bytes of int16: a long search remembers tens of thousands.
        self._totals: dict[bytes, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._totals)

    def add(self, choices: Sequence[int], reward: float) -> None:
        """Adds one finite reward."""
        key = np.array(choices, np.int16).tobytes()
        total, count = self._totals.get(key, (0.0, 0))
        self._totals[key] = (total + reward, count + 1)

    def best(self, count: int) -> list[Choices]:
        """The `count` of the highest mean reward; of equals the one seen more often, earlier."""

        def rank(entry: tuple[int, tuple[bytes, tuple[float, int]]]) -> tuple[float, int, int]:
            number, (_, (total, seen)) = entry
            return -total / seen, -seen, number

        best = heapq.nsmallest(count, enumerate(self._totals.items()), key=rank)
        return [tuple(np.frombuffer(key, np.int16).tolist()) for _, (key, _) in best]

    def dump(self) -> dict[str, NDArray[np.generic]]:
        """The table as arrays."""
        shape = (len(self._totals), self._positions)
        totals = list(self._totals.values())
        return {
            "choices": np.frombuffer(b"".join(self._totals), np.int16).reshape(shape),
            "totals": np.array([total for total, _ in totals], np.float64),
            "counts": np.array([count for _, count in totals], np.int64),
        }

    def load(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Restores what `dump` gave."""
        totals = zip(arrays["totals"].tolist(), arrays["counts"].tolist(), strict=True)
        keys = (row.tobytes() for row in arrays["choices"].astype(np.int16))
        self._totals = dict(zip(keys, totals, strict=True))
