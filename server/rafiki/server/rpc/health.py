"""The health service, with its latest method, which gRPC declares and leaves to others."""

from collections.abc import Iterable
from typing import Any, TypeAlias

import grpc
from grpc_health.v1 import health_pb2 as messages
from grpc_health.v1._async import HealthServicer

# The stubs are of a release without them.
HealthListRequest: TypeAlias = messages.HealthListRequest  # type: ignore[attr-defined,name-defined]
HealthListResponse: TypeAlias = messages.HealthListResponse  # type: ignore[attr-defined,name-defined]


class Health(HealthServicer):
    """See `grpc.health.v1`.

    Args:
        services: The full names of those that are told about, "" for the server as a whole.
    """

    def __init__(self, services: Iterable[str]) -> None:
        super().__init__()
        self._services = tuple(services)

    async def start(self) -> None:
        """All of them serve from now on."""
        for service in self._services:
            await self.set(service, messages.HealthCheckResponse.SERVING)

    async def List(
        self, request: HealthListRequest, context: "grpc.aio.ServicerContext[Any, Any]"
    ) -> HealthListResponse:
        """Tells about all of them."""
        response = HealthListResponse()
        for service in self._services:
            asked = messages.HealthCheckRequest(service=service)
            response.statuses[service].CopyFrom(await self.Check(asked, context))
        return response
