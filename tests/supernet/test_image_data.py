"""Minibatches and what is done to them."""

import itertools

import jax.numpy as jnp
import numpy as np
from jax import Array

from rafiki.supernet import minibatches
from rafiki.supernet.image_data import augment_minibatch, draw_moves


def test_shards_share_the_minibatches_of_one_permutation_without_overlap() -> None:
    alone = minibatches(100, 10, seed=3)
    shards = [minibatches(100, 10, seed=3, shard=(index, 3)) for index in range(3)]
    for number, batch in enumerate(itertools.islice(alone, 25)):
        np.testing.assert_array_equal(next(shards[number % 3]), batch)


def test_minibatches_cover_the_data_once_and_then_follow_another_permutation() -> None:
    batches = list(itertools.islice(minibatches(100, 10, seed=3), 20))
    first, second = np.concatenate(batches[:10]), np.concatenate(batches[10:])
    assert sorted(first) == sorted(second) == list(range(100))
    assert first.tolist() != second.tolist()


def test_a_data_set_smaller_than_a_minibatch_is_repeated() -> None:
    batch = next(minibatches(3, 8, seed=0))
    assert batch.shape == (8,)
    assert set(batch) == {0, 1, 2}


def augmented(image: np.ndarray, shift: int, *, flip: bool) -> Array:
    """64 times the image, each moved in its own way."""
    moves = draw_moves(np.random.default_rng(0), 64, shift, flip)
    moved: Array = augment_minibatch(jnp.asarray(np.repeat(image, 64, 0)), *moves, shift)
    return moved


def test_images_are_moved_within_reach_and_repeat_their_edge() -> None:
    image = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    padded = np.pad(image[0, :, :, 0], 1, mode="edge")
    moved = augmented(image, 1, flip=False)
    allowed = {padded[i : i + 3, j : j + 3].tobytes() for i in range(3) for j in range(3)}
    assert {np.asarray(one[:, :, 0]).tobytes() for one in moved} == allowed


def test_images_are_mirrored_by_chance() -> None:
    image = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    images = augmented(image, 0, flip=True)
    mirrored = [bool((one == image[0, :, ::-1]).all()) for one in images]
    assert 16 < sum(mirrored) < 48
    assert all(
        (one == image[0]).all() for one, flip in zip(images, mirrored, strict=True) if not flip
    )
