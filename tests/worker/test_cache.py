import hashlib
import os
from pathlib import Path

import pytest

from rafiki.resources import Digest
from rafiki.worker.cache import FileCache, MemoryCache, prune_folder


def digest_of(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest(), len(data))


def put(cache: FileCache, data: bytes) -> Digest:
    digest = digest_of(data)
    with cache.writing(digest) as file:
        file.write(data)
    return digest


def test_a_file_is_found_by_its_digest(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 1 << 20)
    digest = put(cache, b"data")

    path = cache.find(digest)

    assert path is not None
    assert path.read_bytes() == b"data"
    assert cache.find(digest_of(b"other")) is None


def test_a_file_of_another_process_is_verified_first(tmp_path: Path) -> None:
    digest = put(FileCache(tmp_path, 1 << 20), b"data")
    path = FileCache(tmp_path, 1 << 20).find(digest)
    assert path is not None
    path.write_bytes(b"dada")

    assert FileCache(tmp_path, 1 << 20).find(digest) is None
    assert not path.exists()


def test_a_download_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 1 << 20)

    with pytest.raises(OSError, match="line is down"), cache.writing(digest_of(b"data")) as file:
        file.write(b"da")
        raise OSError("line is down")

    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_what_was_used_longest_ago_goes_first_and_what_is_in_use_stays(tmp_path: Path) -> None:
    cache = FileCache(tmp_path, 20)
    digests = [put(cache, bytes([number]) * 10) for number in range(4)]
    for age, digest in enumerate(digests):
        path = cache.find(digest)
        assert path is not None
        os.utime(path, (1000.0 + age, 1000.0 + age))

    cache.prune({digests[0].sha256})

    assert [cache.find(digest) is not None for digest in digests] == [True, False, False, True]


def test_a_folder_that_is_not_there_needs_no_pruning(tmp_path: Path) -> None:
    prune_folder(tmp_path / "none", 0, set())


def test_memory_holds_the_latest_blobs_up_to_its_limit() -> None:
    cache = MemoryCache(10)
    cache.put("a", b"12345")
    cache.put("b", b"12345")
    cache.get("a")
    cache.put("c", b"12345")
    cache.put("too large", b"12345678901")

    assert cache.get("a") == b"12345"
    assert cache.get("b") is None
    assert cache.get("c") == b"12345"
    assert cache.get("too large") is None
