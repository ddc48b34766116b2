"""Frames on the wire: what is written by hand is what the generated messages would be."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from rafiki.resources import Digest
from rafiki.v1 import params_pb2
from rafiki.wire.blobs import CHUNK_BYTES, digest_of, frame_from_proto
from rafiki.wire.fields import InvalidField
from rafiki.wire.frame_calls import decode_frame, encode_frame, frame_of

SIZES = st.sampled_from([1, 127, 128, 16_383, 16_384, CHUNK_BYTES])


@given(SIZES, st.binary(min_size=1, max_size=1))
def test_a_chunk_is_the_generated_message(size: int, byte: bytes) -> None:
    chunk = byte * size
    for message in (params_pb2.UploadBlobsRequest, params_pb2.DownloadBlobsResponse):
        assert encode_frame(chunk) == message(chunk=chunk).SerializeToString()
        assert decode_frame(message(chunk=chunk).SerializeToString()) == chunk


def test_a_header_is_the_generated_message() -> None:
    digest = digest_of(b"a")
    message = params_pb2.DownloadBlobsResponse.FromString(encode_frame(digest))
    assert frame_from_proto(message) == digest
    assert decode_frame(message.SerializeToString()) == digest


@given(st.binary(max_size=40))
def test_any_bytes_are_read_as_the_generated_code_reads_them(data: bytes) -> None:
    try:
        expected = frame_from_proto(params_pb2.UploadBlobsRequest.FromString(data))
    except (DecodeError, InvalidField):
        with pytest.raises(InvalidField):
            frame_of(decode_frame(data))
    else:
        assert frame_of(decode_frame(data)) == expected


def test_the_last_of_several_fields_counts() -> None:
    two = encode_frame(b"first") + encode_frame(b"second")
    assert frame_of(decode_frame(two)) == b"second"
    assert frame_of(decode_frame(two + encode_frame(digest_of(b"a")))) == digest_of(b"a")


def test_an_empty_chunk_stays_one() -> None:
    assert frame_of(decode_frame(encode_frame(b""))) == b""


def test_a_header_that_is_no_digest_is_refused() -> None:
    message = params_pb2.UploadBlobsRequest(header=params_pb2.Digest(sha256="x"))
    with pytest.raises(InvalidField, match=r"header\.sha256"):
        frame_of(decode_frame(message.SerializeToString()))
    assert isinstance(decode_frame(encode_frame(Digest("0" * 64, 1))), Digest)
