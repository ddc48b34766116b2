"""Log lines of the programs: one event each, for people or, as JSON, for machines.

Code logs events with what they are about as `key=%s` in the format string:

    logger.info("lease lost trial=%s worker=%s", trial, worker)

As text that is a line with the time, the level and the logger before it. As JSON, the values
become members of the object, beside `event`, the words before the first of them. They are taken
from the arguments by their place in the format string; no message is ever taken apart.
"""

import functools
import hashlib
import json
import logging
import re
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Annotated, Literal, TextIO, TypeAlias

from pydantic import BeforeValidator

LogLevel: TypeAlias = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"],
    BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
]
LogFormat: TypeAlias = Literal["text", "json"]

_LEASE_ID_DIGITS = 12
# A conversion of a format string, with the key before it if there is one.
_CONVERSION = re.compile(r"(?:\b([a-z][a-z0-9_]*)=)?%(?:%|[-#0 +]*\d*(?:\.\d+)?[a-zA-Z])")
_TRIAL = re.compile(r"((trainJobs/[^/]+)/studies/[^/]+)/trials/[^/]+")
_STUDY = re.compile(r"(trainJobs/[^/]+)/studies/[^/]+")
# Members that every line has; an event's own key never replaces one.
_FIXED = ("time", "level", "logger", "event", "message")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


def configure_logging(level: str, form: LogFormat, stream: TextIO | None = None) -> None:
    """Has everything logged from now on written to `stream`, stderr by default.

    What would end a thread, or the process, is logged as well.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


def lease_id(token: str) -> str:
    """What stands for a lease in logs: its token is the right to report, and is not logged."""
    return hashlib.sha256(token.encode()).hexdigest()[:_LEASE_ID_DIGITS]


class TextFormatter(logging.Formatter):
    """Lines for people. A message is one line, whatever is in it; a traceback follows it."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        record.message = _CONTROL.sub(lambda x: repr(x[0])[1:-1], record.message)
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, event, message, the event's values.

    The study and the job of a trial are added. A traceback is in `exception`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        event, keys = _parts(record.msg) if isinstance(record.msg, str) else (str(record.msg), ())
        arguments = record.args if isinstance(record.args, tuple) else ()
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "event": event if arguments and event else record.getMessage(),
            "message": record.getMessage(),
        }
        for key, value in zip(keys, arguments, strict=False):
            if key and key not in _FIXED:
                line[key] = _plain(value)
        line |= {key: value for key, value in _parents(line).items() if key not in line}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, allow_nan=False)


@functools.lru_cache(maxsize=1024)
def _parts(text: str) -> tuple[str, Sequence[str]]:
    """The words of a format string before its first key, and the key of each argument."""
    found = [x for x in _CONVERSION.finditer(text) if not x[0].endswith("%%")]
    end = next((x.start() for x in found), len(text))
    return text[:end].replace("%%", "%").rstrip(" :"), tuple(x[1] or "" for x in found)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float) and abs(value) < float("inf"):  # not so of NaN
        return value
    return str(value)


def _parents(line: Mapping[str, object]) -> dict[str, object]:
    """The study and the job that the name of a trial or a study tells."""
    if match := _TRIAL.fullmatch(str(line.get("trial", ""))):
        return {"study": match[1], "job": match[2]}
    if match := _STUDY.fullmatch(str(line.get("study", ""))):
        return {"job": match[1]}
    return {}


def _log_uncaught(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)
        return
    logging.getLogger(__name__).critical("uncaught", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    thread = arguments.thread.name if arguments.thread else ""
    error = arguments.exc_value
    logging.getLogger(__name__).error(
        "uncaught in thread=%s",
        thread,
        exc_info=None if error is None else (type(error), error, arguments.exc_traceback),
    )
