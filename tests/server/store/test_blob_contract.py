"""What every blob store does: the one of files, with and without a cache, and that of tests."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.server.store.memory_blobs import MemoryBlobs

from rafiki.resources import Digest
from rafiki.server.domain.blobs import (
    CHUNK_BYTES,
    BlobStore,
    missing_blobs,
    read_blob,
    require_blobs,
)
from rafiki.server.domain.errors import BlobsMissing, DigestMismatch
from rafiki.server.store.blob_cache import CachedBlobs
from rafiki.server.store.blobs import FileBlobs

DAY = timedelta(days=1)


def files(folder: Path) -> BlobStore:
    return FileBlobs(folder)


def unsynced_files(folder: Path) -> BlobStore:
    return FileBlobs(folder, sync=False)


def cached_files(folder: Path) -> BlobStore:
    return CachedBlobs(FileBlobs(folder), 64 * CHUNK_BYTES)


def memory(folder: Path) -> BlobStore:
    return MemoryBlobs()


@pytest.fixture(params=[files, unsynced_files, cached_files, memory])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlobStore]:
    make: Callable[[Path], BlobStore] = request.param
    yield make(tmp_path / "blobs")


def digest_of(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest(), len(data))


def put(store: BlobStore, *contents: bytes) -> None:
    with store.stage() as staging:
        for data in contents:
            blob = staging.add(digest_of(data))
            blob.write(data)
            staging.verify()
        staging.publish()


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, 2 * CHUNK_BYTES + 7])
def test_a_blob_comes_back_as_it_went_in_in_chunks(store: BlobStore, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    put(store, data)
    chunks = list(store.chunks(digest_of(data)))
    assert b"".join(chunks) == data
    assert all(0 < len(chunk) <= CHUNK_BYTES for chunk in chunks)
    assert bytes(read_blob(store, digest_of(data))) == data


@pytest.mark.parametrize("offset", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 3, 2 * CHUNK_BYTES])
def test_a_blob_is_read_from_an_offset(store: BlobStore, offset: int) -> None:
    data = bytes(range(256)) * (2 * CHUNK_BYTES // 256)
    put(store, data)
    assert b"".join(store.chunks(digest_of(data), offset)) == data[offset:]


def test_many_blobs_are_published_at_once(store: BlobStore) -> None:
    contents = [f"blob {number}".encode() for number in range(70)]
    contents += [bytes([number]) * 300_000 for number in range(5)]
    put(store, *contents)
    assert missing_blobs(store, map(digest_of, contents)) == []
    assert {blob.digest for blob in store.stored()} == set(map(digest_of, contents))


def test_missing_blobs_are_named_once_in_their_order(store: BlobStore) -> None:
    put(store, b"here")
    wanted = [digest_of(data) for data in (b"b", b"here", b"a", b"b")]
    assert missing_blobs(store, wanted) == [digest_of(b"b"), digest_of(b"a")]
    with pytest.raises(BlobsMissing):
        require_blobs(store, wanted)
    with pytest.raises(BlobsMissing):
        list(store.chunks(digest_of(b"a")))


def test_a_blob_of_another_size_is_missing(store: BlobStore) -> None:
    put(store, b"here")
    wrong = Digest(digest_of(b"here").sha256, 5)
    assert not store.has(wrong) and not store.renew(wrong)
    with pytest.raises(BlobsMissing):
        store.open(wrong)


def test_bytes_that_do_not_match_are_not_stored(store: BlobStore) -> None:
    with pytest.raises(DigestMismatch), store.stage() as staging:
        staging.add(digest_of(b"good")).write(b"evil")
        staging.verify()
    assert list(store.stored()) == []


def test_a_verified_blob_is_read_before_it_is_stored(store: BlobStore) -> None:
    with store.stage() as staging:
        staging.add(digest_of(b"new")).write(b"new")
        staging.verify()
        with staging.open(digest_of(b"new")) as file:
            assert file.read() == b"new"
        assert not store.has(digest_of(b"new"))
        staging.publish()
        assert store.has(digest_of(b"new"))


def test_two_uploads_of_one_blob_at_the_same_time_both_succeed(store: BlobStore) -> None:
    data = bytes(range(256)) * 2000
    together = threading.Barrier(4)
    errors: list[BaseException] = []

    def upload() -> None:
        try:
            with store.stage() as staging:
                blob = staging.add(digest_of(data))
                together.wait(10)
                blob.write(data)
                staging.verify()
                together.wait(10)
                staging.publish()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=upload) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert bytes(read_blob(store, digest_of(data))) == data


def test_only_what_was_not_used_for_so_long_is_removed(store: BlobStore) -> None:
    put(store, b"12345")
    sha256 = digest_of(b"12345").sha256
    assert store.remove(sha256, unused_for=DAY) is None
    assert store.remove("0" * 64, unused_for=timedelta(0)) is None
    assert store.renew(digest_of(b"12345"))
    assert store.remove(sha256, unused_for=timedelta(0)) == 5
    assert not store.has(digest_of(b"12345"))
    with pytest.raises(BlobsMissing):
        list(store.chunks(digest_of(b"12345")))


def test_what_was_removed_can_be_stored_again(store: BlobStore) -> None:
    put(store, b"here")
    assert bytes(read_blob(store, digest_of(b"here"))) == b"here"
    store.remove(digest_of(b"here").sha256, unused_for=timedelta(0))
    put(store, b"here")
    assert bytes(read_blob(store, digest_of(b"here"))) == b"here"
