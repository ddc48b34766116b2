"""Parameters: named arrays, and the bytes they are stored as.

The encoding is that of the `Tensor` message: elements little-endian, in C order, without
padding; a bool is one byte, 0 or 1. NaN and infinity are kept bit for bit. bfloat16 and
the 8-bit floats are the dtypes of ml_dtypes.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

Params: TypeAlias = Mapping[str, np.ndarray]

MAX_TENSORS = 4000
MAX_PATH_BYTES = 512
MAX_DIMENSIONS = 32

# The names of the proto enum `Dtype`, in lower case.
NUMPY_DTYPES = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)
ML_DTYPES = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
DTYPES = NUMPY_DTYPES + ML_DTYPES


class InvalidParams(ValueError):
    """Parameters break a rule; the message names the path."""


def dtype_of(name: str) -> np.dtype:
    """The dtype called `name`, in the byte order of this machine.

    Raises:
        InvalidParams: `name` is not in `DTYPES`.
    """
    if name in NUMPY_DTYPES:
        return np.dtype(name)
    if name in ML_DTYPES:
        import ml_dtypes  # Only where such tensors occur: it is no dependency of a client.

        kind: np.dtype = np.dtype(getattr(ml_dtypes, name))
        return kind
    raise InvalidParams(f"no dtype is called {name!r}; there are {', '.join(DTYPES)}")


def dtype_name(array: np.ndarray) -> str:
    """The name of the dtype of `array` in `DTYPES`, whatever its byte order.

    Raises:
        InvalidParams: The dtype is not among them.
    """
    name: str = array.dtype.name
    if name not in DTYPES:
        raise InvalidParams(f"dtype {name} cannot be stored; there are {', '.join(DTYPES)}")
    return name


def encode_tensor(array: np.ndarray) -> bytes:
    """The elements of `array` as bytes; shape and dtype travel beside them.

    Raises:
        InvalidParams: The dtype is not in `DTYPES`.
    """
    return _little_endian(array).tobytes()


def tensor_bytes(array: np.ndarray) -> memoryview:
    """As `encode_tensor`, but a view of the memory of `array` where that holds just these bytes.

    Raises:
        InvalidParams: The dtype is not in `DTYPES`.
    """
    elements = np.ascontiguousarray(_little_endian(array)).reshape(-1)
    return elements.view(np.uint8).data


def decode_tensor(
    data: bytes | bytearray | memoryview,
    dtype: str,
    shape: Sequence[int],
    *,
    copy: bool = True,
) -> np.ndarray:
    """The array that `encode_tensor` gave `data` for, in native byte order.

    It is a writable copy; or, without `copy`, perhaps a view of `data`.

    Raises:
        InvalidParams: The dtype is unknown, the shape negative or too deep, or `data` does
            not hold exactly the elements.
    """
    kind = dtype_of(dtype)
    if len(shape) > MAX_DIMENSIONS or any(size < 0 for size in shape):
        raise InvalidParams(f"{list(shape)} is no shape of at most {MAX_DIMENSIONS} dimensions")
    expected = math.prod(shape) * kind.itemsize
    size_bytes = memoryview(data).nbytes
    if size_bytes != expected:
        raise InvalidParams(f"{dtype}{list(shape)} takes {expected} bytes, not {size_bytes}")
    bits = np.dtype(f"u{kind.itemsize}")
    elements = np.frombuffer(data, bits.newbyteorder("<")).astype(bits, copy=copy)
    if dtype == "bool" and elements.size and elements.max() > 1:
        raise InvalidParams("a bool is stored as 0 or 1")
    return elements.view(kind).reshape(tuple(shape))


def check_params(params: object) -> None:
    """Checks what a template dumped.

    Raises:
        InvalidParams: It is no mapping from 1 to 512 bytes of UTF-8 to NumPy arrays of a
            known dtype, or has more than 4000 tensors. The message names the path.
    """
    if not isinstance(params, Mapping):
        raise InvalidParams(f"parameters are a dict of arrays by path, not {_kind(params)}")
    if len(params) > MAX_TENSORS:
        raise InvalidParams(f"at most {MAX_TENSORS} tensors, not {len(params)}: pack some together")
    for path, array in params.items():
        if not isinstance(path, str):
            raise InvalidParams(f"a path is a str, not {_kind(path)}: {path!r}")
        if not 1 <= len(path.encode(errors="replace")) <= MAX_PATH_BYTES:
            raise InvalidParams(f"a path has 1 to {MAX_PATH_BYTES} bytes: {path[:80]!r}")
        try:
            path.encode()
        except UnicodeEncodeError:
            raise InvalidParams(f"a path is valid UTF-8, not {path!r}") from None
        if not isinstance(array, np.ndarray):
            raise InvalidParams(
                f"{path!r} is no NumPy array but {_kind(array)}; numpy.asarray() makes it one"
            )
        if array.ndim > MAX_DIMENSIONS:
            raise InvalidParams(f"{path!r} has more than {MAX_DIMENSIONS} dimensions")
        try:
            dtype_name(array)
        except InvalidParams as error:
            raise InvalidParams(f"{path!r}: {error}") from None


def is_training_state(path: str) -> bool:
    """Whether a tensor is needed only to train on, and left out of deployable checkpoints."""
    return path.startswith("optimizer/")


def _little_endian(array: np.ndarray) -> np.ndarray:
    if dtype_name(array) == "bool":
        return np.not_equal(array.view(np.uint8), 0)
    bits = _bits(array)
    little: np.ndarray = array.view(bits).astype(bits.newbyteorder("<"), copy=False)
    return little


def _bits(array: np.ndarray) -> np.dtype:
    """The unsigned integers of the size and byte order of the elements of `array`."""
    bits = np.dtype(f"u{array.dtype.itemsize}")
    return bits if array.dtype.isnative else bits.newbyteorder()


def _kind(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
