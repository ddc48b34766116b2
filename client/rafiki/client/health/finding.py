"""What is found out about a search."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from rafiki.resources import AdvisorKind


class Level(StrEnum):
    """How much a finding matters, least first."""

    OK = "OK"
    NOTE = "NOTE"
    WARNING = "WARNING"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing about a search: a title, what it means and what to do, its figures."""

    level: Level
    title: str
    explanation: str
    figures: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.level is Level.WARNING and not self.figures:
            raise ValueError(f"a warning without figures: {self.title}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The findings on one study, the most pressing first."""

    study: str
    advisor: AdvisorKind | None
    findings: tuple[Finding, ...]

    def at(self, level: Level) -> tuple[Finding, ...]:
        """The findings of one level."""
        return tuple(finding for finding in self.findings if finding.level is level)
