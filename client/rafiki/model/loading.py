"""Templates from files: a Python file, or a zip archive of Python files.

A template is imported under a private name, so that templates of equal names do not meet,
and nothing is written next to its source. The modules of an archive import each other
relatively (`from . import layers`).
"""

import hashlib
import importlib
import importlib.util
import inspect
import io
import keyword
import sys
import warnings
import zipfile
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from rafiki.model.base import BaseModel
from rafiki.model.failures import describe_failure

MAX_SOURCE_BYTES = 16 * 2**20


class ModelRejected(ValueError):
    """A template cannot be used; the message says why, in terms of its source."""


def load_class(source_path: str | Path, model_class: str) -> type[BaseModel]:
    """The template `model_class` ("module:Class") of a Python file or a zip archive.

    The same file gives the same class again while it is unchanged.

    Raises:
        ModelRejected: It is not Python, fails to import, or has no such template.
    """
    module_name, _, class_name = model_class.partition(":")
    if not all(map(_is_name, [*module_name.split("."), class_name])):
        raise ModelRejected(f"a model class is written module:Class, not {model_class!r}")
    module = _load_module(Path(source_path).absolute(), module_name)
    found = getattr(module, class_name, None)
    if not inspect.isclass(found) or not issubclass(found, BaseModel):
        defined = ", ".join(_templates(module)) or "none"
        raise ModelRejected(
            f"{module_name} has no subclass of BaseModel called {class_name}; it defines {defined}"
        )
    if missing := sorted(found.__abstractmethods__):
        raise ModelRejected(f"{class_name} does not implement {', '.join(missing)}")
    return found


def find_model_class(py_file: str | Path) -> str:
    """The one template that a Python file defines, as "module:Class".

    Raises:
        ModelRejected: It is not Python, fails to import, or defines none or several.
    """
    path = Path(py_file).absolute()
    if path.suffix != ".py":
        raise ModelRejected(f"{path.name} is no Python file; of an archive, say module:Class")
    module = _load_module(path, path.stem)
    names = _templates(module)
    complete = [name for name in names if not getattr(module, name).__abstractmethods__]
    if len(complete) == 1:
        return f"{path.stem}:{complete[0]}"
    if complete:
        raise ModelRejected(
            f"{path.name} defines several templates, {', '.join(complete)}; say which"
        )
    if names:
        missing = ", ".join(sorted(getattr(module, names[0]).__abstractmethods__))
        raise ModelRejected(f"{names[0]} does not implement {missing}")
    raise ModelRejected(f"{path.name} defines no subclass of rafiki.model.BaseModel")


def pack_source(py_file: str | Path) -> bytes:
    """A zip archive of one Python file; equal files give equal bytes.

    Raises:
        ModelRejected: It is not Python, too large, or its name is no module name.
    """
    path = Path(py_file)
    source = read_source(path)
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        # A ZipInfo of its own has a fixed time stamp, 1980-01-01.
        writer.writestr(zipfile.ZipInfo(path.name), source)
    return archive.getvalue()


def read_source(py_file: str | Path) -> bytes:
    """The bytes of a Python file, once it is known to be one. Nothing is run.

    Raises:
        ModelRejected: It is not Python (with the line), too large, unreadable, or its name
            is no module name.
    """
    path = Path(py_file)
    if path.suffix != ".py" or not _is_name(path.stem):
        raise ModelRejected(
            f"{path.name!r} cannot be imported: a template is a file such as my_model.py, "
            "named with letters, digits and underscores"
        )
    try:
        source = path.read_bytes()
    except OSError as error:
        raise ModelRejected(f"{path} cannot be read: {error.strerror}") from error
    if len(source) > MAX_SOURCE_BYTES:
        raise ModelRejected(f"{path.name} is over {MAX_SOURCE_BYTES >> 20} MiB")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, str(path), "exec", dont_inherit=True)
    except SyntaxError as error:
        where = f" line {error.lineno}" if error.lineno else ""
        raise ModelRejected(f"{path.name}{where} is not Python: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:
        raise ModelRejected(f"{path.name} is not Python: {error}") from error
    return source


class _FileLoader(SourceFileLoader):
    """Loads a Python file and neither reads nor writes `__pycache__`."""

    def get_code(self, fullname: str) -> CodeType:
        code = self.source_to_code(self.get_data(self.path), self.path)
        assert isinstance(code, CodeType)
        return code


def _load_module(path: Path, module_name: str) -> ModuleType:
    """Imports `module_name` as a submodule of a private package whose path is the source."""
    if path.suffix == ".py":
        content = read_source(path)
        if module_name != path.stem:
            raise ModelRejected(f"{path.name} is the module {path.stem}, not {module_name}")
    else:
        content = _read_archive(path, module_name)
    digest = hashlib.sha256(str(path).encode() + b"\0" + content).hexdigest()
    package_name = f"_rafiki_template_{digest[:16]}"
    name = f"{package_name}.{module_name}"
    if name in sys.modules:
        return sys.modules[name]
    package = ModuleType(package_name)
    package.__path__ = [] if path.suffix == ".py" else [str(path)]
    sys.modules[package_name] = package
    importlib.invalidate_caches()
    try:
        if path.suffix != ".py":
            return importlib.import_module(name)
        spec = importlib.util.spec_from_file_location(
            name, path, loader=_FileLoader(name, str(path))
        )
        assert isinstance(spec, ModuleSpec) and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module
    # A template may raise anything while it is imported.
    except (Exception, SystemExit) as error:
        for loaded in [key for key in sys.modules if key.split(".")[0] == package_name]:
            del sys.modules[loaded]
        raise ModelRejected(
            f"{path.name} fails to import: {describe_failure(error, path)}{_hint(error)}"
        ) from error


def _read_archive(path: Path, module_name: str) -> bytes:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
        content = path.read_bytes()
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelRejected(
            f"{path.name} is neither a Python file nor a zip archive: {error}"
        ) from error
    if len(content) > MAX_SOURCE_BYTES:
        raise ModelRejected(f"{path.name} is over {MAX_SOURCE_BYTES >> 20} MiB")
    file = module_name.replace(".", "/")
    if not names & {f"{file}.py", f"{file}/__init__.py"}:
        raise ModelRejected(f"{path.name} has no {file}.py")
    return content


def _templates(module: ModuleType) -> Sequence[str]:
    """The subclasses of BaseModel that `module` itself defines, in order of definition."""
    return [
        name
        for name, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, BaseModel)
        and value.__module__ == module.__name__
        and value.__name__ == name
    ]


def _hint(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return (
            f"\nIs {error.name!r} installed here, and named in `dependencies`? Modules of one "
            f"archive import each other relatively: from . import {error.name}"
        )
    return ""


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)
