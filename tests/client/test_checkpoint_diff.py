"""Comparing checkpoints by their manifests."""

import pytest

from rafiki.client.checkpoints import CheckpointDiff, diff
from rafiki.client.names import checkpoint_name
from rafiki.resources import Checkpoint, Tensor
from rafiki.wire.blobs import digest_of


def checkpoint(**contents: bytes) -> Checkpoint:
    return Checkpoint(
        tensors=tuple(
            Tensor(path=path, dtype="uint8", shape=(len(data),), digest=digest_of(data))
            for path, data in sorted(contents.items())
        )
    )


def test_tensors_are_added_removed_changed_and_unchanged() -> None:
    old = checkpoint(a=b"same", b=b"old", c=b"gone")
    new = checkpoint(a=b"same", b=b"other", d=b"new one")
    assert diff(old, new) == CheckpointDiff(
        added=("d",), removed=("c",), changed=("b",), unchanged=("a",), moved_bytes=5 + 7
    )


def test_what_the_old_one_has_under_another_path_does_not_move() -> None:
    found = diff(checkpoint(a=b"same"), checkpoint(b=b"same", c=b"same"))
    assert (found.added, found.moved_bytes) == (("b", "c"), 0)


def test_what_comes_twice_moves_once() -> None:
    assert diff(checkpoint(), checkpoint(a=b"four", b=b"four")).moved_bytes == 4


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a1b2c3d4/1/7-1", "trainJobs/a1b2c3d4/studies/1/checkpoints/7-1"),
        ("a1b2c3d4/1/7-0", "trainJobs/a1b2c3d4/studies/1/checkpoints/7-0"),
        *[(name, name) for name in ["trainJobs/a1b2c3d4/studies/1/checkpoints/7-1"]],
        ("a1b2c3d4/1/7", ""),
        ("a1b2c3d4", ""),
    ],
)
def test_a_checkpoint_is_named_in_full_or_in_short(text: str, name: str) -> None:
    assert checkpoint_name(text) == name
