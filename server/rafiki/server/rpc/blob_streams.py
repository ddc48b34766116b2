"""The two calls of ParameterService that carry blobs, as frames instead of messages."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import grpc

from rafiki.resources import Digest
from rafiki.server.domain.blobs import BlobStore, missing_blobs
from rafiki.server.domain.errors import InvalidArgument, ResourceNotFound
from rafiki.server.rpc.errors import async_statuses
from rafiki.server.rpc.streams import BATCH_BYTES, BATCH_FRAMES, StreamContext, Streams
from rafiki.server.rpc.uploads import receive_frames
from rafiki.v1 import params_pb2 as messages
from rafiki.wire.blobs import Frame
from rafiki.wire.frame_calls import SERVICE, Received, frame_handlers, frame_of
from rafiki.wire.params import digests_from_proto


class BlobStreams:
    """See params.proto."""

    def __init__(self, blobs: BlobStore, streams: Streams) -> None:
        self._blobs = blobs
        self._streams = streams

    def add_frames_to(self, server: grpc.aio.Server) -> None:
        """Has a server make these calls here; takes the place of generated handlers."""
        handlers = frame_handlers(self.UploadBlobs, self.DownloadBlobs)
        server.add_registered_method_handlers(SERVICE, handlers)

    async def UploadBlobs(
        self, request_iterator: AsyncIterator[Received], context: StreamContext
    ) -> messages.UploadBlobsResponse:
        """Stores blobs."""
        async with async_statuses(context), self._streams.admitted(context):
            with self._blobs.stage() as staging:
                try:
                    size_bytes = await receive_frames(self._streams, context, staging, frame_of)
                finally:
                    await self._streams.run(staging.publish)
            return messages.UploadBlobsResponse(committed_bytes=size_bytes)

    async def DownloadBlobs(
        self, request: messages.DownloadBlobsRequest, context: StreamContext
    ) -> AsyncIterator[Frame]:
        """Streams blobs; while frames are sent, the next are read."""
        async with async_statuses(context), self._streams.admitted(context):
            frames = await self._streams.run(self._open_frames, request)
            reading = self._begin_reading(frames)
            try:
                while batch := await reading:
                    reading = self._begin_reading(frames)
                    for frame in batch:
                        yield frame
            finally:
                if not reading.done():
                    reading.cancel()
                    await asyncio.wait([reading])

    def _begin_reading(self, frames: Iterator[Frame]) -> asyncio.Task[list[Frame]]:
        return asyncio.create_task(self._streams.run(_next_batch, frames))

    def _open_frames(self, request: messages.DownloadBlobsRequest) -> Iterator[Frame]:
        digests = digests_from_proto(request.digests)
        if not digests:
            raise InvalidArgument([("digests", "must name a blob at least")])
        if not 0 <= request.offset_bytes <= digests[0].size_bytes:
            rule = f"must be in [0, {digests[0].size_bytes}], the size of the first blob"
            raise InvalidArgument([("offset_bytes", rule)])
        missing = missing_blobs(self._blobs, digests)
        if missing:
            raise ResourceNotFound(f"blobs/{missing[0].sha256}")

        def frames() -> Iterator[Frame]:
            offset_bytes = request.offset_bytes
            for digest in digests:
                yield digest
                yield from self._blobs.chunks(digest, offset_bytes)
                offset_bytes = 0

        return frames()


def _next_batch(frames: Iterator[Frame]) -> list[Frame]:
    """Frames of about 1 MiB, none at the end."""
    batch: list[Frame] = []
    size_bytes = 0
    for frame in frames:
        batch.append(frame)
        size_bytes += 0 if isinstance(frame, Digest) else len(frame)
        if size_bytes >= BATCH_BYTES or len(batch) >= BATCH_FRAMES:
            break
    return batch
