"""A study's runner that counts what it does."""

import time
from collections.abc import Callable

from rafiki.resources import EndReason, Trial, TrialTimings
from rafiki.server.domain.budget_clock import BudgetClock
from rafiki.server.domain.leases import Lease
from rafiki.server.domain.names import TrialName
from rafiki.server.domain.outcomes import Outcome
from rafiki.server.domain.studies import StudyFacts
from rafiki.server.domain.workers import Worker
from rafiki.server.metrics.counters import Counters
from rafiki.server.service.study_runner import StudyRunner
from rafiki.server.service.surroundings import Assignment, Surroundings


class CountingRunner(StudyRunner):
    """See StudyRunner."""

    def __init__(
        self,
        counters: Counters,
        facts: StudyFacts,
        budget: BudgetClock,
        surroundings: Surroundings,
        *,
        on_goal: Callable[[], None],
        ending: EndReason | None = None,
    ) -> None:
        super().__init__(facts, budget, surroundings, on_goal=on_goal, ending=ending)
        self._counters = counters
        self._scheme = str(facts.settings.kind)

    def assign(self, worker: Worker, workers: int) -> Assignment | None:
        """See StudyRunner; a search that finds nothing is not counted."""
        start = time.perf_counter()
        assignment = super().assign(worker, workers)
        if assignment is not None:
            trial = assignment.trial
            self._counters.assign.observe(time.perf_counter() - start)
            self._counters.assignments.labels(str(trial.phase)).inc()
            if trial.attempt == 1:
                self._counters.proposals.labels(self._scheme).inc()
        return assignment

    def complete(
        self,
        name: TrialName,
        token: str,
        outcome: Outcome,
        timings: TrialTimings | None,
        *,
        is_followed: bool = False,
    ) -> Trial:
        """See StudyRunner."""
        start = time.perf_counter()
        trial = super().complete(name, token, outcome, timings, is_followed=is_followed)
        self._counters.complete.observe(time.perf_counter() - start)
        self._counters.completions.labels(str(trial.state)).inc()
        return trial

    def lose(self, lease: Lease, *, is_handed_back: bool = False) -> None:
        """See StudyRunner."""
        self._counters.leases_lost.labels("handed_back" if is_handed_back else "lost").inc()
        super().lose(lease, is_handed_back=is_handed_back)
