"""Merging what the shards of a round have trained, each from the same checkpoint, into one.

Per tensor: base + mean of the deltas over the shards that updated it, weighted by their
update counts, in float64 and in shard order. It is the averaging of local SGD (Stich, "Local
SGD Converges Fast and Communicates Little", arXiv 1805.09767), but for each tensor on its own,
as a shard trains only those that its architectures use. Counters add up.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rafiki.resources import Tensor


class CannotMerge(Exception):
    """The shards do not hold the same tensors; the message names the first that differs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorMerge:
    """One tensor of the base, and those of the shards that updated it, in shard order."""

    base: Tensor
    touched: tuple[Tensor, ...]

    @property
    def whole(self) -> Tensor | None:
        """The tensor that is the result as it stands; None if there is something to compute."""
        return (self.touched or (self.base,))[0] if len(self.touched) < 2 else None

    @property
    def weights(self) -> tuple[int, ...]:
        """The weight of each of `touched`: its update count, and 1 where that is unknown."""
        return tuple(tensor.updates or 1 for tensor in self.touched)

    @property
    def updates(self) -> int:
        """The update count of the result; 0 where one of them is unknown, or there was none."""
        counts = [tensor.updates for tensor in self.touched]
        return sum(counts) if all(counts) else 0


def align(base: Sequence[Tensor], shards: Sequence[Sequence[Tensor]]) -> Iterator[TensorMerge]:
    """What to do for each tensor, by path.

    A shard has not touched a tensor whose bytes are those of the base.

    Args:
        base: The tensors that all shards started from, sorted by path.
        shards: Those that each has saved, likewise.

    Raises:
        CannotMerge: A path, shape or dtype differs from the base's.
    """
    for index, tensors in enumerate(shards):
        _check_alike(base, tensors, f"shard {index} of {len(shards)}")
    for origin, *saved in zip(base, *shards, strict=True):
        touched = tuple(tensor for tensor in saved if tensor.digest != origin.digest)
        yield TensorMerge(base=origin, touched=touched)


def merge_arrays(
    base: np.ndarray, shards: Sequence[np.ndarray], weights: Sequence[int]
) -> np.ndarray:
    """The merged values of one tensor, of its shape and dtype.

    Integers add up the deltas of the shards, as counters do, and wrap around. A bool is what
    most of the weight says; on a tie the base's.

    Args:
        base: What the shards started from.
        shards: At least one: the values of those that updated it, in shard order.
        weights: Their update counts, each at least 1.
    """
    # NaN and infinities are the template's business; casts of them are no error.
    with np.errstate(over="ignore", invalid="ignore"):
        merged = (
            _add_deltas(base, shards) if base.dtype.kind in "iu" else _mean(base, shards, weights)
        )
        if base.dtype.kind == "b":
            merged = np.where(merged == 0.5, base, merged > 0.5)
        return np.asarray(merged.astype(base.dtype)).reshape(base.shape)


def _add_deltas(base: np.ndarray, shards: Sequence[np.ndarray]) -> np.ndarray:
    total = base
    for values in shards:
        total = total + (values - base)
    return total


def _mean(base: np.ndarray, shards: Sequence[np.ndarray], weights: Sequence[int]) -> np.ndarray:
    origin = base.astype(np.float64)
    total = np.zeros_like(origin)
    for values, weight in zip(shards, weights, strict=True):
        total = total + weight * (values.astype(np.float64) - origin)
    merged: np.ndarray = origin + total / sum(weights)
    return merged


def _check_alike(base: Sequence[Tensor], tensors: Sequence[Tensor], who: str) -> None:
    paths, expected = ({tensor.path for tensor in some} for some in (tensors, base))
    if differing := sorted(paths ^ expected):
        what = "lacks" if differing[0] in expected else "has gained"
        raise CannotMerge(f"{who} {what} the tensor {differing[0]!r}")
    for tensor, origin in zip(tensors, base, strict=True):
        ours, theirs = ((x.dtype, x.shape) for x in (tensor, origin))
        if ours != theirs:
            raise CannotMerge(
                f"{tensor.path!r} is {ours[0]}{list(ours[1])} in {who}, "
                f"{theirs[0]}{list(theirs[1])} in what it started from"
            )
