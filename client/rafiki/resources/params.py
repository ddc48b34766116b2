"""Checkpoints and the blobs they consist of."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Digest:
    """The identity of a blob: SHA-256 as 64 lower-case hexadecimal digits, and its size."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """An array in a blob of its own; see the message of the same name.

    `dtype` is a NumPy or ml_dtypes name such as "float32" or "bfloat16".
    `updates` counts the updates since the start checkpoint; 0 means unknown.
    """

    path: str
    dtype: str
    shape: tuple[int, ...]
    digest: Digest
    updates: int = 0


@dataclass(frozen=True, slots=True)
class Shard:
    """Part `index` of `count` trials that train one supernet side by side."""

    index: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A published, immutable set of tensors, sorted by path.

    The provenance is flattened: the `trial` (name) and `attempt` that saved it, and the
    names of the checkpoints it comes from in `parents`.
    """

    name: str = ""
    tensors: tuple[Tensor, ...] = ()
    trial: str = ""
    attempt: int = 0
    parents: tuple[str, ...] = ()
    shard: Shard | None = None
    size_bytes: int = 0
    create_time: datetime | None = None
