"""Studies on tables with workers that take time."""

import pytest
from benchmarks.schemes import advisor_settings, create_scheme
from benchmarks.simulation import Run, draw, incumbents, simulate
from benchmarks.tables import Indices
from tests.benchmarks.small import arch_table, small_table

from rafiki.resources import AdvisorKind, EvolutionOptions


class Listed:
    """Proposes a list over and over, and notes what it was told and how many ran at once."""

    def __init__(self, *listed: Indices) -> None:
        self.listed = listed
        self.told: list[tuple[int, float]] = []
        self.running = 0
        self.most = 0

    def ask(self, number: int) -> Indices | None:
        self.running += 1
        self.most = max(self.most, self.running)
        return self.listed[(number - 1) % len(self.listed)]

    def tell(self, number: int, value: float) -> None:
        self.running -= 1
        self.told.append((number, value))


def run(scheme: Listed, *, workers: int = 1, evaluations: int = 8, seed: int = 3) -> Run:
    return simulate(
        scheme, small_table(), name="listed", seed=seed, workers=workers, evaluations=evaluations
    )


def test_what_an_evaluation_draws_depends_on_the_seed_and_its_number_alone() -> None:
    one, other = Listed((0, 1)), Listed((0, 1), (1, 1))
    run(one)
    run(other)
    assert one.told[::2] == other.told[::2]
    assert {value for _, value in one.told} == {1, 3}


def test_all_workers_are_busy_and_results_come_out_of_order() -> None:
    scheme = Listed((0, 0), (0, 1))
    run(scheme, workers=4, evaluations=30)
    assert scheme.most == 4
    numbers = [number for number, _ in scheme.told]
    assert numbers != sorted(numbers)
    assert len(numbers) == 30


def test_a_shorter_run_is_the_beginning_of_a_longer_one() -> None:
    short, long = Listed((0, 0), (1, 1)), Listed((0, 0), (1, 1))
    run(short, workers=3, evaluations=5)
    run(long, workers=3, evaluations=9)
    assert long.told[:5] == short.told


def test_found_is_the_mean_of_the_best_result_not_the_best_mean() -> None:
    results = [((0, 1), 3.0), ((1, 0), 2.5), ((1, 1), 7.0)]
    assert incumbents(small_table(), results) == ((1, 2.0), (3, 8.0))


def test_repeats_count_as_evaluations() -> None:
    ended = run(Listed((0, 0), (1, 1)), evaluations=6)
    assert (ended.evaluations, ended.repeats) == (6, 4)


def test_what_a_run_found_is_known_up_to_its_end() -> None:
    ended = run(Listed((0, 0), (1, 1)), evaluations=4)
    assert (ended.found(1), ended.found(4)) == (1, 8)
    with pytest.raises(ValueError, match="4 evaluations"):
        ended.found(5)


@pytest.mark.parametrize("kind", ["RANDOM", "EVOLUTION:population_size=3,sample_size=2"])
def test_an_advisor_tries_every_architecture_of_a_table_once(kind: str) -> None:
    table = arch_table()
    scheme = create_scheme(kind, table, seed=1, workers=2)
    ended = simulate(scheme, table, name=kind, seed=1, workers=2, evaluations=8)
    assert ended.repeats == 0


def test_a_name_may_carry_options() -> None:
    settings = advisor_settings("EVOLUTION:population_size=7")
    assert settings.kind is AdvisorKind.EVOLUTION
    assert settings.evolution == EvolutionOptions(population_size=7)


@pytest.mark.parametrize("name", ["NONE", "EVOLUTION:speed=3", "RANDOM:speed=3"])
def test_a_name_without_a_scheme_or_option_is_refused(name: str) -> None:
    with pytest.raises(ValueError):
        advisor_settings(name)


def test_draws_of_different_kinds_differ() -> None:
    assert draw("result", "t", 1, 2) != draw("duration", "t", 1, 2)
