"""What streams of bytes share: threads for the disk, an idle timeout, a cap per peer."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeAlias, TypeVar

import grpc

from rafiki.server.rpc.errors import IdleTimeout, TooManyStreams

# Of a streaming method; the types of its messages are not known here.
StreamContext: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_Result = TypeVar("_Result")

# Payload handed to the disk, or taken from it, at once.
BATCH_BYTES = 1024 * 1024
BATCH_FRAMES = 256


class Streams:
    """Runs on one event loop; its threads are its own, so that no call waits for a slow peer.

    Args:
        threads: For reading and writing files.
        idle_timeout_s: How long a client may send nothing while the server waits for it.
        max_per_peer: Streams that one connection may have open at once.
    """

    def __init__(
        self, *, threads: int = 4, idle_timeout_s: float = 30.0, max_per_peer: int = 8
    ) -> None:
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="rafiki-streams")
        self._idle_timeout_s = idle_timeout_s
        self._max_per_peer = max_per_peer
        self._open: Counter[str] = Counter()

    @asynccontextmanager
    async def admitted(self, context: StreamContext) -> AsyncIterator[None]:
        """Counts the stream while it is open.

        Raises:
            TooManyStreams: The peer has as many open as it may.
        """
        peer = context.peer()
        if self._open[peer] >= self._max_per_peer:
            raise TooManyStreams(self._max_per_peer)
        self._open[peer] += 1
        try:
            yield
        finally:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]

    async def receive(self, context: StreamContext) -> Any:
        """The next message of the client, or None at the end of its stream.

        Raises:
            IdleTimeout: It took too long.
        """
        try:
            async with asyncio.timeout(self._idle_timeout_s):
                message = await context.read()
        except TimeoutError:
            raise IdleTimeout(self._idle_timeout_s) from None
        return None if message is grpc.aio.EOF else message

    async def run(self, work: Callable[..., _Result], *arguments: object) -> _Result:
        """Runs `work` in one of the threads, to its end even if the call is cancelled."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._executor, work, *arguments)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            await asyncio.wait([future])
            raise

    @property
    def waiting(self) -> int:
        """How much work waits for a thread."""
        return self._executor._work_queue.qsize()

    def close(self) -> None:
        """Ends the threads, once their work is done."""
        self._executor.shutdown()
