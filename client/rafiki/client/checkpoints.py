"""Parameters from the server, verified; and what became of others."""

from dataclasses import dataclass

import numpy as np

from rafiki.client.errors import DataError
from rafiki.client.transport import Transport
from rafiki.model.params import InvalidParams
from rafiki.resources import Checkpoint, Digest, Tensor
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointDiff:
    """The paths of tensors in a new checkpoint against an old one, sorted.

    `moved_bytes` are those of blobs that whoever has the old one would have to fetch.
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]
    moved_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """What a collection removed, or would: `size_bytes` are those of the blobs.

    `checkpoints` holds the names of some of them, all where there are not very many.
    """

    checkpoints: tuple[str, ...]
    checkpoint_count: int
    blob_count: int
    size_bytes: int


def diff(old: Checkpoint, new: Checkpoint) -> CheckpointDiff:
    """Compares two manifests. A tensor is unchanged if bytes, dtype and shape are."""
    before = {tensor.path: tensor for tensor in old.tensors}
    after = {tensor.path: tensor for tensor in new.tensors}
    both = sorted(before.keys() & after.keys())
    same = {path for path in both if _content(before[path]) == _content(after[path])}
    had = {tensor.digest for tensor in old.tensors}
    moved = {tensor.digest for tensor in new.tensors} - had
    return CheckpointDiff(
        added=tuple(sorted(after.keys() - before.keys())),
        removed=tuple(sorted(before.keys() - after.keys())),
        changed=tuple(path for path in both if path not in same),
        unchanged=tuple(path for path in both if path in same),
        moved_bytes=sum(digest.size_bytes for digest in moved),
    )


def garbage(response: params_pb2.CollectGarbageResponse) -> Garbage:
    """What the server says that it collected."""
    return Garbage(
        checkpoints=tuple(response.checkpoints),
        checkpoint_count=response.checkpoint_count,
        blob_count=response.blob_count,
        size_bytes=response.size_bytes,
    )


def _content(tensor: Tensor) -> tuple[Digest, str, tuple[int, ...]]:
    return tensor.digest, tensor.dtype, tensor.shape
