"""The figures of a benchmark as text for people, and as JSON."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from math import isnan
from statistics import median

from benchmarks.regret import REFERENCE, Estimate, Figure, Search, figures
from benchmarks.simulation import Run
from benchmarks.tables import Table

from rafiki.resources import JSON

WIDTH = 18


def report_lines(
    runs: Sequence[Run], tables: Mapping[str, Table], at: Sequence[int]
) -> Iterator[str]:
    """What there is to say of runs, line by line."""
    overall = figures(runs, tables, at)
    yield from _grid("mean normalised regret, over all tables", overall, _regret)
    if any(figure.difference for figure in overall):
        title = f"regret less that of {REFERENCE}: is it not worse, within 2 standard errors?"
        yield from _grid(title, overall, _difference)
    if any(figure.lost_advantage is not None for figure in overall):
        title = "share of the advantage over random search lost by working in parallel"
        yield from _grid(title, overall, _lost_advantage)
    for name, table in tables.items():
        single = figures(runs, {name: table}, at)
        if len(tables) > 1:
            yield from _grid(f"{name}: regret", single, _regret)
        if table.is_architecture:
            yield from _grid(f"{name}: found, % (best {table.best:.2f})", single, _found)
    yield from _per_search(runs)


def to_json(runs: Sequence[Run], tables: Mapping[str, Table], at: Sequence[int]) -> dict[str, JSON]:
    """The figures over all tables and of each, and the runs they are made from."""
    groups: dict[str, Mapping[str, Table]] = {"all": tables}
    groups |= {name: {name: table} for name, table in tables.items()}
    return {
        "tables": {
            name: {"best": table.best, "median": table.median} for name, table in tables.items()
        },
        "figures": {
            group: [
                {
                    **asdict(figure),
                    "search": {"scheme": figure.search[0], "workers": figure.search[1]},
                    "is_not_worse": figure.is_not_worse if figure.difference else None,
                }
                for figure in figures(runs, members, at)
            ]
            for group, members in groups.items()
        },
        "runs": [asdict(run) for run in runs],
    }


def _regret(figure: Figure) -> str:
    return _with_error(figure.regret, 3)


def _found(figure: Figure) -> str:
    return _with_error(figure.found, 2) if figure.found else ""


def _difference(figure: Figure) -> str:
    if figure.difference is None:
        return ""
    verdict = "ok" if figure.is_not_worse else "WORSE"
    return f"{figure.difference.mean:+.3f} ±{figure.difference.error:.3f} {verdict}"


def _lost_advantage(figure: Figure) -> str:
    lost = figure.lost_advantage
    if lost is None:
        return ""
    return "had none" if isnan(lost.mean) else f"{lost.mean:.0%} ±{lost.error:.0%}"


def _with_error(value: Estimate, digits: int) -> str:
    error = "" if isnan(value.error) else f" ±{value.error:.{digits}f}"
    return f"{value.mean:.{digits}f}{error}"


def _grid(title: str, listed: Sequence[Figure], cell: Callable[[Figure], str]) -> Iterator[str]:
    """A table with a row per search and a column per number of evaluations."""
    rows: dict[Search, list[str]] = {}
    for figure in listed:
        if text := cell(figure):
            rows.setdefault(figure.search, []).append(text)
    at = sorted({figure.evaluations for figure in listed})
    yield ""
    yield title
    yield _row("scheme", "workers", [f"after {evaluations}" for evaluations in at])
    for (scheme, workers), cells in rows.items():
        yield _row(scheme, str(workers), cells)


def _per_search(runs: Sequence[Run]) -> Iterator[str]:
    by_search: dict[Search, list[Run]] = {}
    for run in runs:
        by_search.setdefault((run.scheme, run.workers), []).append(run)
    yield ""
    yield "cost and repeats"
    yield _row("scheme", "workers", ["ask + tell, ms", "repeats, %"])
    for (scheme, workers), own in by_search.items():
        repeats = sum(run.repeats for run in own) / sum(run.evaluations for run in own)
        ask_tell_ms = median(run.ask_tell_ms for run in own)
        yield _row(scheme, str(workers), [f"{ask_tell_ms:.2f}", f"{100 * repeats:.1f}"])


def _row(scheme: str, workers: str, cells: Sequence[str]) -> str:
    return f"{scheme:<28}{workers:>8}" + "".join(f"{cell:>{WIDTH + 4}}" for cell in cells)
