"""What commands print: tables for people, JSON for programs, short texts for values."""

import io
import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from rafiki.model.knobs import ArchKnob, Knob
from rafiki.model.serial import config_to_json
from rafiki.resources import JSON, TrainJobState, TrialState

PIPE_WIDTH = 160  # of what is printed where there is no terminal

STATE_STYLES = {
    "RUNNING": "cyan",
    "PAUSED": "yellow",
    "STOPPING": "yellow",
    "STOPPED": "yellow",
    "SUCCEEDED": "green",
    "COMPLETED": "green",
    "FAILED": "red",
    "ERRORED": "red",
    "CANCELLED": "yellow",
    "PENDING": "dim",
}


def console() -> Console:
    """The console of the standard output, as it is now."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def show(renderable: RenderableType) -> None:
    """Prints something laid out: in the width of the terminal, without one in a wide one."""
    if sys.stdout.isatty():
        console().print(renderable)
        return
    wide = Console(highlight=False, width=PIPE_WIDTH, file=io.StringIO())
    with wide.capture() as capture:
        wide.print(renderable)
    print("\n".join(line.rstrip() for line in capture.get().splitlines()))


def print_error(message: str) -> None:
    """One to three lines on the standard error."""
    for number, line in enumerate(message.strip().splitlines()[:3]):
        print(f"rafiki: {line}" if number == 0 else f"  {line}", file=sys.stderr)


def print_json(value: object) -> None:
    """A value as JSON; see `to_json`."""
    print(json.dumps(to_json(value), indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], empty: str) -> None:
    """A plain table; the line `empty` if there are no rows."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        # The first one names the row: never cut.
        table.add_column(column, no_wrap=column == columns[0], overflow="fold")
    for row in rows:
        table.add_row(*row)
    if table.row_count:
        show(table)
    else:
        print(empty)


def print_fields(values: Mapping[str, str | Text]) -> None:
    """Names and values, one pair a line, without those that are empty."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in values.items():
        if value:
            table.add_row(name, value)
    show(table)


def to_json(value: object) -> JSON:
    """Resources as JSON: times in ISO 8601, durations in seconds, NaN as null.

    Knob configs are written as `rafiki.model.serial` writes them.
    """
    if value is None or (isinstance(value, bool | int | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        if value and all(isinstance(item, Knob) for item in value.values()):
            return to_json(config_to_json(value))
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, frozenset | set):
        return [*sorted(str(item) for item in value)]
    if isinstance(value, Iterable):
        return [to_json(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


def state_text(state: TrainJobState | TrialState | str) -> Text:
    """A state in its colour."""
    return Text(str(state), style=STATE_STYLES.get(str(state), ""))


def score_text(score: float | None) -> str:
    """A score in 4 significant digits; `-` for none."""
    return "-" if score is None else f"{score:.4g}" if abs(score) >= 1e4 else f"{score:.4f}"


def duration_text(seconds: float) -> str:
    """A duration as people say it: `0.4 s`, `12 s`, `3:07 min`, `2:05 h`."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes}:{rest:02d} min"
    hours, rest = divmod(round(seconds / 60), 60)
    return f"{hours}:{rest:02d} h"


def size_text(size_bytes: int) -> str:
    """A number of bytes in a fitting unit, such as `1.4 MiB`."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def time_text(time: datetime | None) -> str:
    """A time in the zone of this machine."""
    return "" if time is None else time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def knob_text(knob: Knob) -> str:
    """The domain of a knob in one line."""
    if isinstance(knob, ArchKnob):
        choices = math.prod(len(position) for position in knob.items)
        size = f"{choices}" if choices < 10**6 else f"{float(choices):.1e}"
        return f"architecture: {len(knob.items)} positions, {size} combinations"
    values = {field.name: getattr(knob, field.name) for field in fields(knob)}
    kind = type(knob).__name__.removesuffix("Knob").lower()
    match kind:
        case "fixed":
            return f"fixed: {values['value']}"
        case "categorical":
            return "one of " + ", ".join(str(value) for value in values["values"])
        case "policy":
            return f"policy {values['policy']}"
        case _:
            scale = ", log scale" if values["is_exp"] else ""
            return f"{kind} from {values['min']} to {values['max']}{scale}"
