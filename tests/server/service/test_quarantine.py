"""Workers that fail fast again and again."""

from datetime import UTC, datetime, timedelta

import pytest

from rafiki.resources import TrialError, TrialErrorKind, TrialOutcome
from rafiki.server.service.quarantine import Quarantine, QuarantineRules

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
BROKEN = TrialError(kind=TrialErrorKind.ENVIRONMENT, message="torch is missing")


@pytest.fixture
def quarantine() -> Quarantine:
    return Quarantine(QuarantineRules(failures=3, fast=10 * SECOND, first=MINUTE))


def fail(quarantine: Quarantine, times: int, now: datetime = NOW) -> list[bool]:
    return [quarantine.note("w", BROKEN, SECOND, now) for _ in range(times)]


def test_a_worker_is_quarantined_by_the_last_of_so_many_fast_failures(
    quarantine: Quarantine,
) -> None:
    assert fail(quarantine, 3) == [False, False, True]
    found = quarantine.find("w")
    assert found is not None
    assert found[0] == NOW + MINUTE
    assert "3 trials" in found[1] and "ENVIRONMENT: torch is missing" in found[1]
    assert quarantine.find("other") is None


@pytest.mark.parametrize(
    ("outcome", "took"),
    [
        (TrialOutcome(score=1.0), SECOND),
        (BROKEN, MINUTE),
        (TrialError(kind=TrialErrorKind.MODEL_EXCEPTION, message="boom"), SECOND),
    ],
    ids=["success", "slow failure", "failure of the model"],
)
def test_what_tells_nothing_against_the_worker_starts_the_count_anew(
    quarantine: Quarantine, outcome: TrialOutcome | TrialError, took: timedelta
) -> None:
    fail(quarantine, 2)
    assert not quarantine.note("w", outcome, took, NOW)
    assert fail(quarantine, 3) == [False, False, True]


def test_a_worker_is_tried_again_and_one_failure_then_costs_twice_the_time(
    quarantine: Quarantine,
) -> None:
    fail(quarantine, 3)
    assert quarantine.release(NOW + MINUTE - SECOND) == []
    assert quarantine.release(NOW + MINUTE) == ["w"]
    assert quarantine.find("w") is None
    assert fail(quarantine, 1, NOW + MINUTE) == [True]
    found = quarantine.find("w")
    assert found is not None and found[0] == NOW + 3 * MINUTE


def test_no_quarantine_lasts_longer_than_half_an_hour(quarantine: Quarantine) -> None:
    now = NOW
    fail(quarantine, 2)
    for _ in range(10):
        fail(quarantine, 1, now)
        found = quarantine.find("w")
        assert found is not None and found[0] - now <= 30 * MINUTE
        now = found[0]
        quarantine.release(now)


def test_who_has_not_been_seen_for_long_is_forgotten(quarantine: Quarantine) -> None:
    fail(quarantine, 2)
    quarantine.release(NOW + timedelta(hours=2))
    assert fail(quarantine, 1, NOW + timedelta(hours=2)) == [False]
