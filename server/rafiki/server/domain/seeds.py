"""Seeds derived from seeds, so that one seed of a job decides every draw in it."""

import hashlib
import json

# `json.dumps` with such settings would make an encoder for every call.
_encode = json.JSONEncoder(separators=(",", ":")).encode


def derive_seed(seed: int, *parts: int | str) -> int:
    """A seed in [0, 2**63) that depends on `seed` and on every part, order and type included.

    The first 63 bits of the SHA-256 of the arguments as compact JSON: equal on every
    platform and in every release.
    """
    text = _encode([seed, *parts])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
