"""ParameterService: blobs in and out, checkpoints."""

from collections.abc import AsyncIterator, Iterator

import grpc

from rafiki.resources import Checkpoint
from rafiki.server.domain.errors import InvalidArgument, ResourceNotFound
from rafiki.server.domain.names import CheckpointName, StudyName
from rafiki.server.domain.requests import check_page_size, page_position, request_key
from rafiki.server.rpc.errors import statuses, stream_statuses
from rafiki.server.rpc.pages import cut_page
from rafiki.server.rpc.streams import BATCH_BYTES, BATCH_FRAMES, StreamContext, Streams
from rafiki.server.rpc.uploads import receive_frames
from rafiki.server.service.checkpoints import CheckpointService
from rafiki.server.store.blobs import BlobStore
from rafiki.v1 import params_pb2 as messages
from rafiki.v1.params_pb2_grpc import ParameterServiceServicer
from rafiki.wire.blobs import Frame, download_responses, frame_from_proto
from rafiki.wire.params import (
    checkpoint_from_proto,
    checkpoint_to_proto,
    digest_to_proto,
    digests_from_proto,
)


class ParameterServicer(ParameterServiceServicer):
    """See params.proto."""

    def __init__(self, checkpoints: CheckpointService, blobs: BlobStore, streams: Streams) -> None:
        self._checkpoints = checkpoints
        self._blobs = blobs
        self._streams = streams

    def FindMissingBlobs(
        self, request: messages.FindMissingBlobsRequest, context: grpc.ServicerContext
    ) -> messages.FindMissingBlobsResponse:
        """Answers which blobs must be uploaded, each once."""
        with statuses(context):
            missing = self._blobs.missing(digests_from_proto(request.digests))
            return messages.FindMissingBlobsResponse(
                missing_digests=[digest_to_proto(digest) for digest in missing]
            )

    async def UploadBlobs(
        self,
        request_iterator: AsyncIterator[messages.UploadBlobsRequest],
        context: StreamContext,
    ) -> messages.UploadBlobsResponse:
        """Stores blobs."""
        async with stream_statuses(context), self._streams.admitted(context):
            with self._blobs.stage() as staging:
                try:
                    size_bytes = await receive_frames(
                        self._streams, context, staging, frame_from_proto
                    )
                finally:
                    await self._streams.run(staging.publish)
            return messages.UploadBlobsResponse(committed_bytes=size_bytes)

    async def DownloadBlobs(
        self,
        request: messages.DownloadBlobsRequest,
        context: StreamContext,
    ) -> AsyncIterator[messages.DownloadBlobsResponse]:
        """Streams blobs."""
        async with stream_statuses(context), self._streams.admitted(context):
            frames = await self._streams.run(self._open_frames, request)
            while batch := await self._streams.run(_next_batch, frames):
                for response in download_responses(batch):
                    yield response

    def _open_frames(self, request: messages.DownloadBlobsRequest) -> Iterator[Frame]:
        digests = digests_from_proto(request.digests)
        if not digests:
            raise InvalidArgument([("digests", "must name a blob at least")])
        if not 0 <= request.offset_bytes <= digests[0].size_bytes:
            rule = f"must be in [0, {digests[0].size_bytes}], the size of the first blob"
            raise InvalidArgument([("offset_bytes", rule)])
        missing = self._blobs.missing(digests)
        if missing:
            raise ResourceNotFound(f"blobs/{missing[0].sha256}")

        def frames() -> Iterator[Frame]:
            offset_bytes = request.offset_bytes
            for digest in digests:
                yield digest
                yield from self._blobs.chunks(digest, offset_bytes)
                offset_bytes = 0

        return frames()

    def CreateCheckpoint(
        self, request: messages.CreateCheckpointRequest, context: grpc.ServicerContext
    ) -> messages.CreateCheckpointResponse:
        """Publishes a manifest. The lease makes it idempotent, so the request id is not kept."""
        with statuses(context):
            request_key(request.request_id, b"")
            study = StudyName.parse(request.parent, "parent")
            if not request.lease_token:
                raise InvalidArgument([("lease_token", "must be set")])
            checkpoint = checkpoint_from_proto(request.checkpoint, "checkpoint")
            created = self._checkpoints.create(study, checkpoint, request.lease_token)
            return messages.CreateCheckpointResponse(checkpoint=checkpoint_to_proto(created))

    def GetCheckpoint(
        self, request: messages.GetCheckpointRequest, context: grpc.ServicerContext
    ) -> messages.GetCheckpointResponse:
        """Reads a manifest."""
        with statuses(context):
            checkpoint = self._checkpoints.get(CheckpointName.parse(request.name))
            return messages.GetCheckpointResponse(checkpoint=checkpoint_to_proto(checkpoint))

    def ListCheckpoints(
        self, request: messages.ListCheckpointsRequest, context: grpc.ServicerContext
    ) -> messages.ListCheckpointsResponse:
        """Reads the checkpoints of a study."""
        with statuses(context):
            study = StudyName.parse(request.parent, "parent")
            size = check_page_size(request.page_size)
            scope = ("ListCheckpoints", request.parent)
            position = page_position(scope, request.page_token, [int, int])
            after = None
            if position is not None:
                trial, attempt = map(int, position)
                after = CheckpointName(study.job, study.study, trial, attempt)
            page, token = cut_page(
                self._checkpoints.list(study, limit=size + 1, after=after),
                size=size,
                to_proto=checkpoint_to_proto,
                position=_position,
                scope=scope,
            )
            return messages.ListCheckpointsResponse(checkpoints=page, next_page_token=token)


def _position(checkpoint: Checkpoint) -> list[int | str]:
    name = CheckpointName.parse(checkpoint.name)
    return [name.trial, name.attempt]


def _next_batch(frames: Iterator[Frame]) -> list[Frame]:
    """Frames of about 1 MiB, none at the end."""
    batch: list[Frame] = []
    size_bytes = 0
    for frame in frames:
        batch.append(frame)
        size_bytes += len(frame) if isinstance(frame, bytes) else 0
        if size_bytes >= BATCH_BYTES or len(batch) >= BATCH_FRAMES:
            break
    return batch
