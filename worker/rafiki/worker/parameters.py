"""Blobs and checkpoints, to and from the server."""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import grpc

from rafiki.resources import Checkpoint, Digest
from rafiki.v1 import params_pb2, params_pb2_grpc
from rafiki.wire.blobs import (
    CHUNK_BYTES,
    BrokenFrames,
    Buffer,
    Frame,
    FrameReader,
    WrongDigest,
    decode_params,
    encode_params,
    frames,
    read_blobs,
)
from rafiki.wire.fields import InvalidField
from rafiki.wire.frame_calls import download_call, frame_of, upload_call
from rafiki.wire.params import (
    checkpoint_from_proto,
    checkpoint_to_proto,
    digest_from_proto,
    digest_to_proto,
)
from rafiki.worker.cache import FileCache, MemoryCache
from rafiki.worker.calls import Caller, CallRefused
from rafiki.worker.framing import Array

Item = TypeVar("Item")

# Streams of bytes get a deadline by size: at least this many per second, and a start.
SLOWEST_BYTES_PER_S = 1 << 20
STREAM_START_S = 60.0
LONGEST_STREAM_S = 24 * 3600.0

MAX_DIGESTS = 20_000
_CHECKPOINT_ATTEMPTS = 5


class TransferFailed(Exception):
    """A blob or checkpoint cannot be had or stored; the message says which and why."""


