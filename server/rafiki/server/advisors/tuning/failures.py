"""When failures mean that the study is broken rather than a point."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rafiki.resources import EndReason, TrialError, TrialErrorKind
from rafiki.server.domain.advisor import Finish

# So many trials that fail one after the other end the study: with errors of one kind, or of any.
SAME_IN_A_ROW = 5
ANY_IN_A_ROW = 10

# Knobs that the model rejects say nothing about the next ones; so many in a row do.
REJECTED_IN_A_ROW = 50


@dataclass(slots=True)
class Failures:
    """Failed trials in a row, in the order in which they ended."""

    kind: TrialErrorKind | None = None
    alike: int = 0
    total: int = 0
    rejected: int = 0

    def succeed(self) -> None:
        """A trial came back with a score."""
        self.kind, self.alike, self.total, self.rejected = None, 0, 0, 0

    def fail(self, error: TrialError) -> Finish | None:
        """A trial failed; returns the end of the study if it was one too many."""
        if error.kind is TrialErrorKind.INFEASIBLE:
            self.rejected += 1
            if self.rejected < REJECTED_IN_A_ROW:
                return None
            return _end(f"the model rejected {self.rejected} settings in a row, the last", error)
        self.rejected = 0
        self.alike = self.alike + 1 if error.kind is self.kind else 1
        self.kind = error.kind
        self.total += 1
        if self.alike >= SAME_IN_A_ROW:
            return _end(f"{self.alike} trials in a row failed with {self.kind}, the last", error)
        if self.total >= ANY_IN_A_ROW:
            return _end(f"{self.total} trials in a row failed, the last", error)
        return None

    def dump(self) -> dict[str, Any]:
        """The counts as plain JSON."""
        return asdict(self)

    @classmethod
    def load(cls, values: Mapping[str, Any]) -> "Failures":
        """Restores what `dump` gave, from JSON."""
        kind = TrialErrorKind(values["kind"]) if values["kind"] else None
        return cls(kind, values["alike"], values["total"], values["rejected"])


def _end(what: str, error: TrialError) -> Finish:
    return Finish(reason=EndReason.TOO_MANY_ERRORS, message=f"{what}: {error.message}")
