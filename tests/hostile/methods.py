"""Every method that a server answers, from the descriptors."""

import importlib
import pkgutil
from dataclasses import dataclass

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

import rafiki.v1


@dataclass(frozen=True, slots=True)
class Method:
    """One method: its path, such as `/rafiki.v1.JobService/GetStudy`, and what it takes."""

    path: str
    request: type[Message]
    takes_stream: bool
    gives_stream: bool


def rafiki_services() -> list[str]:
    """The full names of the services of the API."""
    names = []
    for module in pkgutil.iter_modules(rafiki.v1.__path__, "rafiki.v1."):
        if module.name.endswith("_pb2"):
            file: FileDescriptor = importlib.import_module(module.name).DESCRIPTOR
            names += [service.full_name for service in file.services_by_name.values()]
    return sorted(names)


def methods_of(services: list[str]) -> list[Method]:
    """The methods of services."""
    pool = descriptor_pool.Default()
    return [_method(method) for name in services for method in pool.FindServiceByName(name).methods]


def _method(method: MethodDescriptor) -> Method:
    return Method(
        path=f"/{method.containing_service.full_name}/{method.name}",
        request=message_factory.GetMessageClass(method.input_type),
        takes_stream=method.client_streaming,
        gives_stream=method.server_streaming,
    )


# Those that gRPC brings; reading them here has their descriptors known.
OTHER_SERVICES = [
    health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
    reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name,
]
METHODS = methods_of([*rafiki_services(), *OTHER_SERVICES])
