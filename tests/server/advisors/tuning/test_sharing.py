"""BAYES_OPT_PARAM_SHARING: which trials start from the best parameters."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from tests.server.advisors import fake_study
from tests.server.advisors.fake_study import FakeStudy
from tests.server.advisors.tuning_studies import (
    EARLY_STOP,
    SHARE_PARAMS,
    WIDE,
    smooth_score,
    tuning_config,
)

from rafiki.resources import AdvisorKind, TrialPhase
from rafiki.server.advisors.tuning.advisor import TuningAdvisor
from rafiki.server.advisors.tuning.random import RandomSampler
from rafiki.server.advisors.tuning.sharing import BestParams
from rafiki.server.domain.advisor import Advisor, AdvisorConfig, Ended, Proposal

KNOBS = WIDE | EARLY_STOP | SHARE_PARAMS


@pytest.fixture(autouse=True)
def plain_sampler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sharing does not depend on how points are chosen; uniform draws are quick."""

    def create(config: AdvisorConfig) -> Advisor:
        return TuningAdvisor(config, RandomSampler())

    monkeypatch.setattr(fake_study, "create_advisor", create)
    yield


def config(**limits: float) -> AdvisorConfig:
    """The config of a study of a template that shares parameters."""
    return tuning_config(
        AdvisorKind.BAYES_OPT_PARAM_SHARING,
        KNOBS,
        has_probe=True,
        **limits,  # type: ignore[arg-type]  # a count is given as an int
    )


def best_before(study: FakeStudy, number: int) -> str:
    """The checkpoint of the best TUNE trial that had ended when a trial was proposed."""
    best, checkpoint = -math.inf, ""
    for event in study.events:
        if isinstance(event, Ended):
            is_tune = study.proposals[event.number].phase is TrialPhase.TUNE
            if is_tune and event.score is not None and event.score > best:
                best, checkpoint = event.score, event.checkpoint
        elif event.number == number:
            break
    return checkpoint


def test_trials_start_from_the_best_checkpoint_so_far_or_from_fresh_parameters() -> None:
    study = FakeStudy(config(model_trial_count=60), workers=3, score=smooth_score).run()
    started = 0
    for number, proposal in study.proposals.items():
        if proposal.phase is not TrialPhase.TUNE:
            continue
        assert proposal.policies == {"EARLY_STOP", "SHARE_PARAMS"}
        if proposal.start_checkpoint:
            assert proposal.start_checkpoint == best_before(study, number)
            assert proposal.start_checkpoint == f"checkpoint-{proposal.basis['start_trial']:.0f}"
            started += 1
        else:
            assert proposal.basis["start_trial"] == 0.0
    assert started > 30


def test_the_final_training_starts_fresh_and_shares_nothing() -> None:
    study = FakeStudy(config(model_trial_count=30), score=smooth_score).run()
    (final,) = study.of(TrialPhase.FINAL_TRAIN)
    assert final.start_checkpoint == "" and final.policies == frozenset()


def test_the_probability_of_fresh_parameters_falls_with_the_tightest_limit() -> None:
    study = FakeStudy(config(model_trial_count=40, time_s=1e6)).run()
    by_count = [p.basis["used_fraction"] for p in study.of(TrialPhase.TUNE)]
    assert by_count == [number / 40 for number in range(39)]
    study = FakeStudy(config(model_trial_count=1000, time_s=500.0)).run()
    for proposal in study.of(TrialPhase.TUNE):
        used = proposal.basis["used_fraction"]
        assert used == pytest.approx(proposal.basis["elapsed_s"] / 500.0)
        assert proposal.basis["fresh_probability"] == pytest.approx(math.exp(-4 * used))


@pytest.mark.parametrize("used", [0.1, 0.25, 0.6])
def test_so_many_trials_start_fresh(used: float) -> None:
    best = BestParams("checkpoint-3", 3, 0.5)
    starts = [best.start(used, 7, number) for number in range(4000)]
    fresh = sum(start.checkpoint == "" for start in starts) / 4000
    assert fresh == pytest.approx(math.exp(-4 * used), abs=0.03)


def test_nothing_is_shared_until_a_scored_trial_has_a_checkpoint() -> None:
    def unsaved(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        if proposal.phase is not TrialPhase.TUNE:
            return None
        # An unscored trial may have saved something all the same.
        is_scored = number % 2 == 0
        ended = study.completed(number, proposal)
        return replace(
            ended,
            score=0.5 if is_scored else None,
            checkpoint="" if is_scored else f"checkpoint-{number}",
        )

    study = FakeStudy(config(model_trial_count=30), outcome=unsaved).run()
    assert {proposal.start_checkpoint for proposal in study.of(TrialPhase.TUNE)} == {""}


def test_of_equal_scores_the_first_stays_the_start() -> None:
    best = BestParams()
    best.offer("", 1, 0.9)
    best.offer("a", 2, 0.5)
    best.offer("b", 3, 0.5)
    assert (best.checkpoint, best.trial) == ("a", 2)
    best.offer("c", 4, 0.6)
    assert (best.checkpoint, best.trial) == ("c", 4)


def test_controls_are_never_started_from() -> None:
    controlled = tuning_config(
        AdvisorKind.BAYES_OPT_PARAM_SHARING,
        KNOBS,
        settings={"control_fraction": 0.5},
        model_trial_count=60,
    )
    study = FakeStudy(controlled, score=smooth_score).run()
    controls = {f"checkpoint-{n}" for n, p in study.proposals.items() if p.control}
    starts = {proposal.start_checkpoint for proposal in study.of(TrialPhase.TUNE)}
    assert controls and not controls & starts and len(starts) > 1
