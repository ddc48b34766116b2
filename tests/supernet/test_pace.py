"""Seconds per epoch and examples per second."""

from types import SimpleNamespace

import pytest

from rafiki.supernet import Pace, pace


def test_a_lap_is_the_time_since_the_last_one(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 104.0, 106.0])
    monkeypatch.setattr(pace, "time", SimpleNamespace(monotonic=lambda: next(times)))
    stopwatch = Pace()
    assert stopwatch.lap(100) == {"epoch_s": 4.0, "examples_per_s": 25.0}
    assert stopwatch.lap(100) == {"epoch_s": 2.0, "examples_per_s": 50.0}
