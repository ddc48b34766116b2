"""ENAS: rounds on shared weights, then the final phases.

A round is one SEARCH_TRAIN, in shards where there are several workers, whose checkpoint (or
what those of the shards are merged into) is the next weight version, and SEARCH_EVALs on
that version, each batch of which is one step of the controller. Phases advance on trials
that ended, never on trials proposed.
"""

from rafiki.resources import ControlArm, StudyPlan, StudyRound, TrialPhase
from rafiki.server.advisors.enas import reports
from rafiki.server.advisors.enas.decide import Decider
from rafiki.server.advisors.enas.search import Search
from rafiki.server.advisors.enas.snapshot import dump_search, load_search
from rafiki.server.domain.advisor import (
    Advisor,
    AdvisorConfig,
    AdvisorState,
    Decision,
    Event,
    Situation,
)


class EnasAdvisor(Advisor):
    """Joins what is seen (`Search`), decided (`Decider`) and shown (`reports`)."""

    def __init__(self, config: AdvisorConfig) -> None:
        self._search = Search(config)

    def decide(self, situation: Situation) -> Decision:
        return Decider(self._search, situation).decide()

    def apply(self, event: Event) -> None:
        self._search.apply(event)

    def plan(self, elapsed_s: float) -> StudyPlan:
        return reports.plan(self._search, elapsed_s)

    def phase(self) -> TrialPhase:
        return reports.phase(self._search)

    def dump(self) -> AdvisorState:
        return dump_search(self._search)

    def load(self, state: AdvisorState) -> None:
        load_search(self._search, state)

    def needed_checkpoints(self) -> frozenset[str]:
        return self._search.needed_checkpoints()

    def rounds(self) -> tuple[StudyRound, ...]:
        return tuple(self._search.rounds)

    def control_arm(self) -> ControlArm | None:
        return reports.control_arm(self._search)
