"""The table format: what is read back, what is refused, and the matrices made of it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rafiki.model import (
    Feature,
    InvalidDataset,
    Table,
    load_table,
    query_matrix,
    table_matrix,
    tabular,
    write_table,
)
from rafiki.model.tasks import TASKS

CLASSES = "TABULAR_CLASSIFICATION"
NUMBERS = "TABULAR_REGRESSION"
LENGTH = Feature(name="length", categories=None)
COLOUR = Feature(name="colour", categories=("blue", "red"))


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def load(tmp_path: Path, text: str | bytes, task: str = CLASSES) -> Table:
    return load_table(written(tmp_path / "t.csv", text), task)


def test_numbers_categories_and_classes_come_back(tmp_path: Path) -> None:
    table = load(tmp_path, "length,colour,kind\n1.5,red,b\n,blue,a\n-2e1,,b\n")
    assert table.features == (LENGTH, COLOUR)
    np.testing.assert_array_equal(table.columns[0], [1.5, np.nan, -20.0])
    assert table.columns[1].tolist() == [1, 0, -1]
    assert (table.target_name, table.class_names) == ("kind", ("a", "b"))
    assert table.target.tolist() == [1, 0, 1]
    assert [values.dtype for values in (*table.columns, table.target)] == ["f8", "i4", "i4"]


def test_the_target_of_a_regression_is_its_numbers(tmp_path: Path) -> None:
    table = load(tmp_path, "a,b\n1,0.5\n2,-3\n", NUMBERS)
    assert table.target.tolist() == [0.5, -3.0]
    assert table.class_names == ()


def test_classes_may_look_like_numbers(tmp_path: Path) -> None:
    assert load(tmp_path, "a,b\n1,0\n2,1\n3,0\n").class_names == ("0", "1")


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffa,b\n1,x\n2,y\n",
        "a,b\r\n1,x\r\n2,y\r\n",
        ' a , "b"\n 1 ,x \n\n"2",y\n\n',
        "a,b\n1,x\n2,y",
    ],
)
def test_files_of_other_programs_are_read(text: str, tmp_path: Path) -> None:
    # The second has a quote after a blank, which belongs to the name.
    table = load(tmp_path, text)
    assert table.features == (Feature(name="a", categories=None),)
    assert table.columns[0].tolist() == [1.0, 2.0]
    assert table.class_names == ("x", "y")


def test_one_text_makes_a_column_one_of_categories(tmp_path: Path) -> None:
    table = load(tmp_path, "a,b\n1,x\n2,y\nunknown,y\n")
    assert table.features[0].categories == ("1", "2", "unknown")


def test_a_column_without_any_value_holds_numbers(tmp_path: Path) -> None:
    table = load(tmp_path, "a,b\n,x\n,y\n")
    assert table.features[0].categories is None
    assert np.isnan(table.columns[0]).all()


def test_what_was_written_is_read_and_equal_data_gives_equal_bytes(tmp_path: Path) -> None:
    length = np.array([0.1, np.nan, 1e-300])
    columns: dict[str, Sequence[object] | np.ndarray] = {
        "length": length,
        "a, b": ["x", None, 'say "y"'],
        "kind": [1, 2, 1],
    }
    for name in ("one.csv", "two.csv"):
        write_table(tmp_path / name, columns)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    table = load_table(tmp_path / "one.csv", CLASSES)
    np.testing.assert_array_equal(table.columns[0], length)
    assert table.features[1] == Feature(name="a, b", categories=('say "y"', "x"))
    assert table.columns[1].tolist() == [1, -1, 0]


@pytest.mark.parametrize("columns", [{}, {"a": [1]}, {"a": [], "b": []}, {"a": [1], "b": [1, 2]}])
def test_other_columns_are_not_written(columns: dict[str, list[int]], tmp_path: Path) -> None:
    with pytest.raises(InvalidDataset):
        write_table(tmp_path / "t.csv", columns)
    assert not (tmp_path / "t.csv").exists()


REFUSED: dict[str, tuple[str, str | bytes, str]] = {
    "empty": (CLASSES, "", r"t\.csv: line 1: two columns or more"),
    "one column": (CLASSES, "a\n1\n", "line 1: two columns or more"),
    "no rows": (CLASSES, "a,b\n\n", r"t\.csv has no rows"),
    "unnamed column": (CLASSES, "a,,c\n1,2,x\n", "line 1: column 2 has no name"),
    "duplicate column": (CLASSES, "a,b,a\n1,2,x\n", "line 1: there are two columns 'a'"),
    "short line": (CLASSES, "a,b\n1,x\n2\n", "line 3: 1 values for 2 columns"),
    "long line": (CLASSES, "a,b\n1,x,2\n", "line 2: 3 values for 2 columns"),
    "one class": (CLASSES, "a,b\n1,x\n2,x\n", "target 'b' has one class only"),
    "one target": (NUMBERS, "a,b\n1,3\n2,3.0\n", "target 'b' has one value only"),
    "missing class": (CLASSES, "a,b\n1,x\n2,\n", "line 3, column 'b': the target is missing"),
    "missing target": (NUMBERS, "a,b\n1,3\n2,\n", "line 3, column 'b': the target is missing"),
    "target not a number": (NUMBERS, "a,b\n1,3\n2,x\n", "line 3, column 'b': 'x' is no finite"),
    "target NaN": (NUMBERS, "a,b\n1,3\n2,nan\n", "line 3, column 'b': the target is missing"),
    "target infinite": (NUMBERS, "a,b\n1,3\n2,-inf\n", "column 'b': '-inf' is no finite number"),
    "infinite number": (CLASSES, "a,b\n1e999,x\n2,y\n", "line 2, column 'a': '1e999' is no finite"),
    "not UTF-8": (CLASSES, b"a,b\n\xff,x\n", r"t\.csv is not UTF-8"),
    "endless value": (CLASSES, "a,b\n" + "1" * 200_000 + ",x\n", "line 2: field larger"),
    "quote left open": (CLASSES, 'a,b\n"1,x\n2,y\n', "line 3: unexpected end of data"),
    "text after a quote": (CLASSES, 'a,b\n"1"2,x\n', "line 2: ',' expected after '\"'"),
    "a zip archive": (CLASSES, b"PK\x03\x04\x14\x00\x00\x00\x08\x00\x9d\xff", "is not UTF-8"),
    "too many classes": (
        CLASSES,
        "a,b\n" + "".join(f"1,{n}\n" for n in range(1001)),
        "more than 1000 classes; a number is predicted by TABULAR_REGRESSION",
    ),
    "too many columns": (CLASSES, ",".join(map(str, range(10_001))), "more than 10000 columns"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_malformed_table_is_refused(case: str, tmp_path: Path) -> None:
    task, text, rule = REFUSED[case]
    with pytest.raises(InvalidDataset, match=rule):
        load(tmp_path, text, task)


@pytest.mark.parametrize(
    ("limit", "value", "rule"),
    [
        ("MAX_FILE_BYTES", 10, r"t\.csv is over"),
        ("MAX_VALUES", 3, "line 3: more than 3 values"),
        ("MAX_LINE_CHARACTERS", 10, "line 3 has more than 10 characters"),
    ],
)
def test_what_is_too_large_is_refused(
    limit: str, value: int, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tabular, limit, value)
    with pytest.raises(InvalidDataset, match=rule):
        load(tmp_path, "a,b\n1,x\n12345678,y\n")


def test_a_file_that_is_not_there_is_no_malformed_table(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_table(tmp_path / "t.csv", CLASSES)


def test_another_task_has_no_tables(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'CHESS' is no task of tables"):
        load(tmp_path, "a,b\n1,x\n2,y\n", "CHESS")


def test_columns_are_of_the_kinds_a_model_knows_them_to_be(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "colour,length,kind\n1,2,x\n2,3,y\n")
    table = load_table(path, CLASSES, features=(LENGTH, COLOUR))
    assert table.features[0] == Feature(name="colour", categories=("1", "2"))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("length,kind\n1,x\n2,y\n", "line 1: there is no column 'colour'"),
        ("colour,length,kind\nred,1,x\nred,long,y\n", "line 3, column 'length': 'long' is no fin"),
    ],
)
def test_a_table_that_does_not_fit_a_model_is_refused(text: str, rule: str, tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", text)
    with pytest.raises(InvalidDataset, match=rule):
        load_table(path, CLASSES, features=(LENGTH, COLOUR))


def test_a_matrix_has_the_columns_and_categories_of_the_model(tmp_path: Path) -> None:
    table = load(tmp_path, "colour,length,kind\nred,1,x\ngreen,2,y\n,,y\nblue,4,x\n")
    matrix = table_matrix(table, (LENGTH, COLOUR))
    nan = np.nan
    np.testing.assert_array_equal(matrix, [[1, 1], [2, nan], [nan, nan], [4, 0]])


def test_queries_give_the_rows_that_the_data_set_has() -> None:
    queries: list[object] = [
        {"colour": "red", "length": 1},
        [2.5, "blue"],
        {"length": " 3 "},
        {"colour": "green", "length": None},
        ["", ""],
    ]
    nan = np.nan
    expected = [[1, 1], [2.5, 0], [3, nan], [nan, nan], [nan, nan]]
    np.testing.assert_array_equal(query_matrix(queries, (LENGTH, COLOUR)), expected)


def test_a_category_may_be_asked_for_as_a_number() -> None:
    code = Feature(name="code", categories=("007", "7"))
    assert query_matrix([[7], ["007"]], (code,)).tolist() == [[1.0], [0.0]]


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ({"width": 1}, "query 1: there is no column 'width'"),
        ([1], "query 1 has 1 values for 2 columns"),
        ("red", "query 1 is neither a dict"),
        (3, "query 1 is neither a dict"),
        ({"length": "long"}, "query 1, column 'length': 'long' is no finite number"),
        ({"length": float("inf")}, "query 1, column 'length': 'inf' is no finite number"),
        ({"length": [1]}, r"query 1, column 'length': \[1\] is neither a number nor a text"),
        ({"colour": {}}, "query 1, column 'colour': {} is neither a number nor a text"),
    ],
)
def test_other_queries_are_refused(query: object, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        query_matrix([[1, "red"], query], (LENGTH, COLOUR))


def test_no_queries_are_refused() -> None:
    with pytest.raises(ValueError, match="no queries"):
        query_matrix([], (LENGTH,))


@pytest.mark.parametrize("task", [CLASSES, NUMBERS])
def test_made_up_data_is_in_the_format_and_gives_queries(task: str, tmp_path: Path) -> None:
    known = TASKS[task]
    path = tmp_path / f"sample{known.suffix}"
    said = known.write_sample(path, 40, 1)
    assert said.startswith("40 made-up rows")
    known.check(path)
    queries = known.read_queries(path, 40)
    table = load_table(path, task)
    matrix = table_matrix(table, table.features)
    np.testing.assert_array_equal(query_matrix(queries, table.features), matrix)
    assert np.isnan(matrix[:, 1]).any()
