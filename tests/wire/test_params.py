import dataclasses
import math
from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rafiki.model.params import DTYPES, dtype_of
from rafiki.resources import Checkpoint, Digest, Shard, Tensor
from rafiki.v1 import params_pb2
from rafiki.wire.fields import InvalidField
from rafiki.wire.params import (
    checkpoint_from_proto,
    checkpoint_to_proto,
    digest_from_proto,
    digest_to_proto,
    digests_from_proto,
    shard_from_proto,
    tensor_from_proto,
    tensor_to_proto,
)

SHA256 = "0123456789abcdef" * 4
PATHS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=5)
COUNTS = st.integers(0, 2**31 - 1)
LARGE = st.integers(0, 2**63 - 1)


def tensor(
    path: str = "a", dtype: str = "float32", shape: tuple[int, ...] = (), updates: int = 0
) -> Tensor:
    """A tensor of the right size."""
    size_bytes = math.prod(shape) * dtype_of(dtype).itemsize
    digest = Digest(SHA256, size_bytes)
    return Tensor(path=path, dtype=dtype, shape=shape, digest=digest, updates=updates)


TENSORS = st.builds(
    tensor,
    path=PATHS,
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(0, 100), max_size=4).map(tuple),
    updates=LARGE,
)
SORTED = st.lists(TENSORS, max_size=4, unique_by=lambda t: t.path).map(
    lambda tensors: tuple(sorted(tensors, key=lambda t: t.path))
)


@given(
    st.builds(
        Checkpoint,
        name=TEXTS,
        tensors=SORTED,
        trial=TEXTS,
        attempt=COUNTS,
        parents=st.lists(TEXTS, max_size=2).map(tuple),
        shard=st.sampled_from([None, Shard(0, 2), Shard(2, 3)]),
        size_bytes=LARGE,
        create_time=st.none() | st.datetimes(timezones=st.just(UTC)),
    )
)
def test_a_checkpoint_survives_the_round_trip(checkpoint: Checkpoint) -> None:
    assert checkpoint_from_proto(checkpoint_to_proto(checkpoint)) == checkpoint


def test_a_checkpoint_of_unknown_provenance_says_nothing_of_it() -> None:
    assert not checkpoint_to_proto(Checkpoint(name="c")).HasField("provenance")


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_tensor_of_every_dtype_survives_the_round_trip(dtype: str) -> None:
    value = tensor(dtype=dtype, shape=(2, 3), updates=4)
    assert tensor_from_proto(tensor_to_proto(value)) == value


def test_the_dtypes_are_those_of_the_proto() -> None:
    names = {f"DTYPE_{name.upper()}" for name in DTYPES}
    assert names | {"DTYPE_UNSPECIFIED"} == set(params_pb2.Dtype.keys())


def test_a_dtype_that_no_tensor_can_have_is_not_sent() -> None:
    value = dataclasses.replace(tensor(), dtype="complex64")
    with pytest.raises(ValueError, match="no dtype is called 'complex64'"):
        tensor_to_proto(value)


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"path": ""}, "path"),
        ({"path": "é" * 257}, "path"),
        ({"dtype": 0}, "dtype"),
        ({"dtype": 99}, "dtype"),
        ({"shape": [-1]}, "shape"),
        ({"shape": [1] * 33}, "shape"),
        ({"shape": [2**62, 2**62, 0]}, "shape"),
        ({"shape": [3]}, "digest.size_bytes"),
        ({"digest": {"sha256": SHA256, "size_bytes": -1}}, "digest.size_bytes"),
        ({"digest": {"sha256": SHA256.upper(), "size_bytes": 8}}, "digest.sha256"),
        ({"digest": {}}, "digest.sha256"),
        ({"updates": -1}, "updates"),
    ],
)
def test_a_malformed_tensor_is_refused_by_path(fields: dict[str, object], path: str) -> None:
    message = tensor_to_proto(tensor(shape=(2,)))
    for name, value in fields.items():
        message.ClearField(name)  # type: ignore[arg-type]
        message.MergeFrom(params_pb2.Tensor(**{name: value}))  # type: ignore[arg-type]
    with pytest.raises(InvalidField, match=rf"^tensors\[0\]\.{path}: "):
        tensor_from_proto(message, "tensors[0]")


@pytest.mark.parametrize("paths", [["b", "a"], ["a", "a"]])
def test_tensors_out_of_order_or_twice_are_refused(paths: list[str]) -> None:
    message = params_pb2.Checkpoint(tensors=[tensor_to_proto(tensor(path)) for path in paths])
    with pytest.raises(InvalidField, match=r"^c.tensors\[1\].path: must be sorted"):
        checkpoint_from_proto(message, "c")


def test_too_many_tensors_are_refused() -> None:
    message = params_pb2.Checkpoint(tensors=[params_pb2.Tensor()] * 4001)
    with pytest.raises(InvalidField, match=r"^c.tensors: must have at most 4000 entries"):
        checkpoint_from_proto(message, "c")


@pytest.mark.parametrize(
    ("index", "count", "field"),
    [(0, 0, "count"), (0, 1, "count"), (2, 2, "index"), (-1, 2, "index")],
)
def test_a_shard_out_of_range_is_refused(index: int, count: int, field: str) -> None:
    with pytest.raises(InvalidField, match=f"^shard.{field}: "):
        shard_from_proto(params_pb2.Shard(index=index, count=count), "shard")


def test_a_digest_survives_the_round_trip() -> None:
    digest = Digest(SHA256, 2**40)
    assert digest_from_proto(digest_to_proto(digest)) == digest


@pytest.mark.parametrize("sha256", ["", SHA256[:-1], SHA256 + "0", SHA256[:-1] + "\n", "g" * 64])
def test_a_malformed_digest_is_refused(sha256: str) -> None:
    with pytest.raises(InvalidField, match=r"^digests\[0\].sha256: must match"):
        digests_from_proto([params_pb2.Digest(sha256=sha256)])


def test_too_many_digests_are_refused() -> None:
    with pytest.raises(InvalidField, match=r"^digests: must have at most 20000 entries"):
        digests_from_proto([params_pb2.Digest()] * 20_001)
