from collections.abc import Sequence

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rafiki.model.params import InvalidParams
from rafiki.resources import Digest
from rafiki.v1 import params_pb2
from rafiki.wire.blobs import (
    CHUNK_BYTES,
    BrokenFrames,
    Frame,
    FrameReader,
    WrongDigest,
    chunks,
    decode_params,
    digest_of,
    download_responses,
    encode_params,
    frame_from_proto,
    frames,
    read_blobs,
    upload_requests,
)
from rafiki.wire.fields import InvalidField

EMPTY = digest_of(b"")


@given(st.lists(st.binary(max_size=20), max_size=5), st.integers(1, 7))
def test_blobs_survive_the_stream(blobs: list[bytes], chunk_bytes: int) -> None:
    pairs = [(digest_of(blob), blob) for blob in blobs]
    sent = [
        params_pb2.UploadBlobsRequest.FromString(message.SerializeToString())
        for message in upload_requests(frames(pairs, chunk_bytes=chunk_bytes))
    ]
    received = [frame_from_proto(message) for message in sent]
    digests = [digest for digest, _ in pairs]
    assert list(read_blobs(received, digests, chunk_bytes=chunk_bytes)) == pairs


def test_both_streams_have_the_same_frames() -> None:
    parts: list[Frame] = [digest_of(b"ab"), b"ab"]
    assert [frame_from_proto(message) for message in download_responses(parts)] == parts
    assert [frame_from_proto(message) for message in upload_requests(parts)] == parts


@pytest.mark.parametrize("data", [b"abcde", bytearray(b"abcde"), memoryview(b"abcde")])
def test_any_buffer_is_cut_into_chunks(data: bytes) -> None:
    assert list(chunks(data, chunk_bytes=2)) == [b"ab", b"cd", b"e"]


def test_the_bytes_of_an_array_are_cut_into_chunks() -> None:
    data = np.array([1, 2], "<u2").data
    assert digest_of(data).size_bytes == 4
    assert list(chunks(data, chunk_bytes=3)) == [b"\x01\0\x02", b"\0"]


def test_a_chunk_is_one_mebibyte() -> None:
    sizes = [len(chunk) for chunk in chunks(bytes(2 * CHUNK_BYTES + 1))]
    assert sizes == [1 << 20, 1 << 20, 1]


def test_an_offset_skips_bytes_of_the_first_blob_only() -> None:
    blobs = [(digest_of(b"abc"), b"abc"), (digest_of(b"de"), b"de")]
    sent = list(frames(blobs, offset_bytes=2))
    assert sent == [blobs[0][0], b"c", blobs[1][0], b"de"]


def test_an_empty_blob_is_complete_with_its_header() -> None:
    assert list(frames([(EMPTY, b"")])) == [EMPTY]
    assert FrameReader().accept(EMPTY) == EMPTY


def test_a_reader_tells_when_a_blob_is_verified() -> None:
    reader = FrameReader()
    digest = digest_of(b"abc")
    assert [reader.accept(frame) for frame in (digest, b"ab", b"c")] == [None, None, digest]
    reader.end()


@pytest.mark.parametrize(
    ("sent", "rule"),
    [
        ([b"a"], "before its header"),
        ([digest_of(b"ab"), digest_of(b"a")], "with 2 bytes of a blob to come"),
        ([digest_of(b"ab"), b""], "has 1 to 4 bytes, not 0"),
        ([digest_of(b"abcdef"), b"abcde"], "has 1 to 4 bytes, not 5"),
        ([digest_of(b"ab"), b"abc"], "of 3 bytes came where 2 are to come"),
        ([EMPTY, b"a"], "before its header"),
    ],
)
def test_a_frame_out_of_place_is_refused(sent: list[Frame], rule: str) -> None:
    reader = FrameReader(chunk_bytes=4)
    with pytest.raises(BrokenFrames, match=rule):
        for frame in sent:
            reader.accept(frame)


def test_a_stream_that_ends_within_a_blob_is_refused() -> None:
    reader = FrameReader()
    reader.accept(digest_of(b"ab"))
    reader.accept(b"a")
    with pytest.raises(BrokenFrames, match="ended with 1 bytes"):
        reader.end()


def test_bytes_of_another_digest_are_refused() -> None:
    reader = FrameReader()
    reader.accept(digest_of(b"ab"))
    with pytest.raises(WrongDigest) as caught:
        reader.accept(b"ba")
    assert caught.value.expected == digest_of(b"ab").sha256
    assert caught.value.actual == digest_of(b"ba").sha256


def test_a_wrong_size_of_an_empty_blob_is_refused() -> None:
    with pytest.raises(WrongDigest):
        FrameReader().accept(Digest(digest_of(b"a").sha256, 0))


A, B = digest_of(b"a"), digest_of(b"b")


@pytest.mark.parametrize(
    ("sent", "expected", "rule"),
    [
        ([B, b"b"], [A], "was not asked for here"),
        ([A, b"a"], [], "was not asked for here"),
        ([A, b"a"], [A, B], f"ended without blob {B.sha256}"),
        ([A], [A], "ended with 1 bytes"),
    ],
)
def test_other_blobs_than_asked_for_are_refused(
    sent: list[Frame], expected: Sequence[Digest], rule: str
) -> None:
    with pytest.raises(BrokenFrames, match=rule):
        list(read_blobs(sent, expected))


def test_a_frame_without_content_is_refused() -> None:
    with pytest.raises(InvalidField, match=r"^header: must be set, or chunk"):
        frame_from_proto(params_pb2.UploadBlobsRequest())


PARAMS = {
    "b/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a/scale": np.array(1.5, ml_dtypes.bfloat16),
    "a/nan": np.array([np.nan, -0.0, np.inf], np.float16),
    "c/empty": np.zeros((0, 3), np.int64),
    "c/mask": np.array([True, False]),
    "d/big": np.array([1, 2], ">i4"),
    "d/fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
}


def test_parameters_survive_bit_for_bit() -> None:
    tensors, blobs = encode_params(PARAMS)
    read = decode_params(tensors, blobs)
    assert list(read) == sorted(PARAMS)
    for path, array in PARAMS.items():
        assert read[path].shape == array.shape
        assert read[path].dtype == array.dtype.newbyteorder("=")
        assert read[path].astype(array.dtype).tobytes() == array.tobytes()


def test_equal_tensors_share_a_blob() -> None:
    tensors, blobs = encode_params({"a": np.zeros(3), "b": np.zeros(3)})
    assert len(blobs) == 1
    assert tensors[0].digest == tensors[1].digest


def test_updates_go_to_their_tensors() -> None:
    tensors, _ = encode_params({"b": np.zeros(1), "a": np.zeros(1)}, {"b": 3})
    assert [(tensor.path, tensor.updates) for tensor in tensors] == [("a", 0), ("b", 3)]


def test_parameters_that_break_a_rule_are_not_encoded() -> None:
    with pytest.raises(InvalidParams, match="'a'"):
        encode_params({"a": np.array(["text"])})


def test_a_blob_that_is_missing_is_named() -> None:
    tensors, _ = encode_params({"a": np.zeros(2)})
    with pytest.raises(KeyError, match=tensors[0].digest.sha256):
        decode_params(tensors, {})
