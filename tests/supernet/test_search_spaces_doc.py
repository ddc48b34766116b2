"""The worked example of the guide to search spaces works."""

import math
import re
from pathlib import Path

import pytest

from rafiki.model import ArchKnob, KnobValue
from rafiki.model.bench import run_bench
from rafiki.supernet import OPERATIONS
from rafiki.supernet.cells import cell_knob
from rafiki.supernet.macro import network_knob
from rafiki.supernet.recurrent import recurrent_cell_knob

GUIDE = Path(__file__).parents[2] / "docs" / "search-spaces.md"


def example() -> str:
    (block,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    return str(block)


def ways(knob: ArchKnob) -> int:
    return math.prod(len(choices) for choices in knob.items)


def test_the_example_is_a_space_and_its_template_in_under_150_lines() -> None:
    assert len(example().splitlines()) < 150


@pytest.mark.slow
def test_the_example_passes_the_bench(tmp_path: Path) -> None:
    path = tmp_path / "example.py"
    path.write_text(example())
    report = run_bench(path)
    assert [step for step in report.steps if not step.ok] == []
    assert any("evaluate_candidates" in step.name for step in report.steps)


def test_the_guide_counts_the_architectures_of_every_space() -> None:
    text = GUIDE.read_text()
    cell = cell_knob([KnobValue(name) for name in OPERATIONS])
    # The formulas of the guide, and its rounded figures.
    assert ways(cell) ** 2 == (math.factorial(6) * 5**5) ** 4
    assert ways(network_knob(6)) == 6**6 * 2**15
    assert ways(network_knob(12)) == 6**12 * 2**66
    for nodes in (8, 12):
        assert ways(recurrent_cell_knob(nodes)) == 4**nodes * math.factorial(nodes)
    for count in (
        ways(cell) ** 2,
        ways(network_knob(6)),
        ways(network_knob(12)),
        ways(recurrent_cell_knob(8)),
        ways(recurrent_cell_knob(12)),
    ):
        assert f"{count:.1e}".replace("e+0", "e").replace("e+", "e") in text