class Parameters:
    """The worker's side of ParameterService. For one thread.

    `sent_bytes` and `received_bytes` count the content of blobs, also where a stream broke.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        caller: Caller,
        files: FileCache,
        memory: MemoryCache,
    ) -> None:
        self._stub = params_pb2_grpc.ParameterServiceStub(channel)
        self._upload = upload_call(channel)
        self._download_frames = download_call(channel)
        self._caller = caller
        self._files = files
        self._memory = memory
        self._chunk_bytes = CHUNK_BYTES
        self.sent_bytes = 0
        self.received_bytes = 0

    def use_chunks(self, chunk_bytes: int) -> None:
        """Uploads in chunks of this size, as the server of this session wants. Thread-safe."""
        self._chunk_bytes = chunk_bytes

    def fetch_files(self, digests: Sequence[Digest]) -> list[Path]:
        """The files of some blobs, downloaded where they are not in the cache.

        Raises:
            TransferFailed, WorkerClosing: As they say.
        """
        keep = {digest.sha256 for digest in digests}
        paths = [self._files.find(digest) or self._fetch_file(digest) for digest in digests]
        self._files.prune(keep)
        return paths

    def fetch_checkpoint(self, name: str) -> dict[str, Array]:
        """The tensors of a checkpoint by path, those not in memory downloaded and verified.

        They cannot be written to: they share the memory that caches them.

        Raises:
            TransferFailed, WorkerClosing: As they say.
        """
        try:
            response = self._caller.call(
                self._stub.GetCheckpoint, params_pb2.GetCheckpointRequest(name=name)
            )
            checkpoint = checkpoint_from_proto(response.checkpoint)
            blobs: dict[str, Buffer] = {}
            missing: dict[str, Digest] = {}
            for tensor in checkpoint.tensors:
                data = self._memory.get(tensor.digest.sha256)
                if data is None:
                    missing[tensor.digest.sha256] = tensor.digest
                else:
                    blobs[tensor.digest.sha256] = data
            for group in _groups(list(missing.values()), MAX_DIGESTS):
                blobs.update(self._caller.repeat(partial(self._download, group)))
            return decode_params(checkpoint.tensors, blobs, copy=False)
        except (CallRefused, BrokenFrames, WrongDigest, InvalidField) as error:
            raise TransferFailed(f"checkpoint {name}: {error}") from error

    def save_checkpoint(
        self,
        study: str,
        lease_token: str,
        params: Mapping[str, Array],
        updates: Mapping[str, int],
    ) -> str:
        """Stores a checkpoint, sending the tensors that the server lacks; returns its name.

        Nobody may change `params` from now on: they are cached without a copy.

        Raises:
            LeaseLost: The trial is no longer this worker's.
            TransferFailed, WorkerClosing: As they say.
        """
        tensors, blobs = encode_params(params, updates)
        for sha256, data in blobs.items():
            self._memory.put(sha256, data)
        digests = {tensor.digest.sha256: tensor.digest for tensor in tensors}
        request = params_pb2.CreateCheckpointRequest(
            parent=study,
            checkpoint=checkpoint_to_proto(Checkpoint(tensors=tuple(tensors))),
            lease_token=lease_token,
            request_id=str(uuid.uuid4()),
        )
        for attempts_left in reversed(range(_CHECKPOINT_ATTEMPTS)):
            for group in _groups(list(digests.values()), MAX_DIGESTS):
                self._upload_missing(group, blobs)
            try:
                response = self._caller.call(self._stub.CreateCheckpoint, request)
                return response.checkpoint.name
            except CallRefused as refusal:
                # Blobs nobody refers to may have been collected in between.
                if refusal.reason != "BLOBS_MISSING" or not attempts_left:
                    raise
        raise AssertionError("unreachable")

    def _upload_missing(self, digests: Sequence[Digest], blobs: Mapping[str, Buffer]) -> None:
        request = params_pb2.FindMissingBlobsRequest(digests=map(digest_to_proto, digests))

        def attempt() -> None:
            # Asked again each time: what a broken stream left behind is not sent twice.
            answer = self._caller.call(self._stub.FindMissingBlobs, request)
            missing = [digest_from_proto(message) for message in answer.missing_digests]
            if missing:
                parts = frames(
                    ((digest, blobs[digest.sha256]) for digest in missing),
                    chunk_bytes=self._chunk_bytes,
                )
                sent = self._counted(parts)
                self._caller.result(self._upload.future(sent, timeout=_stream_timeout_s(missing)))

        self._caller.repeat(attempt)

    def _download(self, digests: Sequence[Digest]) -> dict[str, Buffer]:
        blobs: dict[str, Buffer] = {}
        for digest, data in read_blobs(self._frames(digests), digests):
            blobs[digest.sha256] = data
            self._memory.put(digest.sha256, data)
        return blobs

    def _fetch_file(self, digest: Digest) -> Path:
        def attempt() -> None:
            reader = FrameReader()
            with self._files.writing(digest) as file:
                for frame in self._frames([digest]):
                    if not isinstance(frame, Digest):
                        file.write(frame)
                    elif frame != digest:
                        raise BrokenFrames(f"blob {frame.sha256} was not asked for")
                    reader.accept(frame)
                reader.end()

        try:
            self._caller.repeat(attempt)
        except (CallRefused, BrokenFrames, WrongDigest, InvalidField, OSError) as error:
            raise TransferFailed(f"blob {digest.sha256}: {error}") from error
        path = self._files.find(digest)
        if path is None:
            raise TransferFailed(f"blob {digest.sha256} did not stay in the cache")
        return path

    def _frames(self, digests: Sequence[Digest]) -> Iterator[Frame]:
        request = params_pb2.DownloadBlobsRequest(digests=map(digest_to_proto, digests))
        call = self._download_frames(request, timeout=_stream_timeout_s(digests))
        with self._caller.cancellable(call):
            for received in call:
                frame = frame_of(received)
                self.received_bytes += 0 if isinstance(frame, Digest) else len(frame)
                yield frame

    def _counted(self, parts: Iterable[Frame]) -> Iterator[Frame]:
        for frame in parts:
            self.sent_bytes += 0 if isinstance(frame, Digest) else len(frame)
            yield frame


def _stream_timeout_s(digests: Sequence[Digest]) -> float:
    size_bytes = sum(digest.size_bytes for digest in digests)
    # A time too long for gRPC is one that is over at once, after which the worker tries again.
    return min(STREAM_START_S + size_bytes / SLOWEST_BYTES_PER_S, LONGEST_STREAM_S)


def _groups(items: list[Item], size: int) -> Iterator[list[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
