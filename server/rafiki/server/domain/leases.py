"""Leases: who may run which attempt of which trial, and until when.

They live in memory, apart from everything slow, so that a heartbeat never waits for a
transaction or an advisor. A server that restarts grants each running trial a fresh lease.
"""

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TypeVar

from rafiki.resources import StopReason
from rafiki.server.domain.names import StudyName, TrialName

_Key = TypeVar("_Key")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right of `worker_id`, since `grant_time`, to run one attempt of a trial until
    `expire_time`.

    `gpu_count` accelerators are in use under it. `stop_reason` is set once the worker is to
    be told to stop.
    """

    token: str
    trial: TrialName
    worker_id: str
    grant_time: datetime
    expire_time: datetime
    gpu_count: int = 0
    stop_reason: StopReason | None = None


class LeaseTable:
    """The leases that are held now. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leases: dict[str, Lease] = {}
        self._by_job: Counter[str] = Counter()
        self._by_study: Counter[StudyName] = Counter()

    def __len__(self) -> int:
        """How many are held."""
        return len(self._leases)

    def grant(self, lease: Lease) -> None:
        """Adds a lease."""
        with self._lock:
            self._add(lease)

    def get(self, token: str) -> Lease | None:
        """The lease, while it is held."""
        return self._leases.get(token)

    def renew(
        self, tokens: Iterable[str], worker_id: str, expire_time: datetime
    ) -> tuple[list[Lease], list[str]]:
        """The leases extended to `expire_time`, and the tokens that are none of the worker's."""
        renewed: list[Lease] = []
        lost: list[str] = []
        with self._lock:
            for token in tokens:
                lease = self._leases.get(token)
                if lease is None or lease.worker_id != worker_id:
                    lost.append(token)
                    continue
                lease = replace(lease, expire_time=expire_time)
                self._leases[token] = lease
                renewed.append(lease)
        return renewed, lost

    def drop(self, token: str) -> Lease | None:
        """Removes a lease; None if it is not held."""
        with self._lock:
            return self._remove(token)

    def take_expired(self, now: datetime) -> list[Lease]:
        """Removes and returns what was not renewed in time."""
        with self._lock:
            late = [token for token, lease in self._leases.items() if lease.expire_time <= now]
            return [lease for token in late if (lease := self._remove(token)) is not None]

    def extend_all(self, expire_time: datetime) -> None:
        """Has no lease expire before `expire_time`."""
        with self._lock:
            for token, lease in self._leases.items():
                if lease.expire_time < expire_time:
                    self._leases[token] = replace(lease, expire_time=expire_time)

    def mark_stopped(self, token: str, reason: StopReason) -> Lease | None:
        """Notes that the trial is to stop; None if the lease is not held."""
        with self._lock:
            lease = self._leases.get(token)
            if lease is None:
                return None
            lease = replace(lease, stop_reason=reason)
            self._leases[token] = lease
            return lease

    def of_worker(self, worker_id: str) -> list[Lease]:
        """The leases a worker holds."""
        with self._lock:
            return [lease for lease in self._leases.values() if lease.worker_id == worker_id]

    def of_study(self, study: StudyName) -> list[Lease]:
        """The leases of trials of a study."""
        with self._lock:
            return [lease for lease in self._leases.values() if lease.trial.parent == study]

    def count_of_job(self, job_id: str) -> int:
        """How many trials of a job are leased."""
        return self._by_job[job_id]

    def count_of_study(self, study: StudyName) -> int:
        """How many trials of a study are leased."""
        return self._by_study[study]

    def _add(self, lease: Lease) -> None:
        self._remove(lease.token)
        self._leases[lease.token] = lease
        self._by_job[lease.trial.job] += 1
        self._by_study[lease.trial.parent] += 1

    def _remove(self, token: str) -> Lease | None:
        lease = self._leases.pop(token, None)
        if lease is not None:
            _decrement(self._by_job, lease.trial.job)
            _decrement(self._by_study, lease.trial.parent)
        return lease


def _decrement(counts: Counter[_Key], key: _Key) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
