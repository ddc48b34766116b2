"""What holds for the packages as a whole."""

import importlib
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import rafiki

ROOT = Path(__file__).parent.parent
PORTIONS = ("client", "server", "worker")


def test_rafiki_is_a_namespace_of_three_portions() -> None:
    assert rafiki.__file__ is None
    assert {str(Path(path).parent.name) for path in rafiki.__path__} == set(PORTIONS)


@pytest.mark.parametrize(
    "name", ["rafiki.model", "rafiki.resources", "rafiki.client", "rafiki.supernet"]
)
def test_what_a_package_exports_exists(name: str) -> None:
    package = importlib.import_module(name)
    assert [n for n in package.__all__ if not hasattr(package, n)] == []
    assert sorted(set(package.__all__)) == sorted(package.__all__)


@pytest.mark.parametrize(
    "name", ["rafiki.client", "rafiki.model", "rafiki.worker", "rafiki.server.app"]
)
def test_importing_a_package_does_not_import_jax(name: str) -> None:
    code = f"import sys, {name}; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_source_never_pickles() -> None:
    found = [
        f"{path}: {line}"
        for portion in PORTIONS
        for path in (ROOT / portion).rglob("*.py")
        if "/v1/" not in str(path)
        for line in path.read_text().splitlines()
        if re.search(
            r"\bimport (c?pickle|multiprocessing|marshal|shelve)\b|allow_pickle=True", line
        )
    ]
    assert found == []


def test_the_template_of_the_docs_passes_its_bench(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "writing-a-model.md").read_text()
    template = tmp_path / "softmax.py"
    match = re.search(r"```python\n(import numpy.*?)```", text, re.DOTALL)
    assert match is not None
    template.write_text(match.group(1))
    report = tmp_path / "report.json"
    command = [sys.executable, "-m", "rafiki.model.bench", str(template), "--json", str(report)]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    assert json.loads(report.read_text())["ok"] is True


def test_the_readme_and_the_docs_show_the_same_template() -> None:
    texts = [(ROOT / name).read_text() for name in ("README.md", "docs/writing-a-model.md")]
    blocks = [re.search(r"```python\n(import numpy.*?)```", text, re.DOTALL) for text in texts]
    assert all(blocks)
    assert blocks[0].group(1) == blocks[1].group(1)  # type: ignore[union-attr]


@pytest.mark.slow
def test_the_wheel_holds_every_module_once(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "-w",
        str(tmp_path),
        str(ROOT),
    ]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")]
    expected = [
        str(path.relative_to(ROOT / portion))
        for portion in PORTIONS
        for path in (ROOT / portion / "rafiki").rglob("*.py")
    ]
    assert sorted(names) == sorted(expected)
