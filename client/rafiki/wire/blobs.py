"""Blobs in streams, and parameters as blobs.

A stream carries, for each blob, one header (its digest) and then chunks in order until
`size_bytes` have been sent; an empty blob has no chunks. A frame is a `Digest` or the
bytes of a chunk. Nothing here does I/O.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np

from rafiki.model.params import Params, check_params, decode_tensor, dtype_name, tensor_bytes
from rafiki.resources import Digest, Tensor
from rafiki.v1 import params_pb2
from rafiki.wire.fields import InvalidField, at
from rafiki.wire.params import digest_from_proto, digest_to_proto

CHUNK_BYTES = 1 << 20

# hashlib lets other threads run meanwhile; for fewer bytes they would cost more than they bring.
_HASH_THREADS = 2
_HASH_ALONE_BYTES = 8 << 20

Buffer: TypeAlias = bytes | bytearray | memoryview
Frame: TypeAlias = Digest | Buffer


class BrokenFrames(ValueError):
    """The frames of a stream are out of order, too many or too few."""


class WrongDigest(ValueError):
    """The bytes of a blob do not hash to its digest. Both as 64 hexadecimal digits."""

    def __init__(self, expected: str, actual: str) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(f"blob {expected} has the digest {actual}")


def digest_of(data: Buffer) -> Digest:
    """The digest of `data`."""
    return Digest(hashlib.sha256(data).hexdigest(), memoryview(data).nbytes)


def frames(
    blobs: Iterable[tuple[Digest, Buffer]],
    *,
    chunk_bytes: int = CHUNK_BYTES,
    offset_bytes: int = 0,
) -> Iterator[Frame]:
    """The frames of blobs, one after the other.

    Args:
        blobs: Digests and contiguous bytes; not compared with each other.
        chunk_bytes: The most bytes in a chunk.
        offset_bytes: Bytes of the first blob to skip.
    """
    for digest, data in blobs:
        yield digest
        yield from chunks(data, chunk_bytes=chunk_bytes, offset_bytes=offset_bytes)
        offset_bytes = 0


def chunks(
    data: Buffer, *, chunk_bytes: int = CHUNK_BYTES, offset_bytes: int = 0
) -> Iterator[memoryview]:
    """The bytes of a blob in chunks, which are views of it; none if it is empty."""
    view = memoryview(data).cast("B") if data else memoryview(b"")
    for start in range(offset_bytes, len(view), chunk_bytes):
        yield view[start : start + chunk_bytes]


def upload_requests(parts: Iterable[Frame]) -> Iterator[params_pb2.UploadBlobsRequest]:
    """The messages of UploadBlobs for frames."""
    for frame in parts:
        if isinstance(frame, Digest):
            yield params_pb2.UploadBlobsRequest(header=digest_to_proto(frame))
        else:
            yield params_pb2.UploadBlobsRequest(chunk=bytes(frame))


def download_responses(parts: Iterable[Frame]) -> Iterator[params_pb2.DownloadBlobsResponse]:
    """The messages of DownloadBlobs for frames."""
    for frame in parts:
        if isinstance(frame, Digest):
            yield params_pb2.DownloadBlobsResponse(header=digest_to_proto(frame))
        else:
            yield params_pb2.DownloadBlobsResponse(chunk=bytes(frame))


def frame_from_proto(
    message: params_pb2.UploadBlobsRequest | params_pb2.DownloadBlobsResponse, path: str = ""
) -> Frame:
    """The frame of a message of either stream."""
    match message.WhichOneof("frame"):
        case "header":
            return digest_from_proto(message.header, at(path, "header"))
        case "chunk":
            return message.chunk
    raise InvalidField(at(path, "header"), "must be set, or chunk")


class FrameReader:
    """Follows the frames of one stream and verifies every blob. Not thread-safe.

    The bytes are left to the caller, who stores those of `current` chunk by chunk.
    """

    def __init__(self, *, chunk_bytes: int = CHUNK_BYTES) -> None:
        self.current: Digest | None = None
        self._chunk_bytes = chunk_bytes
        self._hash = hashlib.sha256()
        self._left = 0

    def accept(self, frame: Frame) -> Digest | None:
        """The digest of the blob that this frame completes, now verified; mostly None.

        Raises:
            BrokenFrames: The frame may not come here.
            WrongDigest: It completes a blob whose bytes do not match.
        """
        if isinstance(frame, Digest):
            if self.current is not None:
                raise BrokenFrames(f"a header came with {self._left} bytes of a blob to come")
            self.current = frame
            self._hash = hashlib.sha256()
            self._left = frame.size_bytes
        else:
            self._chunk(frame)
        if self._left or self.current is None:
            return None
        return self._complete(self.current)

    def end(self) -> None:
        """Raises BrokenFrames if the stream may not end here."""
        if self.current is not None:
            raise BrokenFrames(f"the stream ended with {self._left} bytes of a blob to come")

    def _chunk(self, chunk: Buffer) -> None:
        if self.current is None:
            raise BrokenFrames("a chunk came before its header")
        if not 1 <= len(chunk) <= self._chunk_bytes:
            raise BrokenFrames(f"a chunk has 1 to {self._chunk_bytes} bytes, not {len(chunk)}")
        if len(chunk) > self._left:
            raise BrokenFrames(f"a chunk of {len(chunk)} bytes came where {self._left} are to come")
        self._hash.update(chunk)
        self._left -= len(chunk)

    def _complete(self, digest: Digest) -> Digest:
        self.current = None
        actual = self._hash.hexdigest()
        if actual != digest.sha256:
            raise WrongDigest(digest.sha256, actual)
        return digest


def read_blobs(
    parts: Iterable[Frame], expected: Iterable[Digest], *, chunk_bytes: int = CHUNK_BYTES
) -> Iterator[tuple[Digest, Buffer]]:
    """The blobs of a stream, each verified and held in memory as a whole.

    Args:
        parts: The frames.
        expected: The digests asked for, in order.
        chunk_bytes: The most bytes in a chunk.

    Raises:
        BrokenFrames: The stream is malformed, or holds other blobs than those expected.
        WrongDigest: The bytes of a blob do not match.
    """
    reader = FrameReader(chunk_bytes=chunk_bytes)
    wanted = iter(expected)
    held: list[Buffer] = []
    for frame in parts:
        if isinstance(frame, Digest):
            if frame != next(wanted, None):
                raise BrokenFrames(f"blob {frame.sha256} was not asked for here")
            held = []
        else:
            held.append(frame)
        digest = reader.accept(frame)
        if digest is not None:
            yield digest, held[0] if len(held) == 1 else b"".join(held)
    reader.end()
    for digest in wanted:
        raise BrokenFrames(f"the stream ended without blob {digest.sha256}")


def encode_params(
    params: Params, updates: Mapping[str, int] | None = None
) -> tuple[list[Tensor], dict[str, Buffer]]:
    """Parameters as tensors sorted by path, and their bytes by SHA-256.

    The bytes are views of the arrays where possible: these must not change meanwhile.

    Args:
        params: Arrays by path.
        updates: By path, the updates since the start checkpoint; left out: unknown, 0.

    Raises:
        InvalidParams: The parameters break a rule of `rafiki.model.params`.
    """
    check_params(params)
    counts = updates or {}
    paths = sorted(params)
    contents = [tensor_bytes(params[path]) for path in paths]
    tensors: list[Tensor] = []
    blobs: dict[str, Buffer] = {}
    for path, data, digest in zip(paths, contents, _digests(contents), strict=True):
        array = params[path]
        blobs.setdefault(digest.sha256, data)
        tensors.append(
            Tensor(
                path=path,
                dtype=dtype_name(array),
                shape=tuple(array.shape),
                digest=digest,
                updates=counts.get(path, 0),
            )
        )
    return tensors, blobs


def _digests(contents: Sequence[Buffer]) -> list[Digest]:
    """The digests of contents; many bytes are hashed on several cores."""
    if sum(map(len, contents)) < _HASH_ALONE_BYTES:
        return list(map(digest_of, contents))
    with ThreadPoolExecutor(_HASH_THREADS) as pool:
        return list(pool.map(digest_of, contents))


def decode_params(
    tensors: Sequence[Tensor], blobs: Mapping[str, Buffer], *, copy: bool = True
) -> dict[str, np.ndarray]:
    """The parameters that `encode_params` gave `tensors` and `blobs` for.

    The blobs are known to match their digests, as those of `read_blobs` are.

    Args:
        tensors: The manifest.
        blobs: By SHA-256.
        copy: Whether the arrays can be written to; otherwise they may be views of the blobs.

    Raises:
        InvalidParams: A tensor does not fit its bytes.
        KeyError: A blob is missing; the argument is its SHA-256.
    """
    return {
        tensor.path: decode_tensor(
            blobs[tensor.digest.sha256], tensor.dtype, tensor.shape, copy=copy
        )
        for tensor in tensors
    }
