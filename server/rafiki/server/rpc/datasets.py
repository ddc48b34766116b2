"""DatasetService: store data sets and read what they are."""

from collections.abc import AsyncIterator, Sequence
from functools import partial

import grpc

from rafiki.resources import Dataset
from rafiki.server.domain.blobs import BlobStore
from rafiki.server.domain.errors import ProtocolViolation
from rafiki.server.domain.names import DatasetName
from rafiki.server.domain.requests import check_page_size, page_position, request_key
from rafiki.server.rpc.authorization import current_principal
from rafiki.server.rpc.errors import async_statuses, statuses
from rafiki.server.rpc.pages import cut_page
from rafiki.server.rpc.streams import StreamContext, Streams
from rafiki.server.rpc.uploads import receive_content
from rafiki.server.service.datasets import DatasetService
from rafiki.v1 import datasets_pb2 as messages
from rafiki.v1.datasets_pb2_grpc import DatasetServiceServicer
from rafiki.wire.jobs import dataset_from_proto, dataset_to_proto


class DatasetServicer(DatasetServiceServicer):
    """See datasets.proto."""

    def __init__(self, datasets: DatasetService, blobs: BlobStore, streams: Streams) -> None:
        self._datasets = datasets
        self._blobs = blobs
        self._streams = streams

    async def CreateDataset(
        self,
        request_iterator: AsyncIterator[messages.CreateDatasetRequest],
        context: StreamContext,
    ) -> messages.CreateDatasetResponse:
        """Stores a data set."""
        owner = current_principal().user
        async with async_statuses(context), self._streams.admitted(context):
            opening = await self._streams.receive(context)
            if opening is None or opening.WhichOneof("part") != "metadata":
                raise ProtocolViolation("the first message must be metadata")
            metadata = opening.metadata
            content = metadata.dataset.SerializeToString(deterministic=True)
            request = request_key(metadata.request_id, content)
            dataset = dataset_from_proto(metadata.dataset, "dataset")
            self._datasets.check(dataset)
            with self._blobs.stage() as staging:
                came = await receive_content(self._streams, context, staging, dataset.digest)
                if came:
                    await self._streams.run(staging.publish)
            create = partial(self._datasets.create, dataset, owner=owner, request=request)
            created = await self._streams.run(create)
            return messages.CreateDatasetResponse(dataset=dataset_to_proto(created))

    def GetDataset(
        self, request: messages.GetDatasetRequest, context: grpc.ServicerContext
    ) -> messages.GetDatasetResponse:
        """Reads one data set."""
        with statuses(context):
            dataset = self._datasets.get(DatasetName.parse(request.name))
            return messages.GetDatasetResponse(dataset=dataset_to_proto(dataset))

    def ListDatasets(
        self, request: messages.ListDatasetsRequest, context: grpc.ServicerContext
    ) -> messages.ListDatasetsResponse:
        """Reads data sets, newest first."""
        with statuses(context):
            size = check_page_size(request.page_size)
            scope = ("ListDatasets", request.task)
            position = page_position(scope, request.page_token, [str])
            after = None if position is None else DatasetName(str(position[0]))
            page, token = cut_page(
                self._datasets.list(task=request.task, limit=size + 1, after=after),
                size=size,
                to_proto=dataset_to_proto,
                position=_position,
                scope=scope,
            )
            return messages.ListDatasetsResponse(datasets=page, next_page_token=token)


def _position(dataset: Dataset) -> Sequence[int | str]:
    return [DatasetName.parse(dataset.name).dataset]
