"""Tasks that nobody awaits: kept until they are done, and heard when they fail."""

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial
from typing import Any, TypeAlias

from rafiki.server.domain.errors import StorageError

logger = logging.getLogger(__name__)

_Answer: TypeAlias = "asyncio.Future[Any] | None"


class Tasks:
    """The tasks under way. On the event loop only."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def spawn(self, work: Coroutine[object, object, None], answer: _Answer = None) -> None:
        """Starts a task. If it fails before `answer` is given, that fails alike."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(partial(self._reap, answer))

    async def cancel(self) -> None:
        """Ends them all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _reap(self, answer: _Answer, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if answer is not None and not answer.done():
            answer.set_exception(error)
        else:
            told = None if isinstance(error, StorageError) else error
            text = "a step of a study failed; it will be tried again error=%s"
            logger.error(text, error, exc_info=told)
