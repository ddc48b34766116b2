"""The two calls that carry blobs, without the copies of generated messages.

A frame on the wire is an `UploadBlobsRequest` or a `DownloadBlobsResponse`, which have the
same two fields. A chunk is a tag, a length and the bytes: written here by hand they are copied
once, read here they are not copied at all. Whatever else a valid message may look like (fields
repeated, or of a later release) is left to the generated code.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from rafiki.resources import Digest
from rafiki.v1 import params_pb2
from rafiki.wire.blobs import Buffer, Frame, frame_from_proto
from rafiki.wire.fields import InvalidField
from rafiki.wire.params import digest_to_proto

SERVICE = "rafiki.v1.ParameterService"
UPLOAD = f"/{SERVICE}/UploadBlobs"
DOWNLOAD = f"/{SERVICE}/DownloadBlobs"

UploadCall: TypeAlias = "grpc.StreamUnaryMultiCallable[Frame, params_pb2.UploadBlobsResponse]"
DownloadCall: TypeAlias = "grpc.UnaryStreamMultiCallable[params_pb2.DownloadBlobsRequest, Received]"

# Field 2, length-delimited: `chunk` of either message.
_CHUNK_TAG = 0x12
_MAX_LENGTH_BYTES = 4

# What was received: a frame, or why it is none, for the reader of the stream to raise. gRPC
# itself would hide an error of a deserializer behind a status of its own.
Received: TypeAlias = Frame | InvalidField


def upload_call(channel: grpc.Channel) -> UploadCall:
    """UploadBlobs, of frames."""
    call: UploadCall = channel.stream_unary(
        UPLOAD,
        request_serializer=encode_frame,
        response_deserializer=params_pb2.UploadBlobsResponse.FromString,
    )
    return call


def download_call(channel: grpc.Channel) -> DownloadCall:
    """DownloadBlobs, of frames."""
    call: DownloadCall = channel.unary_stream(
        DOWNLOAD,
        request_serializer=params_pb2.DownloadBlobsRequest.SerializeToString,
        response_deserializer=decode_frame,
    )
    return call


def encode_frame(frame: Frame) -> bytes:
    """The message of either stream for a frame."""
    if isinstance(frame, Digest):
        return params_pb2.UploadBlobsRequest(header=digest_to_proto(frame)).SerializeToString()
    return b"".join((_chunk_prefix(len(frame)), frame))


def decode_frame(message: bytes) -> Received:
    """The frame of a message of either stream; a chunk is a view of it."""
    chunk = _plain_chunk(message)
    if chunk is not None:
        return chunk
    try:
        return frame_from_proto(params_pb2.UploadBlobsRequest.FromString(message))
    except InvalidField as error:
        return error
    except DecodeError:
        return InvalidField("frame", "must be a message of this stream; it cannot be decoded")


def frame_of(received: Received) -> Frame:
    """The frame that was received. Raises InvalidField if it is none."""
    if isinstance(received, InvalidField):
        raise received
    return received


def _plain_chunk(message: bytes) -> Buffer | None:
    """The bytes of a message that is a chunk and nothing else."""
    if len(message) < 2 or message[0] != _CHUNK_TAG:
        return None
    length = 0
    for number in range(1, min(len(message), 1 + _MAX_LENGTH_BYTES)):
        byte = message[number]
        length |= (byte & 0x7F) << 7 * (number - 1)
        if byte < 0x80:
            whole = length == len(message) - number - 1
            return memoryview(message)[number + 1 :] if whole else None
    return None


def _chunk_prefix(length: int) -> bytes:
    prefix = bytearray([_CHUNK_TAG])
    while length >= 0x80:
        prefix.append(length & 0x7F | 0x80)
        length >>= 7
    prefix.append(length)
    return bytes(prefix)


def frame_handlers(
    upload: Callable[..., object], download: Callable[..., object]
) -> "dict[str, grpc.RpcMethodHandler[Any, Any]]":
    """The handlers of the two calls by the name of the method."""
    return {
        "UploadBlobs": grpc.stream_unary_rpc_method_handler(
            upload,
            request_deserializer=decode_frame,
            response_serializer=params_pb2.UploadBlobsResponse.SerializeToString,
        ),
        "DownloadBlobs": grpc.unary_stream_rpc_method_handler(
            download,
            request_deserializer=params_pb2.DownloadBlobsRequest.FromString,
            response_serializer=encode_frame,
        ),
    }
