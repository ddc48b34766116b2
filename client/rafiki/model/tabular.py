"""The data set format of the tasks TABULAR_CLASSIFICATION and TABULAR_REGRESSION.

A CSV file in UTF-8: commas, a header line with distinct names, one example per line. The last
column is the target; classes are texts as they stand there. Blanks around values do not count.
An empty value is missing, a target must not be. A column of which every value is a number (or
missing; so is "nan") holds numbers, any other categories. Letters: `N` rows, `F` features.
"""

import csv
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rafiki.model.datasets import InvalidDataset

CLASSIFICATION = "TABULAR_CLASSIFICATION"
REGRESSION = "TABULAR_REGRESSION"

MAX_FILE_BYTES = 2**30
MAX_LINE_CHARACTERS = 2**24
MAX_COLUMNS = 10_000
MAX_VALUES = 2**27
MAX_CLASSES = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """A column that is not the target.

    Attributes:
        name: In the header.
        categories: Its texts, sorted; None is a column of numbers.
    """

    name: str
    categories: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """A data set of rows and columns.

    Attributes:
        features: `[F]`, in the order of the file.
        columns: The values of each feature. Numbers are float64 `[N]`, missing ones NaN;
            categories are int32 `[N]` indices into the feature's, missing ones -1.
        target_name: In the header.
        target: Of a classification int32 `[N]` indices into `class_names`, of a regression
            finite float64 `[N]`.
        class_names: Sorted; empty for a regression.
    """

    features: tuple[Feature, ...]
    columns: tuple[np.ndarray, ...]
    target_name: str
    target: np.ndarray
    class_names: tuple[str, ...]


def load_table(path: str | Path, task: str, *, features: Sequence[Feature] | None = None) -> Table:
    """The data set in the file `path`.

    Args:
        path: The file.
        task: "TABULAR_CLASSIFICATION" or "TABULAR_REGRESSION".
        features: Those that a model was trained with: the kinds of columns are theirs
            then, whatever values this file has. None finds the kinds out.

    Raises:
        InvalidDataset: It is not in the format, has one class (or one target value) only,
            lacks a feature, or is too large: over 1 GiB, 2**27 values or 1,000 classes.
        FileNotFoundError: There is no such file.
    """
    if task not in (CLASSIFICATION, REGRESSION):
        raise ValueError(f"{task!r} is no task of tables")
    path = Path(path)
    if path.stat().st_size > MAX_FILE_BYTES:
        raise InvalidDataset(f"{path.name} is over {MAX_FILE_BYTES >> 30} GiB")
    header = _header(path)
    row_count, numeric = _survey(path, header)
    if features is not None:
        kinds = {feature.name: feature.categories is None for feature in features}
        if missing := kinds.keys() - set(header[:-1]):
            raise InvalidDataset(f"{path.name}: line 1: there is no column {min(missing)!r}")
        numeric = [kinds.get(*column) for column in zip(header, numeric, strict=True)]
    numeric[-1] = task == REGRESSION
    columns = _read(path, header, numeric, row_count)
    *values, target = (column.values for column in columns)
    *categories, class_names = (column.categories() for column in columns)
    if len(np.unique(target)) < 2:
        what = "class" if task == CLASSIFICATION else "value"
        raise InvalidDataset(f"{path.name}: the target {header[-1]!r} has one {what} only")
    if class_names is not None and len(class_names) > MAX_CLASSES:
        raise InvalidDataset(
            f"{path.name}: the target {header[-1]!r} has more than {MAX_CLASSES} classes; "
            f"a number is predicted by {REGRESSION}"
        )
    return Table(
        features=tuple(
            Feature(name=name, categories=own)
            for name, own in zip(header[:-1], categories, strict=True)
        ),
        columns=tuple(values),
        target_name=header[-1],
        target=target,
        class_names=class_names or (),
    )


def write_table(path: str | Path, columns: Mapping[str, Sequence[object] | np.ndarray]) -> None:
    """Writes a data set; equal arguments give equal bytes.

    Args:
        path: The file to write.
        columns: Values by name, in their order; the last column is the target. None and NaN
            are missing.

    Raises:
        InvalidDataset: There are fewer than two columns, no rows, or columns of other lengths.
    """
    lengths = {len(values) for values in columns.values()}
    if len(columns) < 2 or len(lengths) != 1 or lengths == {0}:
        raise InvalidDataset("a table has two columns or more, all with as many values")
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(map(_texts, zip(*columns.values(), strict=True)))


