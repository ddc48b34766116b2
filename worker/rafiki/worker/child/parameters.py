"""Checkpoints held in the child by name, so that they are sent once."""

from collections import OrderedDict
from collections.abc import Callable, Mapping

from rafiki.worker.framing import Array

# The weights of this round and of the one before.
MAX_HELD = 2


class MissingParameters(Exception):
    """The worker cannot provide the checkpoint a trial starts from."""


class HeldParameters:
    """The latest checkpoints that came or were saved. For the template's thread."""

    def __init__(self, request: Callable[[str], Mapping[str, Array]]) -> None:
        """`request` asks the worker for a checkpoint by name, and waits for it."""
        self._request = request
        self._held: OrderedDict[str, Mapping[str, Array]] = OrderedDict()

    def get(self, name: str) -> dict[str, Array]:
        """A copy of checkpoint `name` that a template may do with as it likes.

        Raises:
            MissingParameters: The worker cannot provide it.
        """
        if name not in self._held:
            self.put(name, self._request(name))
        self._held.move_to_end(name)
        return {path: array.copy() for path, array in self._held[name].items()}

    def put(self, name: str, params: Mapping[str, Array]) -> None:
        """Keeps `params` under `name`; nobody may change them any more."""
        self._held[name] = params
        self._held.move_to_end(name)
        while len(self._held) > MAX_HELD:
            self._held.popitem(last=False)
