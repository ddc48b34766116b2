"""FIXED: nothing to tune, so one trial."""

from rafiki.resources import (
    EndReason,
    StudyPlan,
    TrialPhase,
    TrialState,
)
from rafiki.server.advisors.budget import is_time_over, time_over
from rafiki.server.advisors.sampling import fixed_values
from rafiki.server.domain.advisor import (
    Advisor,
    AdvisorConfig,
    AdvisorState,
    Decision,
    Ended,
    Event,
    Finish,
    Proposal,
    Proposed,
    Situation,
    Wait,
)


class FixedAdvisor(Advisor):
    """Trains the one setting there is, in full: a TUNE trial without policies."""

    def __init__(self, config: AdvisorConfig) -> None:
        self._config = config
        self._is_running = False
        self._finish: Finish | None = None

    def decide(self, situation: Situation) -> Decision:
        if self._finish is not None:
            return self._finish
        if self._is_running:
            return Wait()
        if is_time_over(self._config, situation.elapsed_s):
            return time_over(self._config)
        return Proposal(
            phase=TrialPhase.TUNE,
            knobs=fixed_values(self._config.knob_config),
            basis={"elapsed_s": situation.elapsed_s, "workers": float(situation.workers)},
        )

    def apply(self, event: Event) -> None:
        match event:
            case Proposed():
                self._is_running = True
            case Ended(state=TrialState.COMPLETED):
                self._end(EndReason.SEARCH_COMPLETE, "the one trial is done")
            case Ended(state=TrialState.ERRORED, error=error):
                message = f"the one trial failed: {error.message if error else 'unknown'}"
                self._end(EndReason.TOO_MANY_ERRORS, message)
            case Ended():
                self._is_running = False  # cancelled: it may be proposed again

    def _end(self, reason: EndReason, message: str) -> None:
        self._is_running = False
        self._finish = Finish(reason=reason, message=message)

    def plan(self, elapsed_s: float) -> StudyPlan:
        return StudyPlan(trials=1)

    def phase(self) -> TrialPhase:
        return TrialPhase.TUNE

    def dump(self) -> AdvisorState:
        finish = self._finish
        return AdvisorState(
            values={
                "is_running": self._is_running,
                "finish": [finish.reason, finish.message] if finish else None,
            }
        )

    def load(self, state: AdvisorState) -> None:
        self._is_running = state.values["is_running"]
        finish = state.values["finish"]
        self._finish = Finish(reason=EndReason(finish[0]), message=finish[1]) if finish else None
