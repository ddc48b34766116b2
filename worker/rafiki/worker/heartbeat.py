"""Calls something at an interval, apart from all other work."""

import threading
from collections.abc import Callable


class Heartbeat:
    """A thread that beats until it is stopped. It knows nothing of what a beat does."""

    def __init__(self, beat: Callable[[], None], interval_s: float) -> None:
        self._beat = beat
        self._interval_s = interval_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Beats no more. Does not wait for a beat that is going on."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(self._interval_s):
            self._beat()
