"""Arrays survive as bytes, bit for bit."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rafiki.model.params import (
    DTYPES,
    ML_DTYPES,
    InvalidParams,
    check_params,
    decode_tensor,
    dtype_name,
    dtype_of,
    encode_tensor,
    is_training_state,
)

SHAPES = [(), (0,), (3, 0, 2), (1,), (2, 3), (1,) * 32]


def every_bit(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """An array of random bits, NaN payloads among them."""
    kind = dtype_of(dtype)
    size = int(np.prod(shape, dtype=int))
    bits = np.random.default_rng(size).integers(0, 256, size * kind.itemsize, np.uint8)
    if dtype == "bool":
        bits &= 1
    return bits.view(kind).reshape(shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_shape_survives_bit_for_bit(dtype: str, shape: tuple[int, ...]) -> None:
    array = every_bit(dtype, shape)
    again = decode_tensor(encode_tensor(array), dtype_name(array), array.shape)
    assert again.dtype == array.dtype
    assert again.shape == shape
    assert again.tobytes() == array.tobytes()


@given(
    hnp.arrays(
        st.sampled_from(
            ["bool", "int8", "int16", "uint32", "int64", "float16", "float32", "float64"]
        ),
        hnp.array_shapes(min_dims=0, min_side=0),
    )
)
def test_any_array_survives_bit_for_bit(array: np.ndarray) -> None:
    again = decode_tensor(encode_tensor(array), dtype_name(array), array.shape)
    assert (again.dtype, again.shape) == (array.dtype, array.shape)
    assert again.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", ["int16", "uint64", "float16", "float32", "float64"])
def test_the_bytes_are_little_endian_whatever_the_array(dtype: str) -> None:
    native = every_bit(dtype, (5,))
    foreign = native.astype(native.dtype.newbyteorder(">"))
    little = native.astype(native.dtype.newbyteorder("<")).tobytes()
    assert encode_tensor(native) == encode_tensor(foreign) == little
    assert dtype_name(foreign) == dtype


def test_views_are_stored_in_c_order() -> None:
    array = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    for view in (array.T, array[::-1, ::2], np.asfortranarray(array), array[:, 1]):
        again = decode_tensor(encode_tensor(view), "int32", view.shape)
        assert np.array_equal(again, view)


def test_bfloat16_has_its_documented_bytes() -> None:
    assert encode_tensor(np.array([1.0, -2.0], ml_dtypes.bfloat16)) == b"\x80\x3f\x00\xc0"


def test_a_true_bool_is_stored_as_one_whatever_its_bits() -> None:
    assert encode_tensor(np.array([2, 0, 1], np.uint8).view(bool)) == b"\x01\x00\x01"


def test_a_decoded_array_may_be_written_to_and_leaves_the_bytes_alone() -> None:
    data = bytearray(4)
    array = decode_tensor(data, "float32", ())
    array[...] = 1
    assert data == bytearray(4)


@pytest.mark.parametrize(
    ("data", "dtype", "shape", "rule"),
    [
        (b"abc", "float32", (1,), "takes 4 bytes, not 3"),
        (b"", "int8", (), "takes 1 bytes, not 0"),
        (b"ab", "int8", (1,), "takes 1 bytes, not 2"),
        (b"", "int8", (-1, 0), "is no shape"),
        (b"a", "int8", (1,) * 33, "is no shape"),
        (b"a", "int4", (1,), "no dtype is called 'int4'"),
        (b"12345678", "object", (1,), "no dtype is called 'object'"),
        (b"\x02", "bool", (1,), "0 or 1"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(
    data: bytes, dtype: str, shape: tuple[int, ...], rule: str
) -> None:
    with pytest.raises(InvalidParams, match=rule):
        decode_tensor(data, dtype, shape)


@pytest.mark.parametrize(
    "array",
    [
        np.array([None]),
        np.array(["text"]),
        np.array([1j]),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.zeros(1, [("bfloat16", "u2")]),
        np.zeros(1, ml_dtypes.int4),
        np.zeros(1, ml_dtypes.float8_e4m3fnuz),
    ],
)
def test_other_dtypes_are_refused_by_path(array: np.ndarray) -> None:
    with pytest.raises(InvalidParams, match=r"'layer/w': dtype .* cannot be stored"):
        check_params({"layer/w": array})


@pytest.mark.parametrize(
    ("params", "rule"),
    [
        ([], "not list"),
        ({1: np.zeros(1)}, "a path is a str, not int"),
        ({"": np.zeros(1)}, "1 to 512 bytes"),
        ({"ä" * 257: np.zeros(1)}, "1 to 512 bytes"),
        ({"\ud800": np.zeros(1)}, "valid UTF-8"),
        ({"w": 1.0}, "'w' is no NumPy array but float"),
        ({"w": np.float32(1)}, r"'w' is no NumPy array but numpy\.float32"),
        ({"w": np.zeros((1,) * 33)}, "'w' has more than 32 dimensions"),
        ({str(number): np.zeros(0) for number in range(4001)}, "at most 4000 tensors, not 4001"),
    ],
)
def test_params_that_break_a_rule_are_refused(params: object, rule: str) -> None:
    with pytest.raises(InvalidParams, match=rule):
        check_params(params)


def test_params_at_the_limits_are_fine() -> None:
    check_params({f"{number:0512}": np.zeros((0,) * 32) for number in range(4000)})


def test_only_what_is_below_optimizer_is_training_state() -> None:
    assert is_training_state("optimizer/momentum/w")
    assert not is_training_state("optimizers/w")
    assert not is_training_state("model/optimizer/w")


def test_the_dtypes_of_ml_dtypes_are_known_by_name() -> None:
    assert [dtype_of(name).itemsize for name in ML_DTYPES] == [2, 1, 1]
