"""Tables of results: means over seeds, regret, single results."""

import pytest
from benchmarks import spaces
from tests.benchmarks.small import arch_table, small_table

from rafiki.model.knobs import ArchKnob, CategoricalKnob, IntegerKnob, KnobValue
from rafiki.resources import Direction


def test_the_best_has_no_regret_and_the_median_has_1() -> None:
    table = small_table()
    assert table.means.tolist() == [1, 2, 4, 8]
    assert (table.best, table.median) == (8, 3)
    assert table.regret(8) == 0
    assert table.regret(3) == 1
    assert table.regret(4) == pytest.approx(4 / 5)


def test_of_a_minimised_table_the_lowest_mean_is_the_best() -> None:
    table = small_table(direction=Direction.MINIMIZE)
    assert table.best == 1
    assert table.regret(1) == 0
    assert table.regret(4) == pytest.approx(3 / 2)
    assert table.is_better(1, 2)


def test_a_result_is_that_of_a_seed_that_the_configuration_has() -> None:
    table = small_table()
    assert [table.observe((1, 1), draw) for draw in (0.0, 0.49, 0.5, 0.99)] == [9, 9, 7, 7]
    assert table.observe((0, 0), 0.99) == 1


def test_a_configuration_that_a_table_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="no configuration"):
        small_table().mean((0, 2))


def test_grids_become_integers_and_other_lists_categories() -> None:
    table = small_table()
    config = spaces.knob_config(table)
    assert config == {"rate": IntegerKnob(0, 1), "kind": CategoricalKnob(["a", "b"])}
    assert spaces.indices(table, {"rate": 1, "kind": "b"}, []) == (1, 1)


def test_the_operations_of_an_architecture_mean_the_same_at_every_position() -> None:
    knob = spaces.knob_config(arch_table())["cell"]
    assert isinstance(knob, ArchKnob)
    assert knob.items[0] == knob.items[1]
    assert all(isinstance(choice, KnobValue) for choice in knob.items[0])
    assert spaces.indices(arch_table(), {}, [{"cell": (2, 1)}]) == (2, 1)
