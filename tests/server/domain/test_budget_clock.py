"""The clock of a time budget."""

from datetime import UTC, datetime, timedelta

import pytest

from rafiki.server.domain.budget_clock import BudgetClock, BudgetTimes

START = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize(
    ("times", "elapsed_s"),
    [
        (BudgetTimes(), 0),
        (BudgetTimes(start=START), 600),
        (BudgetTimes(start=START, paused=2 * MINUTE), 480),
        (BudgetTimes(start=START, pause_time=START + 4 * MINUTE), 240),
        (BudgetTimes(start=START, paused=MINUTE, pause_time=START + 4 * MINUTE), 180),
        (BudgetTimes(pause_time=START), 0),
        (BudgetTimes(start=START + 20 * MINUTE), 0),
    ],
)
def test_the_time_used_leaves_pauses_out(times: BudgetTimes, elapsed_s: float) -> None:
    assert times.elapsed_s(START + 10 * MINUTE) == elapsed_s


def test_resuming_a_job_changes_nothing_of_what_it_has_used() -> None:
    times = BudgetTimes(start=START, paused=MINUTE, pause_time=START + 4 * MINUTE)
    resumed = times.resumed(START + 9 * MINUTE)
    assert resumed.pause_time is None
    assert resumed.elapsed_s(START + 9 * MINUTE) == times.elapsed_s(START + 9 * MINUTE)


def test_a_pause_that_ends_before_it_began_by_a_clock_set_back_gives_no_time() -> None:
    times = BudgetTimes(start=START, pause_time=START + 4 * MINUTE)
    assert times.resumed(START + 3 * MINUTE).paused == timedelta(0)


def test_a_budget_is_over_once_its_time_is_used_and_never_without_a_limit() -> None:
    clock = BudgetClock(BudgetTimes(start=START))
    assert not clock.is_over(START + MINUTE, 61)
    assert clock.is_over(START + MINUTE, 60)
    assert not clock.is_over(START + 1000 * MINUTE, None)
