"""Cells of any shape are drawn without overlaps."""

from collections.abc import Sequence
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rafiki.client.demo.cells import Cell, Edge, cell_of
from rafiki.client.demo.layout import Box, lay_out, spread
from rafiki.model.knobs import ArchKnob, KnobValue, NodeRef

OPERATIONS = ("sepconv3", "sepconv5", "avgpool3", "maxpool3", "identity")
SIZES = {"operation": 1.15, "node": 1.0, "output": 1.6, "bend": 0.0}


@st.composite
def cells(draw: st.DrawFn) -> Cell:
    nodes = tuple(range(2, 2 + draw(st.integers(1, 5))))
    edges = tuple(
        Edge(draw(st.integers(0, node - 1)), node, draw(st.sampled_from(OPERATIONS)))
        for node in nodes
        for _ in range(2)
    )
    return Cell((0, 1), nodes, edges)


def overlap(a: Box, b: Box) -> bool:
    room = (SIZES[a.kind] + SIZES[b.kind]) / 2
    return a.y == b.y and abs(a.x - b.x) < room - 1e-6


@settings(max_examples=30)
@given(cells())
def test_no_two_boxes_overlap(cell: Cell) -> None:
    boxes = lay_out(cell).boxes
    assert [(a, b) for a, b in combinations(boxes, 2) if overlap(a, b)] == []


@settings(max_examples=30)
@given(cells())
def test_everything_lies_within_the_picture(cell: Cell) -> None:
    layout = lay_out(cell)
    halves = [(box, SIZES[box.kind] / 2) for box in layout.boxes]
    assert all(half - 1e-6 <= box.x <= layout.width - half + 1e-6 for box, half in halves)
    assert all(-layout.height <= box.y <= 0 for box in layout.boxes)


@settings(max_examples=30)
@given(cells())
def test_every_operation_is_drawn_between_its_nodes(cell: Cell) -> None:
    layout = lay_out(cell)
    at = {box.text: (box.x, box.y) for box in layout.boxes if box.kind == "node"}
    drawn = [(line.points[0], line.points[-1], line.operation) for line in layout.lines]
    wanted = [(at[str(e.source)], at[str(e.target)], e.operation) for e in cell.edges]
    assert drawn[: len(cell.edges)] == wanted
    assert len(drawn) == len(cell.edges) + len(cell.loose)


@settings(max_examples=30)
@given(cells())
def test_lines_go_down_and_pass_no_box(cell: Cell) -> None:
    layout = lay_out(cell)
    boxes = {(box.x, box.y) for box in layout.boxes if box.kind in ("node", "output")}
    for line in layout.lines:
        heights = [y for _, y in line.points]
        assert heights == sorted(heights, reverse=True)
        assert boxes.isdisjoint(line.points[1:-1])


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(0.1, 3)), min_size=1, max_size=8))
def test_spreading_keeps_order_and_room(parts: list[tuple[float, float]]) -> None:
    places = spread([want for want, _ in parts], [size for _, size in parts])
    pairs = zip(pairwise(places), pairwise(size for _, size in parts), strict=True)
    for (left, right), (a, b) in pairs:
        assert right - left >= (a + b) / 2 - 1e-6


def test_spreading_leaves_alone_what_has_room() -> None:
    assert spread([0.0, 5.0, 9.0], [1.0, 1.0, 1.0]) == pytest.approx([0.0, 5.0, 9.0])


def test_a_cell_is_read_from_an_arch_knob() -> None:
    operations = [KnobValue("conv"), KnobValue("pool")]
    states: list[list[NodeRef]] = [[NodeRef(0), NodeRef(1)], [NodeRef(0), NodeRef(1), NodeRef(2)]]
    items: list[Sequence[KnobValue | NodeRef]] = [
        states[0],
        states[0],
        operations,
        operations,
        states[1],
        states[1],
        operations,
        operations,
    ]
    knob = ArchKnob(items, [2] * 4 + [3] * 4)
    cell = cell_of(knob, [0, 1, 0, 1, 2, 0, 1, 1])
    assert (cell.inputs, cell.nodes) == ((0, 1), (2, 3))
    assert cell.edges == (
        Edge(0, 2, "conv"),
        Edge(1, 2, "pool"),
        Edge(2, 3, "pool"),
        Edge(0, 3, "pool"),
    )
    assert cell.loose == (3,)


def test_an_arch_knob_without_nodes_is_no_cell() -> None:
    with pytest.raises(ValueError, match="builds no node"):
        cell_of(ArchKnob([["a", "b"]]), [0])
