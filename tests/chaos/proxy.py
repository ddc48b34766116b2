"""A TCP proxy between a worker and the server that can be told to harm what it carries.

HTTP/2 has no checksum of its own and TCP never loses or repeats bytes, so a connection that
was harmed by DROP or DUPLICATE cannot be used any more; should neither side notice, the proxy
resets it a little later, as the network of a broken middlebox would.
"""

import asyncio
import threading
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import StrEnum
from typing import Self, TypeVar

_SEGMENT_BYTES = 16 * 1024
_HARMED_S = 3.0

_Result = TypeVar("_Result")


class Harm(StrEnum):
    """What the proxy does once."""

    CUT = "CUT"  # resets the connection
    TRUNCATE = "TRUNCATE"  # forwards half of a segment, then closes the connection
    DROP = "DROP"  # swallows a segment
    DUPLICATE = "DUPLICATE"  # forwards a segment twice
    DELAY = "DELAY"  # holds this direction back for a while


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A harm that strikes once `after_bytes` more have passed, up to the server or down."""

    harm: Harm
    is_up: bool
    after_bytes: int = 0
    delay_s: float = 0.0


class Loop:
    """An event loop in a thread of its own, for any number of proxies."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxies")
        self._thread.start()

    def run(self, work: Coroutine[object, object, _Result]) -> _Result:
        """What a coroutine returns that runs on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=20)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Proxy:
    """Forwards what connects to `address` to the target. Thread-safe from outside the loop."""

    def __init__(self, loop: Loop, host: str, port: int) -> None:
        self._loop = loop
        self._target = (host, port)
        self._links: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._damages: list[Damage] = []
        self._passed_bytes: Counter[bool] = Counter()  # since the last damage, by direction
        self.struck: Counter[Harm] = Counter()
        self._server = loop.run(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def damage(self, damage: Damage) -> None:
        """Has a damage strike in time; those of one direction strike one after the other."""
        self._loop.run(self._arm(damage))

    def cut(self) -> None:
        """Resets all connections at once."""
        self._loop.run(self._cut())

    def heal(self) -> None:
        """Forgets what has not struck yet."""
        self._loop.run(self._heal())

    def close(self) -> None:
        """Ends everything."""
        self._loop.run(self._close())

    async def _arm(self, damage: Damage) -> None:
        if not any(armed.is_up == damage.is_up for armed in self._damages):
            self._passed_bytes[damage.is_up] = 0
        self._damages.append(damage)

    async def _cut(self) -> None:
        self.struck[Harm.CUT] += 1
        for writer in self._writers:
            writer.transport.abort()

    async def _heal(self) -> None:
        self._damages.clear()

    async def _close(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        for link in self._links:
            link.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        # A transport closes its socket in a later turn of the loop, which may be about to stop.
        for _ in range(3):
            await asyncio.sleep(0)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        self._writers.add(writer)
        try:
            await self._connect(reader, writer)
        except OSError:
            pass  # The server is away, or one side has reset the connection.
        except asyncio.CancelledError:
            pass  # Closing; whoever cancelled waits for the task, which must not look failed.
        finally:
            self._links.discard(link)
            self._writers.discard(writer)
            writer.transport.abort()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        above_reader, above_writer = await asyncio.open_connection(*self._target)
        self._writers.add(above_writer)
        directions = {
            asyncio.ensure_future(self._forward(reader, above_writer, is_up=True)),
            asyncio.ensure_future(self._forward(above_reader, writer, is_up=False)),
        }
        try:
            # Either end means the end of both: HTTP/2 knows no half-closed connection.
            await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for direction in directions:
                direction.cancel()
            await asyncio.gather(*directions, return_exceptions=True)
            self._writers.discard(above_writer)
            above_writer.close()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_up: bool
    ) -> None:
        while segment := await reader.read(_SEGMENT_BYTES):
            damage = self._due(len(segment), is_up=is_up)
            match damage.harm if damage else None:
                case Harm.CUT:
                    writer.transport.abort()
                    return
                case Harm.TRUNCATE:
                    writer.write(segment[: len(segment) // 2])
                    await writer.drain()
                    return
                case Harm.DROP:
                    self._end_soon(writer)
                    continue
                case Harm.DUPLICATE:
                    self._end_soon(writer)
                    writer.write(segment)
                case Harm.DELAY:
                    assert damage is not None
                    await asyncio.sleep(damage.delay_s)
            writer.write(segment)
            await writer.drain()

    def _due(self, size_bytes: int, *, is_up: bool) -> Damage | None:
        """The damage that strikes this segment, if one does."""
        self._passed_bytes[is_up] += size_bytes
        damage = next((armed for armed in self._damages if armed.is_up == is_up), None)
        if damage is None or self._passed_bytes[is_up] <= damage.after_bytes:
            return None
        self._passed_bytes[is_up] = 0
        self._damages.remove(damage)
        self.struck[damage.harm] += 1
        return damage

    def _end_soon(self, writer: asyncio.StreamWriter) -> None:
        asyncio.get_running_loop().call_later(_HARMED_S, writer.transport.abort)
