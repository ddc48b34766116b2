"""The tasks that are known: each one's made-up data is in its own format."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rafiki.client.cli.app import app
from rafiki.model import InvalidDataset
from rafiki.model.tasks import TASKS, TaskFormat

PAGE = (Path(__file__).parents[2] / "docs" / "data-sets.md").read_text("utf-8")
EACH = pytest.mark.parametrize("known", TASKS.values(), ids=list(TASKS))


def sample(known: TaskFormat, folder: Path, count: int = 12, seed: int = 1) -> Path:
    path = folder / f"{count}-{seed}{known.suffix}"
    assert known.write_sample(path, count, seed).startswith(str(count))
    return path


def is_json(value: object) -> bool:
    match value:
        case dict():
            return all(isinstance(key, str) and is_json(part) for key, part in value.items())
        case list():
            return all(map(is_json, value))
        case _:
            return value is None or isinstance(value, (bool, int, float, str))


def test_every_task_is_registered_under_its_name() -> None:
    assert {name: known.task for name, known in TASKS.items()} == {name: name for name in TASKS}
    assert "IMAGE_CLASSIFICATION" in TASKS
    assert "POS_TAGGING" in TASKS


@EACH
def test_a_sample_passes_its_own_check(known: TaskFormat, tmp_path: Path) -> None:
    known.check(sample(known, tmp_path))


@EACH
def test_a_sample_is_given_by_its_seed(known: TaskFormat, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    first = sample(known, tmp_path).read_bytes()
    assert sample(known, tmp_path / "again").read_bytes() == first
    assert sample(known, tmp_path, seed=2).read_bytes() != first


@EACH
def test_queries_are_read_and_can_be_sent_as_json(known: TaskFormat, tmp_path: Path) -> None:
    queries = known.read_queries(sample(known, tmp_path), 3)
    assert len(queries) == 3
    assert is_json(queries)


@EACH
def test_there_are_no_more_queries_than_examples(known: TaskFormat, tmp_path: Path) -> None:
    assert len(known.read_queries(sample(known, tmp_path), 100)) == 12


@EACH
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00\x80", b"PK\x03\x04 \x80 no archive"])
def test_what_is_in_no_format_is_refused_by_its_name(
    known: TaskFormat, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / f"broken{known.suffix}"
    path.write_bytes(content)
    with pytest.raises(InvalidDataset, match="broken"):
        known.check(path)


@EACH
def test_a_file_that_is_not_there_is_told_as_such(known: TaskFormat, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        known.check(tmp_path / "nowhere")


def test_the_command_lists_every_task_with_its_format() -> None:
    result = CliRunner().invoke(app, ["dataset", "formats"])
    assert result.exit_code == 0
    for known in TASKS.values():
        assert known.task in result.stdout
        assert known.data in result.stdout


def test_the_formats_are_listed_as_json() -> None:
    result = CliRunner().invoke(app, ["dataset", "formats", "--json"])
    assert result.exit_code == 0
    for known in TASKS.values():
        assert f'"{known.task}"' in result.stdout


BROKEN = {
    "IMAGE_CLASSIFICATION": ("a,b\n", "not a zip archive"),
    "POS_TAGGING": ("they\tPRON\nswim VERB\n", "line 2"),
    "TABULAR_CLASSIFICATION": ("", "broken"),
    "TABULAR_REGRESSION": ("length,weight\n3,heavy\n", "heavy"),
    "LANGUAGE_MODELLING": (" \n", "empty"),
}


@EACH
def test_a_broken_file_is_not_uploaded_and_what_is_wrong_is_said(
    known: TaskFormat, tmp_path: Path
) -> None:
    content, told = BROKEN[known.task]
    path = tmp_path / "broken"
    path.write_text(content, encoding="utf-8")
    # No server listens there: the file is checked before anything is sent.
    arguments = ["--task", known.task, "--server", "127.0.0.1:1"]
    result = CliRunner().invoke(app, ["dataset", "create", str(path), *arguments])
    assert result.exit_code == 1
    assert "broken" in result.stderr
    assert told in result.stderr
    assert len(result.stderr.splitlines()) <= 3


def section(task: str) -> str:
    """What the page on data sets says of a task."""
    (found,) = re.findall(rf"^## {task}\n(.*?)(?=^## )", PAGE, re.DOTALL | re.MULTILINE)
    return str(found)


@EACH
def test_the_page_on_data_sets_shows_how_to_upload_and_to_ask(known: TaskFormat) -> None:
    text = section(known.task)
    assert "$ rafiki dataset create train" in text
    (query, prediction) = re.findall(r"^(?:query|prediction) +(.*)$", text, re.MULTILINE)
    assert is_json(json.loads(query))
    assert is_json(json.loads(prediction))


@pytest.mark.parametrize("task", sorted(TASKS.keys() - {"IMAGE_CLASSIFICATION"}))
def test_the_example_on_the_page_is_in_the_format(task: str, tmp_path: Path) -> None:
    example = re.findall(r"^```text\n(.*?)^```", section(task), re.DOTALL | re.MULTILINE)[0]
    path = tmp_path / "example"
    path.write_text(example, encoding="utf-8")
    TASKS[task].check(path)
    assert TASKS[task].read_queries(path, 1)
