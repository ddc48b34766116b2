"""Sources, data sets and tensors on their way to the server and back."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from rafiki.client.errors import BlobsMissing
from rafiki.client.transport import Request, Response, Transport
from rafiki.resources import Digest
from rafiki.v1 import params_pb2, params_pb2_grpc
from rafiki.wire.blobs import CHUNK_BYTES

# Bytes sent so far, bytes in total.
OnProgress = Callable[[int, int], None]


def digest_of_file(path: Path) -> Digest:
    """The digest of what the file holds now."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return Digest(sha256, file.tell())


def chunks_of_file(path: Path) -> Iterator[bytes]:
    """The bytes of the file, in pieces of at most 1 MiB."""
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk


def counted(chunks: Iterator[bytes], total: int, on_progress: OnProgress | None) -> Iterator[bytes]:
    """The same chunks, each told to `on_progress` once the next one is asked for."""
    sent = 0
    for chunk in chunks:
        yield chunk
        sent += len(chunk)
        if on_progress is not None:
            on_progress(sent, total)


def is_stored(transport: Transport, digest: Digest) -> bool:
    """Whether the server has the blob already."""
    stub = params_pb2_grpc.ParameterServiceStub(transport.channel)
    request = params_pb2.FindMissingBlobsRequest(
        digests=[params_pb2.Digest(sha256=digest.sha256, size_bytes=digest.size_bytes)]
    )
    return not transport.unary(stub.FindMissingBlobs, request).missing_digests


def upload(
    transport: Transport,
    method: "grpc.StreamUnaryMultiCallable[Request, Response]",
    requests: Callable[[bool], Iterator[Request]],
    size_bytes: int,
    *,
    is_stored: bool,
) -> Response:
    """The response to a stream that carries a blob, without its bytes if it is stored.

    Args:
        transport: To the server.
        method: The call.
        requests: Its requests, with the bytes or without.
        size_bytes: Of the blob.
        is_stored: Whether the server has said that it has the blob.
    """
    try:
        return transport.uploading(method, lambda: requests(not is_stored), size_bytes)
    except BlobsMissing:
        if not is_stored:
            raise
        # Nothing named it, and it was collected in the meantime.
        return transport.uploading(method, lambda: requests(True), size_bytes)
