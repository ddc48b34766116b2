"""Cells as graphs, from the choices of an arch knob."""

from collections.abc import Sequence
from dataclasses import dataclass

from rafiki.model.knobs import ArchKnob, NodeRef, arch_values


@dataclass(frozen=True, slots=True)
class Edge:
    """An operation: what node `source` gives goes through it into node `target`."""

    source: int
    target: int
    operation: str


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell: nodes add up what their edges bring.

    `inputs` are nodes that no position builds. `loose` are the nodes, inputs included, that
    no edge reads; they make the output.
    """

    inputs: tuple[int, ...]
    nodes: tuple[int, ...]
    edges: tuple[Edge, ...]

    @property
    def loose(self) -> tuple[int, ...]:
        """The nodes whose values leave the cell."""
        read = {edge.source for edge in self.edges}
        return tuple(node for node in (*self.inputs, *self.nodes) if node not in read)


def cell_of(knob: ArchKnob, choices: Sequence[int]) -> Cell:
    """The cell that `choices`, one index per position, make of a knob with nodes.

    Every position belongs to a node; of a node's positions, those that choose a node are
    paired in order with those that choose an operation.

    Raises:
        ValueError: The knob does not describe a cell.
    """
    values = arch_values(knob, choices)
    sources: dict[int, list[int]] = {}
    operations: dict[int, list[str]] = {}
    for node, position, value in zip(knob.nodes, knob.items, values, strict=True):
        if node is None:
            raise ValueError("a position builds no node")
        if all(isinstance(choice, NodeRef) for choice in position):
            sources.setdefault(node, []).append(int(value))
        else:
            operations.setdefault(node, []).append(str(value))
    if {n: len(s) for n, s in sources.items()} != {n: len(o) for n, o in operations.items()}:
        raise ValueError("a node has more inputs than operations, or fewer")
    nodes = tuple(sorted(sources))
    referable = {c.node for items in knob.items for c in items if isinstance(c, NodeRef)}
    edges = tuple(
        Edge(source, node, operation)
        for node in nodes
        for source, operation in zip(sources[node], operations[node], strict=True)
    )
    if any(edge.source >= edge.target for edge in edges):
        raise ValueError("a node reads one that comes after it")
    return Cell(tuple(sorted(referable - set(nodes))), nodes, edges)
