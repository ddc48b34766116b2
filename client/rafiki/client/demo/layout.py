"""Where the parts of a cell are drawn: a layered layout, top to bottom.

After Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system
structures" (1981): layers by longest path, an order within each layer that crosses few
lines, then coordinates. Every operation has a place of its own, in a layer between those
of the nodes, and long lines have a bend in every layer they pass, so nothing overlaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from rafiki.client.demo.cells import Cell

SWEEPS = 24
BEND_WIDTH = 0.35


@dataclass(frozen=True, slots=True)
class Box:
    """A part at (x, y): `kind` is "node", "operation", "output" or "bend"."""

    kind: str
    text: str
    x: float
    y: float


@dataclass(frozen=True, slots=True)
class Line:
    """A line through points, from a box to another; `operation` is what it carries."""

    points: tuple[tuple[float, float], ...]
    operation: str


@dataclass(frozen=True, slots=True)
class Layout:
    """What to draw, within `width` and from 0 down to `-height`."""

    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    width: float
    height: float


@dataclass(slots=True)
class _Part:
    kind: str
    text: str
    layer: int
    size: float
    above: list[int]
    below: list[int]
    x: float = 0.0


def lay_out(cell: Cell, operation_width: float = 1.15, node_width: float = 1.0) -> Layout:
    """The layout of a cell, in units of about the height of a layer.

    Args:
        cell: What to lay out.
        operation_width: Room for the name of an operation.
        node_width: Room for a node.
    """
    graph = _Graph(cell, operation_width, node_width)
    graph.order()
    graph.place()
    left = min(part.x - part.size / 2 for part in graph.parts)
    right = max(part.x + part.size / 2 for part in graph.parts)
    at = [(part.x - left, -float(part.layer)) for part in graph.parts]
    boxes = tuple(Box(part.kind, part.text, *at[number]) for number, part in enumerate(graph.parts))
    lines = tuple(Line(tuple(at[part] for part in path), text) for path, text in graph.paths)
    return Layout(boxes, lines, right - left, float(max(part.layer for part in graph.parts)))


class _Graph:
    """Parts in layers: nodes in even ones, operations in odd ones."""

    def __init__(self, cell: Cell, operation_width: float, node_width: float) -> None:
        self.parts: list[_Part] = []
        self.paths: list[tuple[list[int], str]] = []
        depth = dict.fromkeys(cell.inputs, 0)
        for node in cell.nodes:
            depth[node] = 1 + max(depth[edge.source] for edge in cell.edges if edge.target == node)
        number = {
            node: self._add("node", str(node), 2 * depth[node], node_width)
            for node in (*cell.inputs, *cell.nodes)
        }
        for edge in cell.edges:
            target = number[edge.target]
            layer = self.parts[target].layer - 1
            operation = self._add("operation", edge.operation, layer, operation_width)
            path = [*self._bends(number[edge.source], layer), operation, target]
            self._connect(path, edge.operation)
        last = 2 * max(depth.values()) + 2
        output = self._add("output", "output", last, 1.6 * node_width)
        for node in cell.loose:
            self._connect([*self._bends(number[node], last), output], "")
        self.layers: list[list[int]] = [[] for _ in range(last + 1)]
        for index, part in enumerate(self.parts):
            self.layers[part.layer].append(index)

    def order(self) -> None:
        """Orders each layer by the means of its neighbours, keeping the best order seen."""
        best, crossings = [list(layer) for layer in self.layers], self._crossings()
        for sweep in range(SWEEPS):
            is_down = sweep % 2 == 0
            for layer in self.layers if is_down else reversed(self.layers):
                rank = {part: n for others in self.layers for n, part in enumerate(others)}
                keys = {part: self._mean_rank(part, rank, is_down) for part in layer}
                layer.sort(key=keys.__getitem__)
            self._swap()
            now = self._crossings()
            if now < crossings:
                best, crossings = [list(layer) for layer in self.layers], now
        self.layers = best

    def place(self) -> None:
        """Moves the parts of each layer near their neighbours, without touching."""
        for layer in self.layers:
            for n, part in enumerate(layer):
                self.parts[part].x = n * 1.0
        for sweep in range(2 * SWEEPS):
            layers = self.layers if sweep % 2 == 0 else self.layers[::-1]
            for layer in layers:
                wanted = [self._mean_x(part) for part in layer]
                sizes = [self.parts[part].size for part in layer]
                for part, x in zip(layer, spread(wanted, sizes), strict=True):
                    self.parts[part].x = x

    def _add(self, kind: str, text: str, layer: int, size: float) -> int:
        self.parts.append(_Part(kind, text, layer, size, [], []))
        return len(self.parts) - 1

    def _bends(self, source: int, layer: int) -> list[int]:
        """The source, then a bend in every layer between it and `layer`."""
        between = range(self.parts[source].layer + 1, layer)
        return [source, *(self._add("bend", "", passed, BEND_WIDTH) for passed in between)]

    def _connect(self, path: list[int], text: str) -> None:
        for upper, lower in pairwise(path):
            self.parts[upper].below.append(lower)
            self.parts[lower].above.append(upper)
        self.paths.append((path, text))

    def _mean_rank(self, part: int, rank: dict[int, int], is_down: bool) -> float:
        near = self.parts[part].above if is_down else self.parts[part].below
        if not near:
            return float(rank[part])
        return sum(rank[other] for other in near) / len(near)

    def _mean_x(self, part: int) -> float:
        near = [*self.parts[part].above, *self.parts[part].below]
        # Long lines are kept straight, after Gansner et al., "A technique for drawing
        # directed graphs" (1993).
        kinds = [(self.parts[part].kind, self.parts[other].kind).count("bend") for other in near]
        weights = [(1, 2, 8)[bends] for bends in kinds]
        total = sum(w * self.parts[other].x for w, other in zip(weights, near, strict=True))
        return total / sum(weights) if near else self.parts[part].x

    def _swap(self) -> None:
        """Swaps neighbours while that crosses fewer lines."""
        for layer in self.layers:
            for n in range(len(layer) - 1):
                before = self._crossings()
                layer[n], layer[n + 1] = layer[n + 1], layer[n]
                if self._crossings() >= before:
                    layer[n], layer[n + 1] = layer[n + 1], layer[n]

    def _crossings(self) -> int:
        count = 0
        for upper, lower in pairwise(self.layers):
            rank = {part: n for n, part in enumerate(lower)}
            ends = [
                rank[other]
                for part in upper
                for other in sorted(self.parts[part].below, key=lambda o: rank[o])
            ]
            count += sum(a > b for n, a in enumerate(ends) for b in ends[n + 1 :])
        return count


def spread(wanted: Sequence[float], sizes: Sequence[float]) -> list[float]:
    """The places nearest to those wanted (least squares) where nothing overlaps.

    The order stays. Isotonic regression by pooling adjacent violators.
    """
    offsets = [0.0]
    for left, right in pairwise(sizes):
        offsets.append(offsets[-1] + (left + right) / 2)
    pools: list[tuple[float, int]] = []  # mean, count
    for want, offset in zip(wanted, offsets, strict=True):
        pools.append((want - offset, 1))
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            (mean, count), (last, last_count) = pools[-2], pools[-1]
            total = count + last_count
            pools[-2:] = [((mean * count + last * last_count) / total, total)]
    means = [mean for mean, count in pools for _ in range(count)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]
