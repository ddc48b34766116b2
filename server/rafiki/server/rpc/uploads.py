"""Bytes that come in over a stream: their order, and their way into the blob store."""

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from rafiki.resources import Digest
from rafiki.server.domain.blobs import CHUNK_BYTES, StagedBlob, Staging
from rafiki.server.domain.errors import ProtocolViolation
from rafiki.server.rpc.streams import BATCH_BYTES, BATCH_FRAMES, StreamContext, Streams
from rafiki.wire.blobs import Frame


class FrameOrder:
    """Follows the frames of one stream: a header, then its chunks, then the next header."""

    def __init__(self) -> None:
        self._remaining_bytes = 0
        self._begun = False

    def check(self, frame: Frame) -> None:
        """Raises ProtocolViolation if the frame may not come here."""
        if isinstance(frame, Digest):
            if self._remaining_bytes:
                raise ProtocolViolation(
                    f"a header came while {self._remaining_bytes} bytes of a blob were to come"
                )
            self._begun = True
            self._remaining_bytes = frame.size_bytes
            return
        if not self._begun:
            raise ProtocolViolation("a chunk came before a header; send the header first")
        if not 0 < len(frame) <= CHUNK_BYTES:
            raise ProtocolViolation(
                f"a chunk has {len(frame)} bytes; it must have 1 to {CHUNK_BYTES}"
            )
        if len(frame) > self._remaining_bytes:
            raise ProtocolViolation(
                f"a chunk has {len(frame)} bytes where {self._remaining_bytes} were to come"
            )
        self._remaining_bytes -= len(frame)

    def end(self) -> None:
        """Raises ProtocolViolation if the stream may not end here."""
        if self._remaining_bytes:
            raise ProtocolViolation(
                f"the stream ended while {self._remaining_bytes} bytes of a blob were to come"
            )


class BlobWriter:
    """Writes frames in right order into a staging; blocks, so it runs in a thread."""

    def __init__(self, staging: Staging) -> None:
        self._staging = staging
        self._blob: StagedBlob | None = None
        self.committed_bytes = 0

    def write(self, frames: Sequence[Frame]) -> None:
        """Takes the next frames; raises DigestMismatch at the end of a blob."""
        for frame in frames:
            if isinstance(frame, Digest):
                self._blob = self._staging.add(frame)
            elif self._blob is not None:
                self._blob.write(frame)
            if self._blob is not None and not self._blob.remaining_bytes:
                blob, self._blob = self._blob, None
                self._staging.verify()
                self.committed_bytes += blob.digest.size_bytes


async def receive_frames(
    streams: Streams,
    context: StreamContext,
    staging: Staging,
    frame_of: Callable[[Any], Frame],
    *,
    first: Sequence[Frame] = (),
) -> int:
    """Stages the blobs of a stream until it ends; returns their bytes.

    Every blob received whole is verified, also where the stream then breaks.

    Args:
        streams: Where the work is done.
        context: Of the call, whose messages are read.
        staging: Where the blobs go.
        frame_of: Makes a frame of a message.
        first: Frames that come before those of the stream.

    Raises:
        ProtocolViolation: A frame may not come where it did, or is missing at the end.
        DigestMismatch: The bytes of a blob are not those of its digest.
        IdleTimeout: The next message took too long.
    """
    order = FrameOrder()
    writer = BlobWriter(staging)
    batch: list[Frame] = []
    batch_bytes = 0
    for frame in first:
        order.check(frame)
        batch.append(frame)
    async with _Behind(streams) as behind:
        try:
            while (message := await streams.receive(context)) is not None:
                frame = frame_of(message)
                order.check(frame)
                batch.append(frame)
                batch_bytes += 0 if isinstance(frame, Digest) else len(frame)
                if batch_bytes >= BATCH_BYTES or len(batch) >= BATCH_FRAMES:
                    full, batch, batch_bytes = batch, [], 0
                    await behind.run(writer.write, full)
            order.end()
        finally:
            await behind.run(writer.write, batch)
    return writer.committed_bytes


class _Behind:
    """Work of a stream that runs while its next messages come in: one piece at a time.

    Use it as a context manager, which waits for the last piece. What a piece raises is raised
    instead of the next one, or at the end.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._piece: asyncio.Task[None] | None = None

    async def run(self, work: Callable[[Sequence[Frame]], None], frames: Sequence[Frame]) -> None:
        """Begins a piece of work once the one before it is done."""
        await self._wait()
        self._piece = asyncio.create_task(self._streams.run(work, frames))

    async def _wait(self) -> None:
        piece, self._piece = self._piece, None
        if piece is not None:
            await piece

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._wait()


async def receive_content(
    streams: Streams,
    context: StreamContext,
    staging: Staging,
    digest: Digest,
) -> bool:
    """Stages the one blob whose chunks make up the rest of a stream of `part`s.

    Returns:
        Whether any chunk came; False means that the blob should be stored already.

    Raises:
        As `receive_frames`.
    """
    opening = await streams.receive(context)
    if opening is None:
        return False
    first = (digest, _chunk_of(opening))
    await receive_frames(streams, context, staging, _chunk_of, first=first)
    return True


def _chunk_of(message: Any) -> bytes:
    if message.WhichOneof("part") != "chunk":
        raise ProtocolViolation("after the first message there may be chunks only")
    chunk: bytes = message.chunk
    return chunk
