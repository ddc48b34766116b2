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
        self._running: int | None = None  # the number of the trial
        self._finish: Finish | None = None

    def decide(self, situation: Situation) -> Decision:
        if self._finish is not None:
            return self._finish
        if self._running is not None:
            return Wait()
        if is_time_over(self._config, situation.elapsed_s):
            return time_over(self._config)
        return Proposal(
            phase=TrialPhase.TUNE,
            knobs=fixed_values(self._config.knob_config),
            basis={"elapsed_s": situation.elapsed_s, "workers": float(situation.workers)},
        )

    def apply(self, event: Event) -> None:
        if isinstance(event, Proposed):
            if self._running is not None:
                raise ValueError(f"trial {event.number} is not the only one")
            self._running = event.number
            return
        if event.number != self._running:
            raise ValueError(f"trial {event.number} does not run")
        if isinstance(event, Ended):
            self._running = None
            self._finish = _finish_after(event)

    def plan(self, elapsed_s: float) -> StudyPlan:
        return StudyPlan(trials=1)

    def phase(self) -> TrialPhase:
        return TrialPhase.TUNE

    def dump(self) -> AdvisorState:
        finish = self._finish
        return AdvisorState(
            values={
                "running": self._running,
                "finish": [finish.reason, finish.message] if finish else None,
            }
        )

    def load(self, state: AdvisorState) -> None:
        self._running = state.values["running"]
        finish = state.values["finish"]
        self._finish = Finish(reason=EndReason(finish[0]), message=finish[1]) if finish else None


def _finish_after(event: Ended) -> Finish | None:
    """What the end of the one trial means; cancelled, it may be proposed again."""
    match event.state:
        case TrialState.COMPLETED:
            return Finish(reason=EndReason.SEARCH_COMPLETE, message="the one trial is done")
        case TrialState.ERRORED:
            message = f"the one trial failed: {event.error.message if event.error else 'unknown'}"
            return Finish(reason=EndReason.TOO_MANY_ERRORS, message=message)
        case _:
            return None
