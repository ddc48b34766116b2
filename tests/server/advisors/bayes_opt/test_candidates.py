import numpy as np

from rafiki.model.knobs import CategoricalKnob, FloatKnob, IntegerKnob
from rafiki.server.advisors.bayes_opt.candidates import mutated, ranked_candidates
from rafiki.server.advisors.bayes_opt.dimensions import Floats
from rafiki.server.advisors.bayes_opt.encoding import Encoding

MIXED = Encoding(
    {"x": FloatKnob(0.0, 1.0), "n": IntegerKnob(0, 9), "c": CategoricalKnob(["a", "b", "c"])}
)


def test_mutations_stay_in_the_space() -> None:
    rows = mutated(
        MIXED, np.array([[0.0, 0.05, 0.0], [1.0, 0.95, 2.0]]), 200, np.random.default_rng(0)
    )
    assert rows.shape == (400, 3)
    again = MIXED.coordinates([MIXED.point(row) for row in rows])
    assert np.abs(again - rows).max() < 1e-12


def test_mutations_change_every_dimension_at_times_and_none_always() -> None:
    parent = np.array([[0.5, 0.55, 1.0]])
    changed = mutated(MIXED, parent, 300, np.random.default_rng(1)) != parent
    assert np.all(changed.mean(axis=0) > 0.1)
    assert np.all(changed.mean(axis=0) < 0.9)


def test_a_large_space_is_climbed_close_to_the_highest_acquisition() -> None:
    encoding = Encoding({f"x{number}": FloatKnob(0.0, 1.0) for number in range(3)})
    peak = np.array([0.21, 0.68, 0.93])

    def acquisition(rows: Floats) -> Floats:
        height: Floats = -np.sum((rows - peak) ** 2, axis=1)
        return height

    parents = np.array([[0.3, 0.6, 0.8]])
    ranked = ranked_candidates(encoding, acquisition, parents, parents, np.random.default_rng(2))
    assert np.abs(ranked[0] - peak).max() < 0.05
    assert np.all(np.diff(acquisition(ranked)) <= 0)


def test_of_a_small_space_every_point_not_known_is_a_candidate() -> None:
    encoding = Encoding({"n": IntegerKnob(0, 4), "c": CategoricalKnob(["a", "b"])})
    known = np.array([[0.1, 0.0], [0.9, 1.0]])
    ranked = ranked_candidates(
        encoding, lambda rows: rows[:, 0], known, known, np.random.default_rng(3)
    )
    assert len({tuple(row) for row in ranked.tolist()}) == len(ranked) == 8
    assert ranked[0].tolist() == [0.9, 0.0]
