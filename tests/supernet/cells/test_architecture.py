"""An architecture as arrays."""

import pytest

from rafiki.supernet.cells import Architecture
from rafiki.supernet.cells.architecture import ROW_NAMES, ROWS

CHAIN = [
    value
    for node in range(5)
    for value in (node, node + 1, "sepconv3", ("identity", "avgpool3")[node % 2])
]


@pytest.mark.parametrize(
    ("position", "value"), [(0, 2), (0, "sepconv3"), (2, "conv7"), (2, 0), (16, 6), (0, -1)]
)
def test_a_value_that_is_no_choice_of_its_position_is_refused(position: int, value: object) -> None:
    values: list[object] = list(CHAIN)
    values[position] = value
    with pytest.raises(ValueError, match=f"position {position} "):
        Architecture.of(CHAIN, values)


def test_a_cell_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="20 values, not 19"):
        Architecture.of(CHAIN, CHAIN[:-1])


def test_the_loose_ends_are_the_states_that_nobody_reads() -> None:
    values = [0, 0, "identity", "identity"] * 5
    assert Architecture.of(CHAIN, values).loose.tolist() == [
        [7, 7, 7, 7, 7, 7, 6],
        [7, 1, 2, 3, 4, 5, 6],
    ]


def test_every_row_of_a_bank_has_a_path_of_its_own() -> None:
    assert len(set(ROW_NAMES)) == len(ROW_NAMES) == ROWS == 80
