"""The pictures of the demo, as PNG files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Curve
from matplotlib.ticker import MaxNLocator

from rafiki.client.demo.cells import Cell
from rafiki.client.demo.layout import Box, Layout, Line, lay_out
from rafiki.resources import StudyRound

# Okabe and Ito's colours, which also colour-blind people tell apart.
_COLOURS = ("#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#009E73", "#CC79A7", "#F0E442")
_PLAIN = "#7f7f7f"
_INK = "#222222"
_SEARCH, _CONTROL = "#0072B2", "#999999"
_DPI = 130
_LAYER_INCHES = 0.62
_CELL_NOTE = (
    "0 and 1 are the outputs of the two cells before; a node adds up what arrives; "
    "nodes that no other reads are joined to the output"
)
_FONT = 10.0


def draw_cells(cells: Mapping[str, Cell], title: str, path: Path) -> None:
    """Draws cells side by side: nodes, and edges labelled with their operations.

    Args:
        cells: By title.
        title: Of the whole picture.
        path: The PNG file to write.
    """
    layouts = {name: lay_out(cell) for name, cell in cells.items()}
    names = {edge.operation for cell in cells.values() for edge in cell.edges}
    colours = dict(zip(sorted(names, reverse=True), _COLOURS * len(names), strict=False))
    widths = [max(layout.width, 5.0) + 1.0 for layout in layouts.values()]
    height = max(layout.height for layout in layouts.values()) + 1.6
    size = (sum(widths) * 0.82, height * _LAYER_INCHES + 1.0)
    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    figure.suptitle(title, fontsize=13, color=_INK)
    figure.supxlabel(_CELL_NOTE, fontsize=9, color=_PLAIN)
    figure.set_layout_engine("constrained", h_pad=0.1, w_pad=0.1)
    axes = figure.subplots(1, len(layouts), width_ratios=widths, squeeze=False)[0]
    for ax, width, (name, layout) in zip(axes, widths, layouts.items(), strict=True):
        _draw_layout(ax, layout, colours)
        ax.set_title(name, fontsize=12, color=_INK, fontweight="bold")
        middle = layout.width / 2
        ax.set_xlim(middle - width / 2, middle + width / 2)
        ax.set_ylim(-height + 0.9, 0.7)
        ax.axis("off")
    figure.savefig(path, dpi=_DPI)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One curve: `y` over `x`."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


def draw_search(
    rounds: Sequence[StudyRound],
    training: Mapping[str, Sequence[Series]],
    training_x: str,
    title: str,
    path: Path,
) -> None:
    """Draws a search and the final training.

    Args:
        rounds: Of the search, in order.
        training: Curves of the final training, by the label of their y axis.
        training_x: The label of their x axis.
        title: Of the whole picture.
        path: The PNG file to write.
    """
    panels = 2 + len(training)
    columns = 3 if panels == 3 else 2
    rows = -(-panels // columns)
    size = (5.4 * columns, 3.7 * rows + 0.5)
    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    figure.set_layout_engine("constrained", h_pad=0.1, w_pad=0.1)
    figure.suptitle(title, fontsize=13, color=_INK)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    _draw_rewards(axes[0], rounds)
    _draw_entropy(axes[1], rounds)
    for ax, (label, series) in zip(axes[2:], training.items(), strict=False):
        for number, curve in enumerate(series):
            colour = (_SEARCH, _CONTROL, *_COLOURS[2:])[number % 6]
            mark = "o" if len(curve.x) < 40 else None
            ax.plot(curve.x, curve.y, color=colour, label=curve.label, marker=mark, markersize=3)
        ax.set_title(f"final training from scratch: {label}", fontsize=11)
        ax.set_xlabel(training_x)
        ax.set_ylabel(label)
        ax.legend(fontsize=9, frameon=False)
        if all(float(x).is_integer() for curve in series for x in curve.x):
            _whole_numbers(ax)
    for ax in axes[panels:]:
        ax.axis("off")
    for ax in axes[:panels]:
        ax.grid(color="#e8e8e8", linewidth=0.8)
        ax.spines[["top", "right"]].set_visible(False)
        ax.set_axisbelow(True)
    figure.savefig(path, dpi=_DPI)


def _draw_rewards(ax: Axes, rounds: Sequence[StudyRound]) -> None:
    x = [r.round for r in rounds]
    best = [(r.round, r.best.score) for r in rounds if r.best and r.best.score is not None]
    control = [(r.round, r.control) for r in rounds if r.control is not None and r.control.count]
    ax.plot(
        x,
        [r.mean_reward for r in rounds],
        color=_SEARCH,
        marker="o",
        markersize=3.5,
        label="controller's candidates, mean",
    )
    if control:
        at = [number for number, _ in control]
        means = [stats.mean for _, stats in control]
        errors = [stats.standard_deviation / stats.count**0.5 for _, stats in control]
        ax.errorbar(
            at,
            means,
            errors,
            color=_CONTROL,
            marker="s",
            markersize=3.5,
            capsize=2,
            label="random candidates, mean ± its error",
        )
    if best:
        ax.plot(
            *zip(*best, strict=True),
            color="#009E73",
            linestyle=":",
            marker="^",
            markersize=3.5,
            label="best candidate of the round",
        )
    ax.set_title("shared-weight scores (expect them below the final accuracy)", fontsize=11)
    ax.set_xlabel("round (version of the shared weights)")
    ax.set_ylabel("score on a validation minibatch")
    ax.legend(fontsize=9, frameon=False, loc="best")
    _whole_numbers(ax)


def _draw_entropy(ax: Axes, rounds: Sequence[StudyRound]) -> None:
    ax.plot(
        [r.round for r in rounds],
        [r.entropy for r in rounds],
        color="#CC79A7",
        marker="o",
        markersize=3.5,
    )
    ax.set_title("how undecided the controller is", fontsize=11)
    ax.set_xlabel("round")
    ax.set_ylabel("entropy of a candidate (nats)")
    _whole_numbers(ax)


def _whole_numbers(ax: Axes) -> None:
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _draw_layout(ax: Axes, layout: Layout, colours: Mapping[str, str]) -> None:
    for line in layout.lines:
        _draw_line(ax, line, colours.get(line.operation, _PLAIN))
    for box in layout.boxes:
        if box.kind != "bend":
            _draw_box(ax, box, colours)


def _draw_line(ax: Axes, line: Line, colour: str) -> None:
    """A smooth curve, vertical at each of its points, with an arrow at its end."""
    (x, y), *rest = line.points
    points, codes = [(x, y)], [Curve.MOVETO]
    for next_x, next_y in rest:
        middle = (y + next_y) / 2
        points += [(x, middle), (next_x, middle), (next_x, next_y)]
        codes += [Curve.CURVE4] * 3
        x, y = next_x, next_y
    style = "solid" if line.operation else (0, (4, 3))
    ax.add_patch(
        PathPatch(
            Curve(points, codes),
            fill=False,
            edgecolor=colour,
            linewidth=1.6,
            linestyle=style,
            zorder=1,
        )
    )
    tip = y + 0.27
    ax.add_patch(
        Polygon(
            [(x, tip), (x - 0.09, tip + 0.17), (x + 0.09, tip + 0.17)],
            closed=True,
            facecolor=_INK,
            edgecolor="none",
            zorder=1.5,
        )
    )


def _draw_box(ax: Axes, box: Box, colours: Mapping[str, str]) -> None:
    if box.kind == "operation":
        ax.text(
            box.x,
            box.y,
            box.text,
            ha="center",
            va="center",
            fontsize=_FONT,
            zorder=3,
            color=_INK,
            bbox={
                "boxstyle": "round,pad=0.25",
                "facecolor": "white",
                "edgecolor": colours[box.text],
                "linewidth": 1.4,
            },
        )
        return
    half = 0.62 if box.kind == "output" else 0.3
    ax.add_patch(
        FancyBboxPatch(
            (box.x - half, box.y - 0.25),
            2 * half,
            0.5,
            boxstyle="round,pad=0,rounding_size=0.22",
            linewidth=1.2,
            facecolor="#eeeeee" if box.kind == "node" else "#dddddd",
            edgecolor=_INK,
            zorder=2,
        )
    )
    ax.text(
        box.x,
        box.y,
        box.text,
        ha="center",
        va="center",
        fontsize=_FONT + 1,
        zorder=3,
        color=_INK,
        fontweight="bold" if box.kind == "node" else "normal",
    )
