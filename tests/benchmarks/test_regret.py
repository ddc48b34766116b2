"""What runs come to, against numbers worked out by hand."""

import math

import numpy as np
import pytest
from benchmarks.regret import Estimate, Figure, estimate, figures, lost_advantage
from benchmarks.report import report_lines, to_json
from tests.benchmarks.small import make_run, small_table

TABLES = {"small": small_table()}


def only(listed: list[Figure], scheme: str) -> Figure:
    (figure,) = [figure for figure in listed if figure.search[0] == scheme]
    return figure


def test_an_estimate_has_the_standard_error_of_a_mean() -> None:
    assert estimate(np.array([1.0, 2.0, 3.0])) == Estimate(2.0, 1 / math.sqrt(3))
    assert math.isnan(estimate(np.array([1.0])).error)


def test_regret_is_taken_after_so_many_evaluations() -> None:
    runs = [make_run("RANDOM", (1, 3.0), (6, 8.0))]
    early, late = figures(runs, TABLES, [5, 6])
    assert (early.regret.mean, late.regret.mean) == (1, 0)
    assert early.found is not None and early.found.mean == 3


def test_the_regrets_of_one_seed_are_averaged_over_tables_first() -> None:
    tables = TABLES | {"other": small_table(name="other")}
    runs = [
        make_run("RANDOM", (1, found), table=table, seed=seed)
        for table, seed, found in [
            ("small", 0, 8),
            ("other", 0, 3),
            ("small", 1, 3),
            ("other", 1, 8),
        ]
    ]
    (figure,) = figures(runs, tables, [10])
    assert figure.regret == Estimate(0.5, 0.0)


def test_a_search_without_one_of_the_runs_is_refused() -> None:
    tables = TABLES | {"other": small_table(name="other")}
    with pytest.raises(ValueError, match="one run per table"):
        figures([make_run("RANDOM", (1, 8.0))], tables, [10])


def test_differences_are_paired_by_seed_with_the_same_number_of_workers() -> None:
    # Regrets 1, 0.8 and 0 against 0.8, 0 and 0.8.
    runs = [make_run("BAYES_OPT", (1, found), seed=s) for s, found in enumerate([3, 4, 8])]
    runs += [make_run("optuna-tpe", (1, found), seed=s) for s, found in enumerate([4, 8, 4])]
    runs += [make_run("optuna-tpe", (1, 1.0), seed=s, workers=8) for s in range(3)]
    difference = only(figures(runs, TABLES, [10]), "BAYES_OPT").difference
    assert difference is not None
    expected = estimate(np.array([0.2, 0.8, -0.8]))
    assert difference.mean == pytest.approx(expected.mean)
    assert difference.error == pytest.approx(expected.error)


@pytest.mark.parametrize(
    ("mean", "verdict"), [(-1.0, True), (0.19, True), (0.21, False), (5.0, False)]
)
def test_not_worse_means_within_two_standard_errors_above(mean: float, verdict: bool) -> None:
    figure = Figure(
        search=("BAYES_OPT", 1),
        evaluations=50,
        regret=Estimate(0.5, 0.1),
        found=None,
        difference=Estimate(mean, 0.1),
        lost_advantage=None,
    )
    assert figure.is_not_worse is verdict


def test_half_the_advantage_is_lost_when_the_regret_is_half_way_to_random() -> None:
    random, alone = np.array([0.5, 0.7]), np.array([0.1, 0.3])
    lost = lost_advantage(random, alone, np.array([0.3, 0.5]))
    assert lost.mean == pytest.approx(0.5)
    assert lost.error == pytest.approx(0.0)
    assert math.isnan(lost_advantage(alone, random, random).mean)


def test_the_report_names_every_search_and_its_verdict() -> None:
    runs = [make_run(name, (1, 3.0), seed=s) for name in ("RANDOM", "optuna-tpe") for s in (0, 1)]
    lines = list(report_lines(runs, TABLES, [10]))
    assert any(line.startswith("RANDOM") and line.endswith("ok") for line in lines)
    assert len(to_json(runs, TABLES, [10])["runs"]) == 4  # type: ignore[arg-type]  # a list
