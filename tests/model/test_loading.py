"""Templates from files and archives."""

import io
import os
import sys
import zipfile
from pathlib import Path

import pytest

from rafiki.model import BaseModel, takes_candidates
from rafiki.model.loading import ModelRejected, find_model_class, load_class, pack_source

TEMPLATE = Path(__file__).parent / "templates" / "linear_supernet.py"
IMPORT = "from rafiki.model import BaseModel\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def archive(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def test_a_template_is_loaded_from_its_file() -> None:
    template = load_class(TEMPLATE, "linear_supernet:LinearSupernet")
    assert issubclass(template, BaseModel)
    assert takes_candidates(template)


def test_a_template_is_loaded_from_its_archive(tmp_path: Path) -> None:
    path = tmp_path / "source.zip"
    path.write_bytes(pack_source(TEMPLATE))
    template = load_class(path, "linear_supernet:LinearSupernet")
    assert next(iter(template.get_knob_config())) == "batch_size"


def test_one_source_gives_one_class_and_another_source_another(tmp_path: Path) -> None:
    first = load_class(TEMPLATE, "linear_supernet:LinearSupernet")
    assert load_class(TEMPLATE, "linear_supernet:LinearSupernet") is first
    copy = write(tmp_path / TEMPLATE.name, TEMPLATE.read_text() + "# changed\n")
    assert load_class(copy, "linear_supernet:LinearSupernet") is not first


def test_a_changed_file_is_loaded_anew(tmp_path: Path) -> None:
    path = write(tmp_path / "a.py", TEMPLATE.read_text())
    before = load_class(path, "a:LinearSupernet")
    write(path, TEMPLATE.read_text().replace("IMAGE_CLASSIFICATION", "OTHER"))
    assert (before.task, load_class(path, "a:LinearSupernet").task) == (
        "IMAGE_CLASSIFICATION",
        "OTHER",
    )


def test_loading_leaves_no_files_and_no_public_module(tmp_path: Path) -> None:
    path = write(tmp_path / "private_template.py", TEMPLATE.read_text())
    find_model_class(path)
    load_class(path, "private_template:LinearSupernet")
    assert os.listdir(tmp_path) == ["private_template.py"]
    assert "private_template" not in sys.modules
    assert str(tmp_path) not in sys.path


def test_modules_of_an_archive_import_each_other_relatively(tmp_path: Path) -> None:
    path = archive(
        tmp_path / "a.zip",
        {
            "model.py": "from .layers import NAME, Base\n\nclass Model(Base):\n    task = NAME\n",
            "layers.py": TEMPLATE.read_text() + "\nBase = LinearSupernet\nNAME = 'FROM_LAYERS'\n",
        },
    )
    assert load_class(path, "model:Model").task == "FROM_LAYERS"


def test_other_imports_inside_an_archive_are_explained(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", {"model.py": "import layers\n", "layers.py": ""})
    with pytest.raises(ModelRejected, match=r"from \. import layers"):
        load_class(path, "model:Model")


def test_a_failed_import_leaves_no_module(tmp_path: Path) -> None:
    path = write(tmp_path / "a.py", "1 / 0\n")
    before = set(sys.modules)
    with pytest.raises(ModelRejected, match=r"ZeroDivisionError.*\n  a\.py, line 1, in <module>"):
        load_class(path, "a:Model")
    assert not [name for name in set(sys.modules) - before if name.startswith("_rafiki")]


def test_the_only_template_of_a_file_is_found() -> None:
    assert find_model_class(TEMPLATE) == "linear_supernet:LinearSupernet"


def test_imported_and_abstract_templates_do_not_count(tmp_path: Path) -> None:
    text = TEMPLATE.read_text() + "\n\nclass Unfinished(BaseModel):\n    pass\n"
    assert find_model_class(write(tmp_path / "a.py", text)) == "a:LinearSupernet"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("def f(:\n", r"a\.py line 1 is not Python: invalid syntax"),
        ("x = 1\n  y = 2\n", r"a\.py line 2 is not Python: unexpected indent"),
        ("\0", r"a\.py.* is not Python"),
        ("", r"a\.py defines no subclass of rafiki\.model\.BaseModel"),
        (IMPORT, "defines no subclass"),
        (IMPORT + "class A(BaseModel): pass\n", "A does not implement dump_parameters, evaluate"),
        ("import no_such\n", "No module named 'no_such'"),
        ("from rafiki.model import Nothing\n", "cannot import name 'Nothing'"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
    ],
)
def test_a_file_without_a_template_is_refused(text: str, rule: str, tmp_path: Path) -> None:
    with pytest.raises(ModelRejected, match=rule):
        find_model_class(write(tmp_path / "a.py", text))


def test_bytes_that_are_no_text_are_not_python(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"\x93NUMPY\xff\xfe")
    with pytest.raises(ModelRejected, match="is not Python"):
        pack_source(tmp_path / "a.py")


@pytest.mark.parametrize("name", ["my-model.py", "class.py", "1st.py", "model.txt", "model"])
def test_a_file_name_that_is_no_module_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelRejected, match="cannot be imported"):
        pack_source(write(tmp_path / name, ""))


@pytest.mark.parametrize(
    ("model_class", "rule"),
    [
        ("LinearSupernet", "is written module:Class"),
        ("linear_supernet:", "is written module:Class"),
        ("a b:C", "is written module:Class"),
        ("other:LinearSupernet", "is the module linear_supernet, not other"),
        ("linear_supernet:Other", "it defines LinearSupernet"),
        ("linear_supernet:FEATURES", "no subclass of BaseModel called FEATURES"),
    ],
)
def test_a_class_that_is_not_there_is_refused(model_class: str, rule: str) -> None:
    with pytest.raises(ModelRejected, match=rule):
        load_class(TEMPLATE, model_class)


def test_an_archive_without_the_module_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRejected, match=r"has no model\.py"):
        load_class(archive(tmp_path / "a.zip", {"other.py": ""}), "model:Model")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelRejected, match="neither a Python file nor a zip archive"):
        load_class(write(tmp_path / "a.zip", "x"), "model:Model")


def test_packing_is_deterministic_and_holds_the_file_alone(tmp_path: Path) -> None:
    packed = pack_source(TEMPLATE)
    copy = write(tmp_path / TEMPLATE.name, TEMPLATE.read_text())
    os.utime(copy, (1, 1))
    assert pack_source(copy) == packed
    with zipfile.ZipFile(io.BytesIO(packed)) as file:
        assert file.namelist() == ["linear_supernet.py"]
        assert file.read("linear_supernet.py") == TEMPLATE.read_bytes()
