"""What can go wrong by the rules of the domain, one class per `ErrorReason` of the API.

    DomainError
    ├── ResourceNotFound        ├── ModelRejected         ├── ProtocolViolation
    ├── ResourceAlreadyExists   ├── TaskMismatch          ├── SessionSuperseded
    ├── InvalidState            ├── UnsupportedAdvisor    ├── BlobsMissing
    ├── InvalidArgument         ├── InfeasibleBudget      ├── DigestMismatch
    ├── RequestIdReused         ├── LeaseLost             ├── BlobCorrupt
    ├── ResumeTokenExpired      ├── InvalidKnobs          └── QuotaExceeded
    └── ServerDraining

    StorageError
    ├── StorageUnavailable
    └── StorageFull

`str(error)` is one line for people: what is wrong, where, and what to do about it. The
attributes are for programs. `rpc/errors.py` turns both into statuses.
"""

from collections.abc import Sequence
from datetime import timedelta

from rafiki.resources import Digest


class DomainError(Exception):
    """The base of all of them."""


class ResourceNotFound(DomainError):
    """The named resource does not exist."""

    def __init__(self, name: str, message: str = "") -> None:
        self.name = name
        super().__init__(message or f"{name or 'a resource without a name'} does not exist")


class ResourceAlreadyExists(DomainError):
    """What must be unique is in use."""

    def __init__(self, name: str, message: str = "") -> None:
        self.name = name
        super().__init__(message or f"{name} exists already, with other content")


class InvalidState(DomainError):
    """The state of the resource does not allow the call."""

    def __init__(self, name: str, state: str, message: str = "") -> None:
        self.name = name
        self.state = state
        super().__init__(message or f"{name} is {state}, which does not allow this")


class InvalidArgument(DomainError):
    """Fields are missing, malformed or out of range.

    Args:
        violations: Pairs of a field path such as "train_job.budget.time" and a
            description of what it must be.
    """

    def __init__(self, violations: Sequence[tuple[str, str]]) -> None:
        self.violations = tuple(violations)
        super().__init__("; ".join(f"{field}: {text}" for field, text in self.violations))


class RequestIdReused(DomainError):
    """The request id was used for another request."""

    def __init__(self, request_id: str) -> None:
        self.request_id = request_id
        super().__init__(
            f"request_id {request_id} was used for another request; choose a new one per request"
        )


class ResumeTokenExpired(DomainError):
    """Events after the resume token are no longer kept."""

    def __init__(self) -> None:
        super().__init__("the events after this resume_token are gone; watch again without it")


class ServerDraining(DomainError):
    """The server is starting or stopping."""

    def __init__(self, retry_after: timedelta = timedelta(seconds=1)) -> None:
        self.retry_after = retry_after
        super().__init__("the server is starting or stopping; try again shortly")


class InvalidKnobs(DomainError):
    """A knob breaks a rule; `knob` is empty for the config as a whole."""

    def __init__(self, knob: str, rule: str) -> None:
        self.knob = knob
        self.rule = rule
        super().__init__(f"knob {knob!r}: {rule}" if knob else f"knob config: {rule}")


class ModelRejected(DomainError):
    """The source of a model template cannot be accepted."""

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(f"the model is rejected: {cause}")


class TaskMismatch(DomainError):
    """Job, models and data sets are of different tasks."""

    def __init__(self, name: str, expected: str, actual: str) -> None:
        self.name = name
        self.expected = expected
        self.actual = actual
        super().__init__(f"{name} is for the task {actual}, not for {expected}")


class UnsupportedAdvisor(DomainError):
    """The advisor cannot search these knobs, or not with these settings.

    Args:
        advisor: The kind, such as "ENAS".
        subject: The model or study.
        needs: What would be needed, for people.
    """

    def __init__(self, advisor: str, subject: str, needs: str) -> None:
        self.advisor = advisor
        self.subject = subject
        self.needs = needs
        super().__init__(f"the advisor {advisor} cannot search {subject}: {needs}")


class InfeasibleBudget(DomainError):
    """The budget holds no plan that ends with a deployable trial.

    Args:
        subject: The model or study.
        limit: "time" or "model_trial_count".
        available: What the budget gives of it, as text such as "60s" or "12".
        minimum_time: The shortest feasible time, where known.
        minimum_model_trial_count: The smallest feasible count, where known.
    """

    def __init__(
        self,
        subject: str,
        limit: str,
        available: str,
        *,
        minimum_time: timedelta | None = None,
        minimum_model_trial_count: int | None = None,
    ) -> None:
        self.subject = subject
        self.limit = limit
        self.available = available
        self.minimum_time = minimum_time
        self.minimum_model_trial_count = minimum_model_trial_count
        needed = []
        if minimum_time is not None:
            needed.append(f"a time of {minimum_time.total_seconds():.0f}s")
        if minimum_model_trial_count is not None:
            needed.append(f"a model_trial_count of {minimum_model_trial_count}")
        advice = f"; it needs at least {' and '.join(needed)}" if needed else ""
        super().__init__(f"a {limit} of {available} is too little for {subject}{advice}")


class LeaseLost(DomainError):
    """The trial was assigned again or has ended; the worker must drop it."""

    def __init__(self, trial: str) -> None:
        self.trial = trial
        super().__init__(f"the lease of {trial or 'the trial'} is lost; drop the trial")


class ProtocolViolation(DomainError):
    """A stream's messages are out of order."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(what)


class SessionSuperseded(DomainError):
    """Another session with the same worker id was opened."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        super().__init__(f"another session was opened with the worker_id {worker!r}")


class BlobsMissing(DomainError):
    """A resource names blobs that the store does not hold."""

    def __init__(self, digests: Sequence[Digest]) -> None:
        self.digests = tuple(digests)
        first = self.digests[0].sha256 if self.digests else ""
        super().__init__(f"{len(self.digests)} blobs are missing, such as {first}; upload them")


class DigestMismatch(DomainError):
    """Uploaded bytes do not hash to the declared digest. Both are SHA-256 in hexadecimal."""

    def __init__(self, expected: str, actual: str) -> None:
        self.expected = expected
        self.actual = actual
        super().__init__(f"the bytes sent hash to {actual}, not to {expected} as declared")


class BlobCorrupt(DomainError):
    """A stored blob no longer matches its digest; it was dropped."""

    def __init__(self, sha256: str) -> None:
        self.sha256 = sha256
        super().__init__(
            f"the stored blob {sha256} was damaged and has been dropped; upload it again"
        )


class QuotaExceeded(DomainError):
    """The checkpoints of a job would take more bytes than the server lets it have."""

    def __init__(self, job: str, *, used_bytes: int, more_bytes: int, limit_bytes: int) -> None:
        self.job = job
        self.used_bytes = used_bytes
        self.limit_bytes = limit_bytes
        super().__init__(
            f"the checkpoints of {job} take {used_bytes} bytes; {more_bytes} more would be above "
            f"its quota of {limit_bytes}: have models save less, or raise the server's "
            "checkpoint quota"
        )


class StorageError(Exception):
    """The database, its disk or the folder of the blobs fails.

    Not a DomainError: it may not be known whether what was written is stored. Whoever has a
    copy in memory must read it again.
    """


class StorageUnavailable(StorageError):
    """The database or the folder of the blobs cannot be read or written now.

    Args:
        cause: What is wrong, for people.
    """

    def __init__(self, cause: str) -> None:
        self.cause = cause
        super().__init__(f"{cause}; try again later")


class StorageFull(StorageError):
    """There is no room for what was to be stored."""

    def __init__(self) -> None:
        super().__init__("the server's disk is full; ask its operator to make room, and try again")
