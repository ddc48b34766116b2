"""The table of architectures seen."""

from rafiki.server.advisors.enas.best_seen import BestSeen


def test_the_best_are_those_of_the_highest_mean_reward() -> None:
    seen = BestSeen(2)
    for choices, reward in [((0, 0), 0.9), ((0, 0), 0.1), ((0, 1), 0.6), ((1, 1), 0.7)]:
        seen.add(choices, reward)
    assert len(seen) == 3
    assert seen.best(2) == [(1, 1), (0, 1)]
    assert seen.best(9) == [(1, 1), (0, 1), (0, 0)]


def test_of_equals_the_one_seen_more_often_is_better_then_the_earlier() -> None:
    seen = BestSeen(1)
    for choice in (3, 2, 1, 1):
        seen.add((choice,), 0.5)
    assert seen.best(3) == [(1,), (3,), (2,)]


def test_a_dumped_table_is_restored_in_its_order() -> None:
    seen, restored = BestSeen(2), BestSeen(2)
    for number in range(20):
        seen.add((number % 7, 999), float(number % 3))
    restored.load(seen.dump())
    assert restored.best(20) == seen.best(20)
    restored.add((1, 2), 5.0)
    assert restored.best(1) == [(1, 2)]


def test_an_empty_table_is_dumped_and_restored() -> None:
    restored = BestSeen(3)
    restored.load(BestSeen(3).dump())
    assert restored.best(5) == []
