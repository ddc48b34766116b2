"""ParameterService: blobs in and out, checkpoints."""

import grpc

from rafiki.resources import Checkpoint
from rafiki.server.domain.blobs import BlobStore, missing_blobs
from rafiki.server.domain.errors import InvalidArgument
from rafiki.server.domain.names import CheckpointName, StudyName
from rafiki.server.domain.requests import check_page_size, page_position, request_key
from rafiki.server.rpc.blob_streams import BlobStreams
from rafiki.server.rpc.errors import statuses
from rafiki.server.rpc.pages import cut_page
from rafiki.server.rpc.streams import Streams
from rafiki.server.service.checkpoints import CheckpointService
from rafiki.server.service.collection import Collector
from rafiki.v1 import params_pb2 as messages
from rafiki.v1.params_pb2_grpc import (
    ParameterServiceServicer,
    add_ParameterServiceServicer_to_server,
)
from rafiki.wire.params import (
    checkpoint_from_proto,
    checkpoint_to_proto,
    digest_to_proto,
    digests_from_proto,
)

# Of the checkpoints that were collected, in one answer.
_MAX_NAMES = 1000


class ParameterServicer(  # type: ignore[misc]  # frames take the place of two messages
    BlobStreams, ParameterServiceServicer
):
    """See params.proto."""

    def __init__(
        self,
        checkpoints: CheckpointService,
        collector: Collector,
        blobs: BlobStore,
        streams: Streams,
    ) -> None:
        super().__init__(blobs, streams)
        self._checkpoints = checkpoints
        self._collector = collector

    def add_to(self, server: grpc.aio.Server) -> None:
        """Has a server make the calls of ParameterService here."""
        add_ParameterServiceServicer_to_server(self, server)
        self.add_frames_to(server)

    def FindMissingBlobs(
        self, request: messages.FindMissingBlobsRequest, context: grpc.ServicerContext
    ) -> messages.FindMissingBlobsResponse:
        """Answers which blobs must be uploaded, each once."""
        with statuses(context):
            missing = missing_blobs(self._blobs, digests_from_proto(request.digests))
            return messages.FindMissingBlobsResponse(
                missing_digests=[digest_to_proto(digest) for digest in missing]
            )

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

    def CollectGarbage(
        self, request: messages.CollectGarbageRequest, context: grpc.ServicerContext
    ) -> messages.CollectGarbageResponse:
        """Collects garbage, or says what there is."""
        with statuses(context):
            collector = self._collector
            collected = collector.preview() if request.dry_run else collector.collect()
            return messages.CollectGarbageResponse(
                checkpoints=collected.checkpoints[:_MAX_NAMES],
                checkpoint_count=len(collected.checkpoints),
                blob_count=collected.blobs,
                size_bytes=collected.size_bytes,
            )


def _position(checkpoint: Checkpoint) -> list[int | str]:
    name = CheckpointName.parse(checkpoint.name)
    return [name.trial, name.attempt]
