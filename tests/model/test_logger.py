"""What a template's calls of the logger become."""

import math

import numpy as np
import pytest

from rafiki.model import ModelLogger
from rafiki.model.logger import Level


class Sink:
    """Keeps every call; stops at half of the training."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def log(self, message: str, level: Level) -> None:
        self.calls.append(("log", message, level))

    def metrics(self, values: dict[str, float], step: int | None, score: float | None) -> None:
        self.calls.append(("metrics", values, step, score))

    def plot(self, title: str, metrics: list[str], x_axis: str) -> None:
        self.calls.append(("plot", title, metrics, x_axis))

    def progress(self, fraction: float, remaining_s: float | None) -> bool:
        self.calls.append(("progress", fraction, remaining_s))
        return fraction >= 0.5


def connected() -> tuple[ModelLogger, Sink]:
    logger, sink = ModelLogger(), Sink()
    logger.connect(sink)
    return logger, sink


def test_a_message_is_a_line() -> None:
    logger, sink = connected()
    logger.log("hello")
    logger.log("careful", level="WARNING")
    assert sink.calls == [("log", "hello", "INFO"), ("log", "careful", "WARNING")]


def test_numbers_are_metrics_as_plain_floats() -> None:
    logger, sink = connected()
    logger.log(loss=np.float32(0.5), epoch=2, step=np.int64(7), score=np.array(0.25))
    assert sink.calls == [("metrics", {"loss": 0.5, "epoch": 2.0}, 7, 0.25)]
    values = sink.calls[0][1]
    assert isinstance(values, dict)
    assert {type(value) for value in values.values()} == {float}


def test_a_message_with_metrics_is_both() -> None:
    logger, sink = connected()
    logger.log("epoch", loss=math.nan)
    assert [call[0] for call in sink.calls] == ["log", "metrics"]


def test_a_metric_that_is_no_number_is_named() -> None:
    logger, sink = connected()
    with pytest.raises(ValueError, match="loss must be a number, not list"):
        logger.log("epoch", loss=[1.0])  # type: ignore[arg-type]
    assert sink.calls == []


def test_plots_are_passed_on() -> None:
    logger, sink = connected()
    logger.define_plot("Loss", ["loss", "test_loss"], x_axis="epoch")
    assert sink.calls == [("plot", "Loss", ["loss", "test_loss"], "epoch")]


def test_progress_answers_whether_to_stop() -> None:
    logger, _ = connected()
    assert logger.progress(0.4) is False
    assert logger.progress(0.5, remaining_s=3) is True


def test_progress_is_kept_within_0_and_1() -> None:
    logger, sink = connected()
    logger.progress(-0.1)
    logger.progress(np.float64(1.0000001), 2)
    assert sink.calls == [("progress", 0.0, None), ("progress", 1.0, 2.0)]


def test_progress_that_is_not_a_number_is_refused() -> None:
    logger, _ = connected()
    with pytest.raises(ValueError, match="fraction"):
        logger.progress(math.nan)


def test_without_a_sink_everything_goes_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger, _ = connected()
    logger.connect(None)
    logger.log("hello", step=1, score=0.5, loss=0.25)
    assert logger.progress(1) is False
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "hello\nstep=1 score=0.5 loss=0.25\n"
