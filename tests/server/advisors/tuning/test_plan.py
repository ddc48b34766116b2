"""The plan of a study of full trials: before, during and after."""

import pytest
from tests.server.advisors.fake_study import FakeStudy
from tests.server.advisors.tuning_studies import EARLY_STOP, SMALL, WIDE, tuning_config

from rafiki.model.knobs import Knob
from rafiki.resources import AdvisorKind, TrialCosts, TrialPhase
from rafiki.server.advisors import create_advisor
from rafiki.server.domain.advisor import Proposal

COSTS = TrialCosts(search_train_s=10.0, final_train_s=40.0)


def takes(proposal: Proposal) -> float:
    """Seconds of a trial, as the costs have it."""
    return {TrialPhase.PROBE: 5.0, TrialPhase.TUNE: 10.0}.get(proposal.phase, 40.0)


def study_of(knobs: dict[str, Knob], workers: int = 1, **limits: object) -> FakeStudy:
    """A RANDOM study of a template."""
    config = tuning_config(AdvisorKind.RANDOM, knobs, has_probe=True, **limits)  # type: ignore[arg-type]
    return FakeStudy(config, workers=workers, costs=COSTS, takes=takes)


def test_before_the_probe_only_the_counts_are_known() -> None:
    plan = create_advisor(study_of(WIDE | EARLY_STOP, model_trial_count=9).config).plan(0.0)
    assert (plan.trials, plan.final_trains, plan.measured) == (9, 1, False)
    assert plan.remaining_s == plan.final_reserve_s == 0.0


def test_after_the_probe_trials_and_the_final_training_fill_the_time() -> None:
    study = study_of(WIDE | EARLY_STOP, workers=2, time_s=200.0)
    study.run(until=lambda study: len(study.ends) == 2)
    plan = study.advisor.plan(study.elapsed_s)
    assert plan.measured and plan.final_trains == 1 and plan.final_reserve_s == 40.0
    assert plan.trials == pytest.approx(2 * 16 + 1, abs=2)
    assert plan.remaining_s == pytest.approx(200.0 - study.elapsed_s, abs=12.0)


@pytest.mark.parametrize("knobs", [WIDE, WIDE | EARLY_STOP])
@pytest.mark.parametrize("workers", [1, 3])
def test_the_plan_is_close_to_what_happens(knobs: dict[str, Knob], workers: int) -> None:
    study = study_of(knobs, workers=workers, time_s=300.0)
    study.costs = TrialCosts(final_train_s=10.0) if knobs is WIDE else COSTS
    study.run(until=lambda study: len(study.ends) == 4)
    planned = study.advisor.plan(study.elapsed_s).trials
    study.run()
    assert planned == pytest.approx(len(study.proposals) - 1, abs=2 + workers)


def test_the_plan_of_a_finished_study_is_what_was_done() -> None:
    study = study_of(WIDE | EARLY_STOP, workers=2, model_trial_count=8).run()
    plan = study.advisor.plan(study.elapsed_s)
    assert (plan.trials, plan.final_trains, plan.remaining_s) == (8, 1, 0.0)
    assert study.advisor.phase() is TrialPhase.FINAL_TRAIN


def test_a_small_space_limits_the_plan() -> None:
    study = study_of(SMALL, time_s=1e6).run(until=lambda study: len(study.ends) == 3)
    assert study.advisor.plan(study.elapsed_s).trials == 12


def test_without_a_limit_nothing_is_planned() -> None:
    study = study_of(WIDE).run(until=lambda study: len(study.ends) == 3)
    assert study.advisor.plan(study.elapsed_s).trials == len(study.proposals) - 1