def number_in(text: str) -> float | None:
    """The number a value stands for, NaN if it is empty; None for other texts."""
    if not text:
        return math.nan
    try:
        # Python's digit groups are no numbers in a table.
        return None if "_" in text else float(text)
    except ValueError:
        return None


def _texts(row: Sequence[object]) -> list[str]:
    # NaN alone differs from itself.
    return ["" if value is None or value != value else str(value) for value in row]


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The values of each line that is not blank, with its number."""
    with path.open(encoding="utf-8-sig", newline="") as file:

        def bounded() -> Iterator[str]:
            while line := file.readline(MAX_LINE_CHARACTERS):
                if len(line) == MAX_LINE_CHARACTERS:
                    raise InvalidDataset(
                        f"{path.name}: line {reader.line_num + 1} has more than "
                        f"{MAX_LINE_CHARACTERS} characters"
                    )
                yield line

        reader = csv.reader(bounded(), strict=True)
        try:
            for values in reader:
                if values:
                    yield reader.line_num, [value.strip() for value in values]
        except UnicodeDecodeError as error:
            raise InvalidDataset(f"{path.name} is not UTF-8: {error}") from error
        except csv.Error as error:
            raise InvalidDataset(f"{path.name}: line {reader.line_num}: {error}") from error


def _header(path: Path) -> list[str]:
    line, header = next(_lines(path), (1, []))
    where = f"{path.name}: line {line}"
    if len(header) < 2:
        raise InvalidDataset(f"{where}: two columns or more are needed, the last is the target")
    if len(header) > MAX_COLUMNS:
        raise InvalidDataset(f"{where}: more than {MAX_COLUMNS} columns")
    seen: set[str] = set()
    for number, name in enumerate(header, start=1):
        if not name:
            raise InvalidDataset(f"{where}: column {number} has no name")
        if name in seen:
            raise InvalidDataset(f"{where}: there are two columns {name!r}")
        seen.add(name)
    return header


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    lines = _lines(path)
    next(lines)
    yield from lines


def _survey(path: Path, header: Sequence[str]) -> tuple[int, list[bool]]:
    """The number of rows, and which columns hold numbers."""
    numeric = set(range(len(header)))
    count = 0
    for line, values in _rows(path):
        if len(values) != len(header):
            raise InvalidDataset(
                f"{path.name}: line {line}: {len(values)} values for {len(header)} columns"
            )
        count += 1
        if count * len(header) > MAX_VALUES:
            raise InvalidDataset(f"{path.name}: line {line}: more than {MAX_VALUES} values")
        numeric -= {column for column in numeric if number_in(values[column]) is None}
    if count == 0:
        raise InvalidDataset(f"{path.name} has no rows")
    return count, [column in numeric for column in range(len(header))]


class _Numbers:
    """Fills a column of numbers."""

    def __init__(self, row_count: int) -> None:
        self.values = np.empty(row_count, np.float64)

    def set(self, row: int, text: str) -> str:
        """Takes a value; what is wrong with it."""
        value = number_in(text)
        if value is None or math.isinf(value):
            return "is no finite number"
        self.values[row] = value
        return ""

    def categories(self) -> tuple[str, ...] | None:
        return None


class _Categories:
    """Fills a column of categories."""

    def __init__(self, row_count: int) -> None:
        self._codes = np.empty(row_count, np.int32)
        self._known: dict[str, int] = {}

    def set(self, row: int, text: str) -> str:
        self._codes[row] = self._known.setdefault(text, len(self._known)) if text else -1
        return ""

    @property
    def values(self) -> np.ndarray:
        # From the order of appearance to the sorted one; -1 indexes the last, which stays -1.
        ranks = {text: rank for rank, text in enumerate(sorted(self._known))}
        order = np.array([*(ranks[text] for text in self._known), -1], np.int32)
        codes: np.ndarray = order[self._codes]
        return codes

    def categories(self) -> tuple[str, ...]:
        return tuple(sorted(self._known))


def _read(
    path: Path, header: Sequence[str], numeric: Collection[bool], row_count: int
) -> list[_Numbers | _Categories]:
    columns = [_Numbers(row_count) if own else _Categories(row_count) for own in numeric]
    for row, (line, values) in enumerate(_rows(path)):
        for name, column, text in zip(header, columns, values, strict=True):
            if wrong := column.set(row, text):
                raise InvalidDataset(f"{path.name}: line {line}, column {name!r}: {text!r} {wrong}")
        target = number_in(values[-1])
        if target is not None and math.isnan(target):
            raise InvalidDataset(
                f"{path.name}: line {line}, column {header[-1]!r}: the target is missing"
            )
    return columns
