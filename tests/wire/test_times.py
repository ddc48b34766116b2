from datetime import UTC, datetime, timedelta, timezone

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from rafiki.wire.fields import InvalidField
from rafiki.wire.times import (
    duration_from_proto,
    duration_to_proto,
    nonzero_seconds_to_proto,
    optional_timestamp_from_proto,
    optional_timestamp_to_proto,
    seconds_from_proto,
    seconds_to_proto,
    timestamp_from_proto,
    timestamp_to_proto,
)

MAX_SECONDS = 315_576_000_000


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_survives_the_round_trip(time: datetime) -> None:
    assert timestamp_from_proto(timestamp_to_proto(time)) == time


def test_an_instant_in_another_zone_comes_back_in_utc() -> None:
    time = datetime(2026, 1, 1, 1, tzinfo=timezone(timedelta(hours=2)))
    read = timestamp_from_proto(timestamp_to_proto(time))
    assert read == time
    assert read.tzinfo is UTC


def test_an_instant_before_the_epoch_has_positive_nanoseconds() -> None:
    message = timestamp_to_proto(datetime(1969, 12, 31, 23, 59, 59, 750_000, tzinfo=UTC))
    assert message == Timestamp(seconds=-1, nanos=750_000_000)


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        timestamp_to_proto(datetime(2026, 1, 1))


def test_no_time_is_none_both_ways() -> None:
    assert optional_timestamp_to_proto(None) is None
    assert optional_timestamp_from_proto(None) is None


@pytest.mark.parametrize(
    "message",
    [
        Timestamp(seconds=-62_135_596_801),
        Timestamp(seconds=253_402_300_800),
        Timestamp(nanos=-1),
        Timestamp(nanos=1_000_000_000),
    ],
)
def test_a_malformed_timestamp_is_refused(message: Timestamp) -> None:
    with pytest.raises(InvalidField, match=r"^end_time: "):
        timestamp_from_proto(message, "end_time")


@given(st.timedeltas(timedelta(0), timedelta(seconds=MAX_SECONDS)))
def test_a_duration_survives_the_round_trip(duration: timedelta) -> None:
    assert duration_from_proto(duration_to_proto(duration)) == duration


@given(st.floats(0, 1e6))
def test_seconds_survive_to_the_nanosecond(seconds: float) -> None:
    assert seconds_from_proto(seconds_to_proto(seconds)) == pytest.approx(seconds, abs=1e-9)


def test_nanoseconds_that_round_up_are_carried() -> None:
    assert seconds_to_proto(2 - 1e-10) == Duration(seconds=2)


def test_the_longest_duration_is_read_again_as_seconds() -> None:
    longest = seconds_from_proto(Duration(seconds=MAX_SECONDS - 1, nanos=999_999_999))
    assert seconds_from_proto(seconds_to_proto(longest)) == MAX_SECONDS


def test_seconds_of_zero_can_be_left_unset() -> None:
    assert nonzero_seconds_to_proto(0.0) is None
    assert seconds_from_proto(Duration()) == 0.0


@pytest.mark.parametrize("seconds", [-1e-9, float("nan"), float("inf"), MAX_SECONDS + 1])
def test_seconds_that_are_no_duration_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 10000 years"):
        seconds_to_proto(seconds)


@pytest.mark.parametrize(
    "message",
    [
        Duration(seconds=-1),
        Duration(nanos=-1),
        Duration(nanos=1_000_000_000),
        Duration(seconds=MAX_SECONDS, nanos=1),
    ],
)
def test_a_malformed_or_negative_duration_is_refused(message: Duration) -> None:
    for read in (duration_from_proto, seconds_from_proto):
        with pytest.raises(InvalidField, match=r"^budget.time: "):
            read(message, "budget.time")
