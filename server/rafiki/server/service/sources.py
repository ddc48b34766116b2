"""What the server checks of a template's source: the archive, never the code in it."""

import stat
import zipfile
import zlib
from typing import BinaryIO

from rafiki.server.domain.errors import ModelRejected

MAX_SOURCE_BYTES = 16 * 1024 * 1024
MAX_FILES = 2000
MAX_UNPACKED_BYTES = 64 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024
_ENCRYPTED = 0x1
# With which each file begins in the directory of an archive.
_ENTRY = b"PK\x01\x02"


def check_source(source: BinaryIO, model_class: str) -> None:
    """Checks that a zip archive is whole, safe to unpack and holds the module of the class.

    Args:
        source: The archive.
        model_class: As in `Model.model_class`: `module:Class`.

    Raises:
        ModelRejected: It is not; the cause says why.
    """
    # Before any of them is read into memory.
    _check_count(_count_files(source))
    try:
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            _check_members(members)
            _check_module({member.filename for member in members}, model_class)
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise ModelRejected(f"the source is no whole zip archive ({error})") from None
    except NotImplementedError as error:
        raise ModelRejected(f"the source cannot be unpacked ({error})") from None
    if damaged is not None:
        raise ModelRejected(f"{damaged!r} in the source is damaged")


def _count_files(source: BinaryIO) -> int:
    """The entries that the directory of an archive can have at most."""
    count, rest = 0, b""
    while chunk := source.read(_CHUNK_BYTES):
        piece = rest + chunk
        count += piece.count(_ENTRY)
        rest = piece[1 - len(_ENTRY) :]
    source.seek(0)
    return count


def _check_count(files: int) -> None:
    if files > MAX_FILES:
        raise ModelRejected(f"the source has {files} files; at most {MAX_FILES} are taken")


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    _check_count(len(members))
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_UNPACKED_BYTES:
        raise ModelRejected(
            f"the source unpacks to {unpacked} bytes; at most {MAX_UNPACKED_BYTES} are taken"
        )
    seen: set[str] = set()
    for member in members:
        name = member.filename
        if not _is_safe(name):
            raise ModelRejected(f"the source has a file outside its folder: {name[:200]!r}")
        if name in seen:
            raise ModelRejected(f"the source has two files called {name[:200]!r}")
        seen.add(name)
        mode = member.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ModelRejected(f"{name[:200]!r} in the source is a link or a special file")
        if member.flag_bits & _ENCRYPTED:
            raise ModelRejected(f"{name[:200]!r} in the source is encrypted")
        # Python imports from no other, and unpacks what these pack without a limit.
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ModelRejected(f"{name[:200]!r} in the source is not packed by deflate")


def _is_safe(name: str) -> bool:
    parts = name.removesuffix("/").split("/")
    return not any(
        part in ("", ".", "..") or "\\" in part or ":" in part or not part.isprintable()
        for part in parts
    )


def _check_module(names: set[str], model_class: str) -> None:
    module = model_class.partition(":")[0].replace(".", "/")
    wanted = (f"{module}.py", f"{module}/__init__.py")
    if not names.intersection(wanted):
        raise ModelRejected(f"the source has no {wanted[0]}, which model_class names")
