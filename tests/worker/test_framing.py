import os
import threading
from collections.abc import Iterator

import ml_dtypes
import numpy as np
import pytest

from rafiki.model.params import DTYPES, dtype_of
from rafiki.worker.framing import BrokenFrame, Frame, FrameReader, FrameWriter


@pytest.fixture
def pipe() -> Iterator[tuple[FrameWriter, FrameReader]]:
    read_fd, write_fd = os.pipe()
    writer, reader = FrameWriter(write_fd), FrameReader(read_fd)
    yield writer, reader
    reader.close()


def pass_through(pipe: tuple[FrameWriter, FrameReader], frame: Frame) -> Frame:
    writer, reader = pipe
    thread = threading.Thread(target=lambda: writer.write(frame.message, frame.tensors))
    thread.start()
    received = reader.read()
    thread.join()
    writer.close()
    assert received is not None
    return received


def test_a_message_arrives_as_it_was_sent(pipe: tuple[FrameWriter, FrameReader]) -> None:
    message = {"type": "log", "text": "ä\n", "values": [1, 2.5, None, True], "nested": {"a": []}}

    assert pass_through(pipe, Frame(message)).message == message


def test_nan_and_infinity_survive_in_messages(pipe: tuple[FrameWriter, FrameReader]) -> None:
    received = pass_through(pipe, Frame({"scores": [float("nan"), float("-inf")]}))

    assert np.isnan(received.message["scores"][0])
    assert received.message["scores"][1] == float("-inf")


@pytest.mark.parametrize("name", DTYPES)
def test_a_tensor_of_every_dtype_survives_bit_for_bit(
    name: str, pipe: tuple[FrameWriter, FrameReader]
) -> None:
    dtype = dtype_of(name)
    bits = np.random.default_rng(0).integers(0, 256, 24 * dtype.itemsize, np.uint8)
    array = (bits % 2).view(dtype) if name == "bool" else bits.view(dtype)
    array = array.reshape(2, 3, 4)

    received = pass_through(pipe, Frame({}, {"a/b": array})).tensors["a/b"]

    assert received.dtype == dtype
    assert received.shape == (2, 3, 4)
    assert received.tobytes() == array.tobytes()


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,)])
def test_scalars_and_empty_tensors_survive(
    shape: tuple[int, ...], pipe: tuple[FrameWriter, FrameReader]
) -> None:
    array = np.ones(shape, ml_dtypes.bfloat16)

    received = pass_through(pipe, Frame({}, {"x": array})).tensors["x"]

    assert received.shape == shape
    assert received.dtype == array.dtype


def test_other_layouts_and_byte_orders_arrive_as_equal_values(
    pipe: tuple[FrameWriter, FrameReader],
) -> None:
    tensors = {
        "transposed": np.arange(6.0).reshape(2, 3).T,
        "strided": np.arange(10)[::3],
        "big-endian": np.arange(5, dtype=">f4"),
    }

    received = pass_through(pipe, Frame({}, tensors)).tensors

    for path, array in tensors.items():
        np.testing.assert_array_equal(received[path], array)


def test_a_tensor_larger_than_the_pipe_arrives_whole(
    pipe: tuple[FrameWriter, FrameReader],
) -> None:
    array = np.random.default_rng(1).random(1 << 20)

    received = pass_through(pipe, Frame({}, {"large": array})).tensors["large"]

    np.testing.assert_array_equal(received, array)


def test_the_end_of_the_pipe_between_frames_is_none(pipe: tuple[FrameWriter, FrameReader]) -> None:
    writer, reader = pipe
    writer.close()

    assert reader.read() is None


def test_the_end_of_the_pipe_inside_a_frame_is_an_error() -> None:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, b"\x10\x00\x00\x00{")
    os.close(write_fd)
    reader = FrameReader(read_fd)

    with pytest.raises(BrokenFrame, match="middle of a frame"):
        reader.read()
    reader.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        b"\x02\x00\x00\x00{}",
        b"\x03\x00\x00\x00abc",
        b'\x1c\x00\x00\x00{"message": 1, "tensors": []}',
    ],
)
def test_what_is_no_frame_is_an_error(data: bytes) -> None:
    read_fd, write_fd = os.pipe()
    os.write(write_fd, data)
    os.close(write_fd)
    reader = FrameReader(read_fd)

    with pytest.raises(BrokenFrame):
        reader.read()
    reader.close()
