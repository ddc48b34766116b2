"""ModelService: register and read model templates."""

from collections.abc import AsyncIterator, Sequence
from functools import partial

import grpc

from rafiki.resources import Model
from rafiki.server.domain.blobs import BlobStore
from rafiki.server.domain.errors import ProtocolViolation
from rafiki.server.domain.names import ModelName
from rafiki.server.domain.requests import check_page_size, page_position, request_key
from rafiki.server.rpc.authorization import current_principal
from rafiki.server.rpc.errors import async_statuses, statuses
from rafiki.server.rpc.pages import cut_page
from rafiki.server.rpc.streams import StreamContext, Streams
from rafiki.server.rpc.uploads import receive_content
from rafiki.server.service.models import ModelService
from rafiki.v1 import models_pb2 as messages
from rafiki.v1.models_pb2_grpc import ModelServiceServicer
from rafiki.wire.jobs import model_from_proto, model_to_proto


class ModelServicer(ModelServiceServicer):
    """See models.proto."""

    def __init__(self, models: ModelService, blobs: BlobStore, streams: Streams) -> None:
        self._models = models
        self._blobs = blobs
        self._streams = streams

    async def CreateModel(
        self,
        request_iterator: AsyncIterator[messages.CreateModelRequest],
        context: StreamContext,
    ) -> messages.CreateModelResponse:
        """Registers a template; nothing is stored of one that is rejected."""
        owner = current_principal().user
        async with async_statuses(context), self._streams.admitted(context):
            opening = await self._streams.receive(context)
            if opening is None or opening.WhichOneof("part") != "metadata":
                raise ProtocolViolation("the first message must be metadata")
            metadata = opening.metadata
            content = metadata.model.SerializeToString(deterministic=True)
            request = request_key(metadata.request_id, content)
            model = model_from_proto(metadata.model, "model")
            self._models.check(model)
            with self._blobs.stage() as staging:
                came = await receive_content(self._streams, context, staging, model.source)
                if came:
                    with staging.open(model.source) as source:
                        await self._streams.run(self._models.check_source, model, source)
                    await self._streams.run(staging.publish)
            create = partial(self._models.create, model, owner=owner, request=request)
            created = await self._streams.run(create)
            return messages.CreateModelResponse(model=model_to_proto(created))

    def GetModel(
        self, request: messages.GetModelRequest, context: grpc.ServicerContext
    ) -> messages.GetModelResponse:
        """Reads one model."""
        with statuses(context):
            model = self._models.get(ModelName.parse(request.name))
            return messages.GetModelResponse(model=model_to_proto(model))

    def ListModels(
        self, request: messages.ListModelsRequest, context: grpc.ServicerContext
    ) -> messages.ListModelsResponse:
        """Reads models, newest first."""
        with statuses(context):
            size = check_page_size(request.page_size)
            scope = ("ListModels", request.task)
            position = page_position(scope, request.page_token, [str])
            after = None if position is None else ModelName(str(position[0]))
            page, token = cut_page(
                self._models.list(task=request.task, limit=size + 1, after=after),
                size=size,
                to_proto=model_to_proto,
                position=_position,
                scope=scope,
            )
            return messages.ListModelsResponse(models=page, next_page_token=token)


def _position(model: Model) -> Sequence[int | str]:
    return [ModelName.parse(model.name).model]
