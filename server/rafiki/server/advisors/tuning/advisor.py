"""The advisor of every scheme whose trials each train one setting."""

from rafiki.resources import ControlArm, StudyPlan, StudyRound, TrialPhase
from rafiki.server.advisors.tuning import reports
from rafiki.server.advisors.tuning.decide import Decider
from rafiki.server.advisors.tuning.sampler import Sampler
from rafiki.server.advisors.tuning.search import Search
from rafiki.server.advisors.tuning.snapshot import dump_search, load_search
from rafiki.server.domain.advisor import (
    Advisor,
    AdvisorConfig,
    AdvisorState,
    Decision,
    Event,
    Situation,
)
from rafiki.server.domain.errors import InfeasibleBudget


class TuningAdvisor(Advisor):
    """PROBE, then TUNE trials of the points that a sampler chooses, then FINAL_TRAIN.

    Args:
        config: Of the study, with resolved settings.
        sampler: The scheme; it must be fresh.
    """

    def __init__(self, config: AdvisorConfig, sampler: Sampler) -> None:
        self._search = Search(config, sampler)

    def decide(self, situation: Situation) -> Decision:
        return Decider(self._search, situation).decide()

    def apply(self, event: Event) -> None:
        self._search.apply(event)

    def plan(self, elapsed_s: float) -> StudyPlan:
        return reports.plan(self._search, elapsed_s)

    def phase(self) -> TrialPhase:
        return reports.phase(self._search)

    @property
    def proposes_ahead(self) -> bool:
        return not self._search.sampler.learns

    def stops(self) -> frozenset[int]:
        stopper = self._search.stopper
        return stopper.behind if stopper is not None else frozenset()

    def needed_checkpoints(self) -> frozenset[str]:
        best = self._search.best_params.checkpoint
        return frozenset({best} if self._search.shares and best else ())

    def rounds(self) -> tuple[StudyRound, ...]:
        return self._search.sampler.rounds()

    def control_arm(self) -> ControlArm | None:
        return reports.control_arm(self._search)

    def dump(self) -> AdvisorState:
        return dump_search(self._search)

    def load(self, state: AdvisorState) -> None:
        load_search(self._search, state)


def check_tuning_budget(config: AdvisorConfig) -> None:
    """Checks the trial count; what time is needed only the PROBE can tell.

    Raises:
        InfeasibleBudget: The trials do not suffice for one TUNE and the final trainings.
    """
    minimum = 1 + (config.settings.final_trains or 0)
    if config.model_trial_count is not None and config.model_trial_count < minimum:
        raise InfeasibleBudget(
            subject=config.study,
            limit="model_trial_count",
            available=str(config.model_trial_count),
            minimum_model_trial_count=minimum,
        )
