"""What an architecture uses is taken out of banks, and put back."""

import jax.numpy as jnp
import numpy as np

from rafiki.supernet import gather_active, scatter_active

BANK = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
TENSORS = {"bank": jnp.asarray(BANK), "common": jnp.ones(2)}
# Per cell, two of four rows; 4 is past the end.
ROWS = {"bank": (np.arange(2)[:, None], np.array([[3, 0], [4, 1]]))}


def test_the_active_rows_are_gathered_with_all_that_is_no_bank() -> None:
    active = gather_active(TENSORS, ROWS)
    np.testing.assert_array_equal(active["bank"][0], BANK[0, [3, 0]])
    np.testing.assert_array_equal(active["bank"][1, 1], BANK[1, 1])
    np.testing.assert_array_equal(active["common"], np.ones(2))


def test_no_row_is_gathered_as_zeros() -> None:
    assert not np.asarray(gather_active(TENSORS, ROWS)["bank"][1, 0]).any()


def test_active_rows_are_put_back_and_all_others_stay() -> None:
    active = {name: tensor + 100 for name, tensor in gather_active(TENSORS, ROWS).items()}
    after = scatter_active(TENSORS, active, ROWS)
    expected = BANK.copy()
    expected[0, [0, 3]] += 100
    expected[1, 1] += 100
    np.testing.assert_array_equal(after["bank"], expected)
    np.testing.assert_array_equal(after["common"], np.full(2, 101))
