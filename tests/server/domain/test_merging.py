"""Averaging of what shards have trained, against values computed by hand."""

import hashlib

import ml_dtypes
import numpy as np
import pytest

from rafiki.model.params import encode_tensor
from rafiki.resources import Digest, Tensor
from rafiki.server.domain.merging import CannotMerge, TensorMerge, align, merge_arrays


def tensor(path: str, values: object, *, dtype: str = "float32", updates: int = 0) -> Tensor:
    array = np.asarray(values, dtype)
    data = encode_tensor(array)
    digest = Digest(hashlib.sha256(data).hexdigest(), len(data))
    return Tensor(path=path, dtype=dtype, shape=array.shape, digest=digest, updates=updates)


def test_the_deltas_of_two_shards_are_averaged_by_their_update_counts() -> None:
    base = np.array([1.0, 2.0], np.float32)
    first = np.array([2.0, 2.0], np.float32)  # deltas 1, 0
    second = np.array([1.0, 6.0], np.float32)  # deltas 0, 4
    merged = merge_arrays(base, [first, second], [3, 1])
    assert merged.dtype == np.float32
    assert merged.tolist() == [1.75, 3.0]  # 1 + 3/4, 2 + 4/4


def test_the_mean_is_taken_in_double_precision() -> None:
    base = np.array([0.0], np.float32)
    shards = [np.array([value], np.float32) for value in (1e8, 1.0, -1e8)]
    assert merge_arrays(base, shards, [1, 1, 1]).tolist() == [np.float32(1 / 3)]


def test_small_floats_are_rounded_once() -> None:
    kind = np.dtype(ml_dtypes.bfloat16)
    base, first, second = (np.array([x], kind) for x in (1.0, 1.5, 3.0))
    merged = merge_arrays(base, [first, second], [2, 1])  # 1 + (2 * 0.5 + 2) / 3
    assert merged.dtype == kind
    assert merged.tolist() == [2.0]
    assert merge_arrays(base, [first, second], [1, 2]).tolist() == [2.5]  # 1 + (0.5 + 4) / 3


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_counters_add_up(dtype: str) -> None:
    base, first, second = (np.array([x, 200], dtype) for x in (10, 15, 17))
    merged = merge_arrays(base, [first, second], [5, 7])
    assert merged.dtype == np.dtype(dtype)
    assert merged.tolist() == [22, 200]


def test_a_counter_that_falls_and_one_of_64_bits_are_exact() -> None:
    base = np.array([100, 2**62], np.int64)
    shards = [np.array([90, 2**62 + 1], np.int64), np.array([97, 2**62 + 3], np.int64)]
    assert merge_arrays(base, shards, [1, 1]).tolist() == [87, 2**62 + 4]
    unsigned = [np.array(x, np.uint64) for x in (2**64 - 5, 2**64 - 9, 2**64 - 4)]
    assert merge_arrays(unsigned[0], unsigned[1:], [1, 1]).tolist() == 2**64 - 8


def test_a_bool_is_what_most_of_the_weight_says_and_the_base_on_a_tie() -> None:
    base = np.array([True, True, False])
    first, second = np.array([False, False, True]), np.array([True, False, False])
    assert merge_arrays(base, [first, second], [1, 1]).tolist() == [True, False, False]
    assert merge_arrays(base, [first, second], [3, 1]).tolist() == [False, False, True]


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool", "bfloat16"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3)])
def test_scalars_and_empty_tensors_keep_their_shape(dtype: str, shape: tuple[int, ...]) -> None:
    kind = np.dtype(getattr(ml_dtypes, dtype, dtype))
    base, first, second = (np.full(shape, x).astype(kind) for x in (0, 1, 1))
    merged = merge_arrays(base, [first, second], [1, 4])
    assert isinstance(merged, np.ndarray)
    assert (merged.dtype, merged.shape) == (kind, shape)
    assert encode_tensor(merged) == encode_tensor(
        np.full(shape, 2 if dtype == "int64" else 1, kind)
    )


def test_what_is_not_a_number_stays_that() -> None:
    base = np.zeros(2, np.float32)
    shards = [np.array([np.nan, np.inf], np.float32), np.ones(2, np.float32)]
    merged = merge_arrays(base, shards, [1, 1])
    assert np.isnan(merged[0]) and merged[1] == np.inf


def test_a_shard_counts_only_where_it_has_touched_a_tensor() -> None:
    base = [tensor("a", [1.0]), tensor("b", [1.0]), tensor("c", [1.0])]
    first = [tensor("a", [2.0], updates=4), tensor("b", [1.0], updates=9), tensor("c", [1.0])]
    second = [tensor("a", [3.0], updates=2), tensor("b", [5.0], updates=3), tensor("c", [1.0])]
    a, b, c = align(base, [first, second])
    assert (a.touched, a.weights, a.updates, a.whole) == ((first[0], second[0]), (4, 2), 6, None)
    # Only one, or none, has changed its bytes: they stay as they are, bit for bit.
    assert (b.whole, b.updates) == (second[1], 3)
    assert (c.whole, c.updates) == (base[2], 0)


def test_a_shard_whose_count_is_unknown_weighs_one() -> None:
    plan = TensorMerge(
        base=tensor("a", [0.0]),
        touched=(tensor("a", [1.0], updates=3), tensor("a", [2.0], updates=0)),
    )
    assert plan.weights == (3, 1)
    assert plan.updates == 0


def test_equal_bytes_in_two_shards_still_add_up() -> None:
    base = [tensor("steps", 10, dtype="int64")]
    shards = [[tensor("steps", 15, dtype="int64", updates=5)]] * 2
    (plan,) = align(base, shards)
    assert plan.whole is None
    merged = merge_arrays(np.array(10), [np.array(15), np.array(15)], plan.weights)
    assert merged.tolist() == 20


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ([], "shard 1 of 2 lacks the tensor 'a'"),
        ([tensor("a", [1.0]), tensor("b", [1.0])], "shard 1 of 2 has gained the tensor 'b'"),
        ([tensor("a", [1.0, 2.0])], r"'a' is float32\[2\] in shard 1 of 2, float32\[1\] in what"),
        ([tensor("a", [1.0], dtype="float64")], r"'a' is float64\[1\] in shard 1 of 2"),
    ],
)
def test_shards_that_do_not_hold_the_same_tensors_are_not_merged(
    changed: list[Tensor], message: str
) -> None:
    base = [tensor("a", [1.0])]
    with pytest.raises(CannotMerge, match=message):
        list(align(base, [base, changed]))
