"""News for the event loop, from any thread."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable


class Mailbox:
    """Functions that are to run on the event loop, in order, with one wake-up for many.

    Thread-safe. What is posted before `open` waits; what is posted after `close` is dropped.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._news: deque[Callable[[], None]] = deque()
        self._is_due = False
        self._is_closed = False

    def open(self) -> None:
        """Begins to run what is posted, on the running loop."""
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._call()

    def close(self) -> None:
        """Runs nothing more."""
        with self._lock:
            self._is_closed = True
            self._news.clear()

    def post(self, item: Callable[[], None]) -> None:
        """Has a function run on the event loop, soon."""
        with self._lock:
            if self._is_closed:
                return
            self._news.append(item)
            self._call()

    def _call(self) -> None:
        if self._loop is not None and self._news and not self._is_due:
            self._is_due = True
            self._loop.call_soon_threadsafe(self._read)

    def _read(self) -> None:
        with self._lock:
            self._is_due = False
            news, self._news = self._news, deque()
        for item in news:
            item()
