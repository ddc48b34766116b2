"""TABULAR_CLASSIFICATION and TABULAR_REGRESSION: rows of numbers and categories.

A query is a dict of values by column (what is left out is missing) or a list of values in the
order of the columns, without the target. A prediction is a dict of probabilities by class, or
a number.
"""

import functools
import math
from pathlib import Path

import numpy as np

from rafiki.model.tabular import CLASSIFICATION, REGRESSION, load_table, write_table
from rafiki.model.tasks.task_format import TaskFormat

COLOURS = ("amber", "blue", "green")
SPECIES = ("large", "long", "small")


def check(task: str, path: Path) -> None:
    """Raises InvalidDataset unless `load_table` can read the file for the task."""
    load_table(path, task)


def write_sample(task: str, path: Path, count: int, seed: int) -> str:
    """Writes rows of two numbers, one of them now and then missing, and a colour."""
    generator = np.random.default_rng(seed)
    length, width = generator.uniform(0, 10, (2, count)).round(2)
    colour = generator.integers(0, len(COLOURS), count)
    width[generator.random(count) < 0.1] = np.nan
    columns: dict[str, list[str] | np.ndarray] = {
        "length": length,
        "width": width,
        "colour": [COLOURS[index] for index in colour],
    }
    if task == CLASSIFICATION:
        # Each class at least once, in any sample of three rows.
        species = np.select([length < 4, colour == 0], [2, 1], 0)
        species[: len(SPECIES)] = np.arange(len(SPECIES))[:count]
        columns["species"] = [SPECIES[index] for index in species]
        what = f"{len(SPECIES)} classes"
    else:
        noise = generator.normal(0, 0.5, count)
        columns["weight"] = (3 * length + 4.0 * colour + noise).round(3)
        what = "a number to predict"
    write_table(path, columns)
    return f"{count} made-up rows of two numbers and a category; {what}"


def read_queries(task: str, path: Path, count: int) -> list[object]:
    """The first rows as dicts of values by column."""
    table = load_table(path, task)
    queries: list[object] = []
    for row in range(min(count, len(table.target))):
        query: dict[str, object] = {}
        for feature, values in zip(table.features, table.columns, strict=True):
            value = values[row]
            if feature.categories is not None:
                query[feature.name] = feature.categories[value] if value >= 0 else None
            else:
                query[feature.name] = None if math.isnan(value) else float(value)
        queries.append(query)
    return queries


def _task_format(task: str, target: str) -> TaskFormat:
    return TaskFormat(
        task=task,
        data=f"a CSV file with a header line; the last column is {target}",
        suffix=".csv",
        check=functools.partial(check, task),
        write_sample=functools.partial(write_sample, task),
        read_queries=functools.partial(read_queries, task),
    )


TABULAR_CLASSIFICATION = _task_format(CLASSIFICATION, "the class")
TABULAR_REGRESSION = _task_format(REGRESSION, "the number to predict")
