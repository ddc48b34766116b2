from datetime import UTC, datetime, timedelta

import pytest

from rafiki.client.cli.output import duration_text, knob_text, score_text, size_text, to_json
from rafiki.model.knobs import ArchKnob, CategoricalKnob, FloatKnob, PolicyKnob
from rafiki.model.serial import config_from_json
from rafiki.resources import Budget, Digest, TrainJobState


def test_resources_become_json() -> None:
    budget = Budget(time=timedelta(minutes=2), model_trial_count=5)
    assert to_json(budget) == {"time": 120.0, "gpu_count": 0, "model_trial_count": 5}
    assert to_json(Digest("ab", 3)) == {"sha256": "ab", "size_bytes": 3}
    assert to_json(TrainJobState.RUNNING) == "RUNNING"
    assert to_json(datetime(2026, 1, 2, tzinfo=UTC)) == "2026-01-02T00:00:00Z"


def test_what_json_cannot_say_is_null() -> None:
    assert to_json([1.5, float("nan"), float("inf")]) == [1.5, None, None]


def test_a_knob_config_is_written_so_that_it_can_be_read_back() -> None:
    config = {"rate": FloatKnob(1e-4, 1e-1, is_exp=True), "size": CategoricalKnob([1, 2])}
    assert config_from_json(to_json(config)) == config


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.42, "0.4 s"), (12.3, "12 s"), (187, "3:07 min"), (7500, "2:05 h")],
)
def test_durations_are_said_as_people_say_them(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


def test_sizes_have_units() -> None:
    assert [size_text(n) for n in (12, 1536, 3 << 20, 5 << 30)] == [
        "12 B",
        "1.5 KiB",
        "3.0 MiB",
        "5.0 GiB",
    ]


def test_scores_are_short() -> None:
    assert [score_text(s) for s in (None, 0.98333, -12.5)] == ["-", "0.9833", "-12.5000"]


def test_knobs_are_described() -> None:
    assert knob_text(ArchKnob([["a", "b"], ["c"]])) == "architecture: 2 positions, 2 combinations"
    assert knob_text(FloatKnob(0.1, 1.0, is_exp=True)) == "float from 0.1 to 1.0, log scale"
    assert knob_text(PolicyKnob("EARLY_STOP")) == "policy EARLY_STOP"
