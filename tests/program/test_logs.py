import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from rafiki.program import lease_id
from rafiki.program.logs import JsonFormatter, TextFormatter

Log = Callable[..., None]


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def logger(stream: io.StringIO, formatter: logging.Formatter) -> logging.Logger:
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    created = logging.Logger("rafiki.test", logging.DEBUG)
    created.addHandler(handler)
    return created


def parsed(stream: io.StringIO) -> dict[str, Any]:
    (line,) = stream.getvalue().split("\n")[:-1]
    value: dict[str, Any] = json.loads(line)
    return value


def test_a_json_line_has_the_event_and_its_values_as_members(stream: io.StringIO) -> None:
    trial = "trainJobs/0123abcd/studies/1/trials/7"
    logger(stream, JsonFormatter()).warning(
        "trial failed 100%% trial=%s attempt=%d score=%.2f worker=%s: %s", trial, 2, 0.5, "w", "oh"
    )
    line = parsed(stream)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "WARNING",
        "logger": "rafiki.test",
        "event": "trial failed 100%",
        "message": f"trial failed 100% trial={trial} attempt=2 score=0.50 worker=w: oh",
        "trial": trial,
        "study": "trainJobs/0123abcd/studies/1",
        "job": "trainJobs/0123abcd",
        "attempt": 2,
        "score": 0.5,
        "worker": "w",
    }


@pytest.mark.parametrize(
    "text", ["two\nlines", 'a "quote" \\', "\x00\x1b[31m\x85\u2028", "\ud800", "level=HIGH time=0"]
)
def test_odd_characters_stay_in_one_json_line_and_come_back(stream: io.StringIO, text: str) -> None:
    logger(stream, JsonFormatter()).info("refused reason=%s", text)
    line = parsed(stream)
    assert line["reason"] == text
    assert line["level"] == "INFO"


def test_numbers_that_json_lacks_are_strings(stream: io.StringIO) -> None:
    logger(stream, JsonFormatter()).info("scored score=%s best=%s", float("nan"), float("-inf"))
    line = parsed(stream)
    assert (line["score"], line["best"]) == ("nan", "-inf")


def test_a_message_without_values_is_its_own_event(stream: io.StringIO) -> None:
    logger(stream, JsonFormatter()).info("server stopping")
    line = parsed(stream)
    assert line["event"] == line["message"] == "server stopping"


def test_words_that_are_all_argument_are_the_event(stream: io.StringIO) -> None:
    logger(stream, JsonFormatter()).info("%s", "as they come")
    assert parsed(stream)["event"] == "as they come"


def test_a_traceback_is_a_member_of_the_json_line(stream: io.StringIO) -> None:
    try:
        raise KeyError("lost\nkey")
    except KeyError:
        logger(stream, JsonFormatter()).exception("step failed step=%s", 3)
    line = parsed(stream)
    assert line["step"] == 3
    assert "Traceback" in line["exception"]
    assert "KeyError" in line["exception"]


def test_a_text_line_stays_one_whatever_is_in_it(stream: io.StringIO) -> None:
    logger(stream, TextFormatter()).error("refused reason=%s", "a\n2026 INFO forged\x1b[2J")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(r"ERROR rafiki.test refused reason=a\n2026 INFO forged\x1b[2J")


def test_a_lease_is_known_by_a_short_digest() -> None:
    assert lease_id("token") == lease_id("token")
    assert lease_id("token") != lease_id("other")
    assert len(lease_id("token")) == 12


@pytest.mark.slow
def test_what_ends_a_thread_or_the_process_is_logged_as_well() -> None:
    program = (
        "import threading, warnings\n"
        "from rafiki.program import configure_logging\n"
        "configure_logging('INFO', 'json')\n"
        "warnings.warn('odd\\nthing')\n"
        "thread = threading.Thread(target=lambda: 1 / 0)\n"
        "thread.start(); thread.join()\n"
        "raise ValueError('two\\nlines')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 1
    assert [line["logger"] for line in lines] == ["py.warnings", *["rafiki.program.logs"] * 2]
    assert "ZeroDivisionError" in lines[1]["exception"]
    assert "ValueError: two\nlines" in lines[2]["exception"]
