"""Servers and workers, as the tests of the services have them, and checkpoints."""

from collections.abc import Callable

import numpy as np
import pytest
from tests.server.live import TIMEOUT_S, RunningServer
from tests.server.rpc.conftest import clock, connect, random_job, start_server

from rafiki.v1 import advisor_pb2, params_pb2
from rafiki.v1.params_pb2_grpc import ParameterServiceStub
from rafiki.wire.blobs import digest_of, encode_params, frames, upload_requests
from rafiki.wire.params import tensor_to_proto

__all__ = ["clock", "connect", "random_job", "save", "start_server"]

Save = Callable[[RunningServer, advisor_pb2.TrialAssignment, int], None]


@pytest.fixture(scope="module")
def dialect() -> str:
    """What is checked, copied and restored here is a file."""
    return "sqlite"


@pytest.fixture
def save() -> Save:
    """Publishes a checkpoint of one tensor, full of a number, under an assignment's lease."""

    def publish(
        server: RunningServer, assignment: advisor_pb2.TrialAssignment, number: int
    ) -> None:
        tensors, contents = encode_params({"w": np.full(1000, number, np.float32)})
        stub = ParameterServiceStub(server.channel)
        blobs = ((digest_of(data), data) for data in map(bytes, contents.values()))
        stub.UploadBlobs(upload_requests(frames(blobs)), timeout=TIMEOUT_S)
        stub.CreateCheckpoint(
            params_pb2.CreateCheckpointRequest(
                parent=assignment.trial.name.partition("/trials/")[0],
                checkpoint=params_pb2.Checkpoint(tensors=map(tensor_to_proto, tensors)),
                lease_token=assignment.lease.token,
            ),
            timeout=TIMEOUT_S,
        )

    return publish
