"""Parameters from the server, verified."""

from collections.abc import Iterable, Iterator

import numpy as np

from rafiki.client.errors import DataError
from rafiki.client.transport import Transport
from rafiki.model.params import InvalidParams
from rafiki.resources import Checkpoint
from rafiki.v1 import params_pb2, params_pb2_grpc
from rafiki.wire.blobs import (
    BrokenFrames,
    Frame,
    WrongDigest,
    decode_params,
    frame_from_proto,
    read_blobs,
)
from rafiki.wire.params import digest_to_proto

# The server takes 20,000 digests; a request stays far below 4 MiB.
MAX_DIGESTS = 10_000


def download(transport: Transport, checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint by path; equal ones are fetched once.

    Raises:
        DataError: What came is not what the manifest says.
        RafikiError: The call failed.
    """
    wanted = list(dict.fromkeys(tensor.digest for tensor in checkpoint.tensors))
    data: dict[str, bytes] = {}

    def fetch() -> params_pb2.DownloadBlobsResponse:
        left = [digest for digest in wanted if digest.sha256 not in data][:MAX_DIGESTS]
        stub = params_pb2_grpc.ParameterServiceStub(transport.channel)
        size = sum(digest.size_bytes for digest in left)
        call = stub.DownloadBlobs(
            params_pb2.DownloadBlobsRequest(digests=[digest_to_proto(d) for d in left]),
            timeout=transport.timeout_s + size / 1e6,
        )
        for digest, blob in read_blobs(_frames(call), left):
            data[digest.sha256] = blob
        return params_pb2.DownloadBlobsResponse()

    try:
        while len(data) < len({digest.sha256 for digest in wanted}):
            transport.retrying(fetch)
        return decode_params(checkpoint.tensors, data)
    except (BrokenFrames, WrongDigest, InvalidParams) as error:
        raise DataError(f"{checkpoint.name} arrived damaged: {error}") from error


def _frames(responses: Iterable[params_pb2.DownloadBlobsResponse]) -> Iterator[Frame]:
    for response in responses:
        yield frame_from_proto(response)
