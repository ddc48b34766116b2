"""Digests, tensors and checkpoints: the manifests of parameters, without their bytes."""

import math
import re
from collections.abc import Sequence

from rafiki.model.params import DTYPES, MAX_DIMENSIONS, MAX_PATH_BYTES, MAX_TENSORS
from rafiki.resources import Checkpoint, Digest, Shard, Tensor
from rafiki.v1 import params_pb2
from rafiki.wire.fields import InvalidField, at, at_least, at_most_bytes, at_most_items, matching
from rafiki.wire.times import optional_timestamp_from_proto, optional_timestamp_to_proto

MAX_DIGESTS = 20_000

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_ELEMENTS = 2**63 - 1

# By dtype name: the number of the proto enum, and the bytes of one element.
_DTYPE_NUMBERS: dict[str, params_pb2.Dtype.ValueType] = {
    name: params_pb2.Dtype.Value(f"DTYPE_{name.upper()}") for name in DTYPES
}
_DTYPE_NAMES: dict[int, str] = {number: name for name, number in _DTYPE_NUMBERS.items()}


# The number in the name is that of the bits; a bool takes one byte.
_ITEM_SIZES: dict[str, int] = {
    name: int(bits.group()) // 8 if (bits := re.search(r"\d+", name)) else 1 for name in DTYPES
}


def digest_to_proto(digest: Digest) -> params_pb2.Digest:
    """The message for a digest."""
    return params_pb2.Digest(sha256=digest.sha256, size_bytes=digest.size_bytes)


def digest_from_proto(message: params_pb2.Digest, path: str = "") -> Digest:
    """A digest of well-formed parts."""
    return Digest(
        matching(message.sha256, _SHA256, at(path, "sha256")),
        at_least(message.size_bytes, 0, at(path, "size_bytes")),
    )


def digests_from_proto(
    messages: Sequence[params_pb2.Digest], path: str = "digests"
) -> list[Digest]:
    """At most 20000 digests, in their order."""
    at_most_items(len(messages), MAX_DIGESTS, path)
    return [
        digest_from_proto(message, f"{path}[{number}]") for number, message in enumerate(messages)
    ]


def shard_to_proto(shard: Shard) -> params_pb2.Shard:
    """The message for a shard."""
    return params_pb2.Shard(index=shard.index, count=shard.count)


def shard_from_proto(message: params_pb2.Shard, path: str = "") -> Shard:
    """A shard: `count` at least 2, `index` in [0, count)."""
    count = at_least(message.count, 2, at(path, "count"))
    if not 0 <= message.index < count:
        raise InvalidField(at(path, "index"), f"must be in [0, {count}), not {message.index}")
    return Shard(message.index, count)


def tensor_to_proto(tensor: Tensor) -> params_pb2.Tensor:
    """Raises ValueError if no tensor can have that dtype."""
    if tensor.dtype not in _DTYPE_NUMBERS:
        raise ValueError(f"{tensor.path!r}: no dtype is called {tensor.dtype!r}")
    return params_pb2.Tensor(
        path=tensor.path,
        dtype=_DTYPE_NUMBERS[tensor.dtype],
        shape=tensor.shape,
        digest=digest_to_proto(tensor.digest),
        updates=tensor.updates,
    )


def tensor_from_proto(message: params_pb2.Tensor, path: str = "") -> Tensor:
    """A tensor whose blob has exactly the bytes of its shape."""
    if not message.path:
        raise InvalidField(at(path, "path"), "must not be empty")
    dtype = _DTYPE_NAMES.get(message.dtype)
    if dtype is None:
        rule = f"must be a dtype known to this release, not {message.dtype}"
        raise InvalidField(at(path, "dtype"), rule)
    shape = tuple(message.shape)
    if len(shape) > MAX_DIMENSIONS or any(size < 0 for size in shape):
        rule = f"must have at most {MAX_DIMENSIONS} dimensions, none negative"
        raise InvalidField(at(path, "shape"), rule)
    # NumPy cannot hold a shape beyond this even where another dimension is 0.
    if math.prod(size for size in shape if size) * _ITEM_SIZES[dtype] > _MAX_ELEMENTS:
        raise InvalidField(at(path, "shape"), "must take less than 2^63 bytes")
    digest = digest_from_proto(message.digest, at(path, "digest"))
    size_bytes = math.prod(shape) * _ITEM_SIZES[dtype]
    if digest.size_bytes != size_bytes:
        rule = f"must be {size_bytes}, the bytes of the shape, not {digest.size_bytes}"
        raise InvalidField(at(path, "digest.size_bytes"), rule)
    return Tensor(
        path=at_most_bytes(message.path, MAX_PATH_BYTES, at(path, "path")),
        dtype=dtype,
        shape=shape,
        digest=digest,
        updates=at_least(message.updates, 0, at(path, "updates")),
    )


def checkpoint_to_proto(checkpoint: Checkpoint) -> params_pb2.Checkpoint:
    """The message for a checkpoint; `provenance` is unset where nothing is known of it."""
    message = params_pb2.Checkpoint(
        name=checkpoint.name,
        tensors=[tensor_to_proto(tensor) for tensor in checkpoint.tensors],
        size_bytes=checkpoint.size_bytes,
        create_time=optional_timestamp_to_proto(checkpoint.create_time),
    )
    if checkpoint.trial or checkpoint.attempt or checkpoint.parents or checkpoint.shard:
        message.provenance.trial = checkpoint.trial
        message.provenance.attempt = checkpoint.attempt
        message.provenance.parents.extend(checkpoint.parents)
        if checkpoint.shard is not None:
            message.provenance.shard.CopyFrom(shard_to_proto(checkpoint.shard))
    return message


def checkpoint_from_proto(message: params_pb2.Checkpoint, path: str = "") -> Checkpoint:
    """A checkpoint of at most 4000 tensors, sorted by path, none twice."""
    at_most_items(len(message.tensors), MAX_TENSORS, at(path, "tensors"))
    tensors = tuple(
        tensor_from_proto(tensor, at(path, f"tensors[{number}]"))
        for number, tensor in enumerate(message.tensors)
    )
    for number in range(1, len(tensors)):
        if tensors[number - 1].path >= tensors[number].path:
            rule = "must be sorted by path, no path twice"
            raise InvalidField(at(path, f"tensors[{number}].path"), rule)
    source = message.provenance
    shard = None
    if source.HasField("shard"):
        shard = shard_from_proto(source.shard, at(path, "provenance.shard"))
    return Checkpoint(
        name=message.name,
        tensors=tensors,
        trial=source.trial,
        attempt=at_least(source.attempt, 0, at(path, "provenance.attempt")),
        parents=tuple(source.parents),
        shard=shard,
        size_bytes=at_least(message.size_bytes, 0, at(path, "size_bytes")),
        create_time=optional_timestamp_from_proto(
            message.create_time if message.HasField("create_time") else None,
            at(path, "create_time"),
        ),
    )
