"""Blobs kept in memory."""

import hashlib
import threading

import pytest
from tests.server.store.memory_blobs import MemoryBlobs

from rafiki.resources import Digest
from rafiki.server.domain.blobs import read_blob
from rafiki.server.domain.errors import BlobCorrupt
from rafiki.server.store.blob_cache import CachedBlobs


def stored(store: MemoryBlobs, data: bytes) -> Digest:
    digest = Digest(hashlib.sha256(data).hexdigest(), len(data))
    with store.stage() as staging:
        staging.add(digest).write(data)
        staging.verify()
        staging.publish()
    return digest


def test_ten_that_fetch_the_same_at_once_read_it_once() -> None:
    store = MemoryBlobs()
    digest = stored(store, bytes(100_000))
    cache = CachedBlobs(store, 1_000_000)
    together = threading.Barrier(10)
    read: list[bytes] = []

    def fetch() -> None:
        together.wait(10)
        read.append(bytes(read_blob(cache, digest)))

    threads = [threading.Thread(target=fetch) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [bytes(100_000)] * 10
    assert store.reads == {digest.sha256: 1}


def test_the_least_recently_used_is_dropped_beyond_the_limit() -> None:
    store = MemoryBlobs()
    first, second, third, *_ = digests = [stored(store, bytes([n]) * 100) for n in range(5)]
    cache = CachedBlobs(store, 400)
    for digest in digests[:4]:
        read_blob(cache, digest)
    read_blob(cache, first)
    read_blob(cache, digests[4])
    store.reads.clear()
    read_blob(cache, first)
    read_blob(cache, third)
    assert store.reads == {}
    read_blob(cache, second)
    assert store.reads == {second.sha256: 1}


def test_a_large_blob_is_not_kept() -> None:
    store = MemoryBlobs()
    digest = stored(store, bytes(101))
    cache = CachedBlobs(store, 400)
    for _ in range(2):
        read_blob(cache, digest)
    assert store.reads == {digest.sha256: 2}


def test_a_damaged_blob_is_not_kept() -> None:
    store = MemoryBlobs()
    digest = stored(store, b"good")
    store.contents[digest.sha256] = b"evil"
    cache = CachedBlobs(store, 400)
    with pytest.raises(BlobCorrupt):
        read_blob(cache, digest)
    stored(store, b"good")
    assert bytes(read_blob(cache, digest)) == b"good"
