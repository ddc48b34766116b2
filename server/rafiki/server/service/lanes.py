"""Lanes: the steps of many studies in a few threads, those of one study in their order."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from rafiki.server.domain.names import StudyName

_Result = TypeVar("_Result")

# So many steps of one study are taken before a thread looks for another study's.
_TURN_STEPS = 16


class Lanes:
    """Runs steps that take time. One study never waits for the steps of another.

    Threads that wait for one another's locks cost more than short steps do: so a study has
    at most one thread at a time, which takes its steps one after the other.

    Args:
        threads: How many there are.
        post: Runs a function on the event loop, soon. Called from any thread.
    """

    def __init__(self, threads: int, post: Callable[[Callable[[], None]], None]) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="rafiki-study")
        self._post = post
        self._lock = threading.Lock()
        self._is_closing = False
        # Of the studies that have a thread, or are about to.
        self._waiting: dict[StudyName, deque[Callable[[], None]]] = {}

    @property
    def waiting(self) -> int:
        """How many steps wait for their turn."""
        with self._lock:
            return sum(map(len, self._waiting.values()))

    async def run(self, study: StudyName, step: Callable[[], _Result]) -> _Result:
        """Runs a step, to its end even if the caller is cancelled. On the event loop.

        Raises:
            Exception: What the step raises.
        """
        future: asyncio.Future[_Result] = asyncio.get_running_loop().create_future()
        work = partial(self._take, future, step)
        with self._lock:
            waiting = self._waiting.get(study)
            if waiting is not None:
                waiting.append(work)
            else:
                self._waiting[study] = deque([work])
                self._executor.submit(self._serve, study)
        return await future

    def close(self) -> None:
        """Waits until all steps are taken; nobody may bring more."""
        self._is_closing = True
        self._executor.shutdown()

    def _serve(self, study: StudyName) -> None:
        steps = 0
        while steps < _TURN_STEPS or self._is_closing:
            steps += 1
            with self._lock:
                waiting = self._waiting[study]
                if not waiting:
                    del self._waiting[study]
                    return
                work = waiting.popleft()
            work()
        self._executor.submit(self._serve, study)

    def _take(self, future: "asyncio.Future[Any]", step: Callable[[], object]) -> None:
        try:
            result = step()
        except Exception as error:  # it is the caller's, who awaits the step
            self._post(partial(_fail, future, error))
        else:
            self._post(partial(_answer, future, result))


def _answer(future: "asyncio.Future[Any]", result: object) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
