"""Parameters from the server, verified."""

import numpy as np

from rafiki.client.errors import DataError
from rafiki.client.transport import Transport
from rafiki.model.params import InvalidParams
from rafiki.resources import Checkpoint
from rafiki.v1 import params_pb2
from rafiki.wire.blobs import BrokenFrames, Buffer, WrongDigest, decode_params, read_blobs
from rafiki.wire.fields import InvalidField
from rafiki.wire.frame_calls import download_call, frame_of
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
    data: dict[str, Buffer] = {}
    call_frames = download_call(transport.channel)

    def fetch() -> params_pb2.DownloadBlobsResponse:
        left = [digest for digest in wanted if digest.sha256 not in data][:MAX_DIGESTS]
        size = sum(digest.size_bytes for digest in left)
        call = call_frames(
            params_pb2.DownloadBlobsRequest(digests=[digest_to_proto(d) for d in left]),
            timeout=transport.timeout_s + size / 1e6,
        )
        for digest, blob in read_blobs(map(frame_of, call), left):
            data[digest.sha256] = blob
        return params_pb2.DownloadBlobsResponse()

    try:
        while len(data) < len({digest.sha256 for digest in wanted}):
            transport.retrying(fetch)
        return decode_params(checkpoint.tensors, data)
    except (BrokenFrames, WrongDigest, InvalidField, InvalidParams) as error:
        raise DataError(f"{checkpoint.name} arrived damaged: {error}") from error
