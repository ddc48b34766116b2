"""Blobs in files."""

import hashlib
from pathlib import Path

import pytest

from rafiki.resources import Digest
from rafiki.server.domain.blobs import read_blob
from rafiki.server.domain.errors import BlobCorrupt, DigestMismatch
from rafiki.server.store.blobs import FileBlobs


def digest_of(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest(), len(data))


def store(blobs: FileBlobs, *contents: bytes) -> None:
    with blobs.stage() as staging:
        for data in contents:
            blob = staging.add(digest_of(data))
            blob.write(data)
            staging.verify()
        staging.publish()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_bytes_that_do_not_match_leave_nothing_behind(blobs: FileBlobs, tmp_path: Path) -> None:
    with pytest.raises(DigestMismatch) as caught, blobs.stage() as staging:
        staging.add(digest_of(b"good")).write(b"evil")
        staging.verify()
    assert caught.value.actual == digest_of(b"evil").sha256
    assert files(tmp_path / "blobs") == []


def test_too_few_bytes_do_not_match(blobs: FileBlobs) -> None:
    with pytest.raises(DigestMismatch), blobs.stage() as staging:
        staging.add(digest_of(b"good")).write(b"goo")
        staging.verify()


def test_what_is_not_published_is_removed(blobs: FileBlobs, tmp_path: Path) -> None:
    with blobs.stage() as staging:
        staging.add(digest_of(b"verified")).write(b"verified")
        staging.verify()
        staging.add(digest_of(b"begun")).write(b"beg")
    assert files(tmp_path / "blobs") == []


def test_leftovers_of_a_killed_server_are_removed(tmp_path: Path) -> None:
    first = FileBlobs(tmp_path / "blobs")
    staging = first.stage()
    begun = staging.add(digest_of(b"begun")).file
    assert begun is not None
    begun.close()
    assert files(tmp_path / "blobs") != []
    FileBlobs(tmp_path / "blobs")
    assert files(tmp_path / "blobs") == []


def test_storing_a_blob_again_changes_nothing(blobs: FileBlobs, tmp_path: Path) -> None:
    store(blobs, b"here")
    [file] = files(tmp_path / "blobs")
    before = file.stat()
    store(blobs, b"here", b"here")
    assert files(tmp_path / "blobs") == [file]
    assert file.stat().st_ino == before.st_ino


def test_a_stored_blob_is_verified_when_it_comes_again(blobs: FileBlobs) -> None:
    store(blobs, b"good")
    with pytest.raises(DigestMismatch), blobs.stage() as staging:
        staging.add(digest_of(b"good")).write(b"evil")
        staging.verify()
    assert read_blob(blobs, digest_of(b"good")) == b"good"


def test_a_damaged_blob_is_found_and_dropped(blobs: FileBlobs, tmp_path: Path) -> None:
    store(blobs, b"good")
    [file] = files(tmp_path / "blobs")
    file.write_bytes(b"evil")
    with pytest.raises(BlobCorrupt):
        read_blob(blobs, digest_of(b"good"))
    assert not blobs.has(digest_of(b"good"))
    store(blobs, b"good")
    assert read_blob(blobs, digest_of(b"good")) == b"good"


def test_a_truncated_blob_is_missing_and_can_be_stored_again(
    blobs: FileBlobs, tmp_path: Path
) -> None:
    store(blobs, b"good")
    [file] = files(tmp_path / "blobs")
    file.write_bytes(b"goo")
    assert not blobs.has(digest_of(b"good"))
    store(blobs, b"good")
    assert read_blob(blobs, digest_of(b"good")) == b"good"


@pytest.mark.parametrize("sha256", ["", "../../etc/passwd", "A" * 64, "0" * 63 + "\n", "0" * 65])
def test_what_is_no_digest_never_becomes_a_path(blobs: FileBlobs, sha256: str) -> None:
    with pytest.raises(ValueError, match="SHA-256"):
        blobs.has(Digest(sha256, 1))
