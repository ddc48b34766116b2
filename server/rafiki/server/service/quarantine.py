"""Workers that fail fast again and again, and until when they get no trials."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from rafiki.resources import TrialError, TrialErrorKind
from rafiki.server.domain.outcomes import Outcome

logger = logging.getLogger(__name__)

# Failures that tell of the worker. That a model raised something tells of the model.
_TELLING = (TrialErrorKind.CRASHED, TrialErrorKind.ENVIRONMENT, TrialErrorKind.OUT_OF_MEMORY)
_LONGEST = timedelta(minutes=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantineRules:
    """When a worker is quarantined: after `failures` in a row, each within `fast`.

    For `first` then, and twice as long each time until a trial has gone well, at most half
    an hour.
    """

    failures: int = 5
    fast: timedelta = timedelta(seconds=10)
    first: timedelta = timedelta(minutes=1)


@dataclass(slots=True)
class _Record:
    failures: int = 0
    times: int = 0
    until: datetime | None = None
    reason: str = ""
    seen: datetime = datetime.min


class Quarantine:
    """Keeps a record of every worker whose latest trials failed. On the event loop only.

    `reasons` of those that are quarantined, by worker, may be read by any thread: it is
    replaced, never changed.
    """

    def __init__(self, rules: QuarantineRules) -> None:
        self.reasons: Mapping[str, str] = {}
        self._rules = rules
        self._records: dict[str, _Record] = {}

    def note(self, worker_id: str, outcome: Outcome, took: timedelta, now: datetime) -> bool:
        """Takes in an outcome; returns whether the worker is quarantined by it."""
        rules = self._rules
        if not isinstance(outcome, TrialError) or outcome.kind not in _TELLING or took > rules.fast:
            self._records.pop(worker_id, None)
            return False
        record = self._records.setdefault(worker_id, _Record())
        record.failures += 1
        record.seen = now
        if record.failures < rules.failures or record.until is not None:
            return False
        lasts = min(rules.first * 2**record.times, _LONGEST)
        record.until = now + lasts
        record.times += 1
        record.reason = (
            f"{record.failures} trials in a row failed within {rules.fast.total_seconds():.0f} s, "
            f"the last with {outcome.kind}: {outcome.message}"
        )
        self.reasons = {**self.reasons, worker_id: record.reason}
        logger.warning(
            "worker quarantined worker=%s until=%s: %s",
            worker_id,
            record.until.isoformat(timespec="seconds"),
            record.reason,
        )
        return True

    def find(self, worker_id: str) -> tuple[datetime, str] | None:
        """Until when a worker is quarantined, and why; None if it is not."""
        record = self._records.get(worker_id)
        if record is None or record.until is None:
            return None
        return record.until, record.reason

    def release(self, now: datetime) -> list[str]:
        """Ends what is over; returns the workers that may be tried again.

        One more failure of theirs is enough then. Who has not been seen for long is forgotten.
        """
        for worker_id, record in list(self._records.items()):
            if record.until is None and now - record.seen > 2 * _LONGEST:
                del self._records[worker_id]
        over = [
            worker_id
            for worker_id, record in self._records.items()
            if record.until is not None and record.until <= now
        ]
        if over:
            self.reasons = {x: reason for x, reason in self.reasons.items() if x not in over}
        for worker_id in over:
            record = self._records[worker_id]
            record.until, record.failures = None, self._rules.failures - 1
            logger.info("worker tried again worker=%s", worker_id)
        return over
