"""Derived seeds."""

from hypothesis import given
from hypothesis import strategies as st

from rafiki.server.domain.seeds import derive_seed


def test_a_derived_seed_is_the_same_in_every_release() -> None:
    assert derive_seed(7, "trial", 1) == 7959262297099437036


@given(st.integers(0, 2**63 - 1), st.lists(st.integers() | st.text(max_size=20), max_size=4))
def test_seeds_lie_in_63_bits(seed: int, parts: list[int | str]) -> None:
    assert 0 <= derive_seed(seed, *parts) < 2**63


def test_every_part_counts() -> None:
    seeds = [
        derive_seed(1),
        derive_seed(1, "a"),
        derive_seed(1, "a", 1),
        derive_seed(1, "a", "1"),
        derive_seed(1, 1, "a"),
        derive_seed(2, "a", 1),
        derive_seed(1, "a,1"),
    ]
    assert len(set(seeds)) == len(seeds)
