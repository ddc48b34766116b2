"""FIXED: one trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rafiki.model.knobs import FixedKnob, Policy, PolicyKnob
from rafiki.resources import AdvisorKind, AdvisorSettings, Direction, EndReason, TrialPhase
from rafiki.server.advisors import create_advisor
from rafiki.server.domain.advisor import AdvisorConfig, Ended, Proposal

if TYPE_CHECKING:
    from tests.server.advisors.conftest import FakeStudy


@pytest.fixture
def config() -> AdvisorConfig:
    return AdvisorConfig(
        study="trainJobs/0/studies/1",
        knob_config={"units": FixedKnob(8), "stop": PolicyKnob(Policy.EARLY_STOP)},
        settings=AdvisorSettings(kind=AdvisorKind.FIXED),
        direction=Direction.MAXIMIZE,
        seed=1,
        batch_size=1,
        has_probe=False,
        model_trial_count=5,
    )


def test_one_trial_in_full_is_all_there_is(
    config: AdvisorConfig, fake_study: type[FakeStudy]
) -> None:
    study = fake_study(config, workers=3)
    assert study.advisor.plan(0.0).trials == 1
    study.run()
    (proposal,) = study.proposals.values()
    assert proposal.phase is TrialPhase.TUNE
    assert proposal.knobs == {"units": 8}
    assert proposal.policies == frozenset() and proposal.candidates == ()
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE


def test_its_failure_ends_the_study_with_its_error(
    config: AdvisorConfig, fake_study: type[FakeStudy]
) -> None:
    def fails(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        return study.errored(number)

    study = fake_study(config, outcome=fails).run()
    assert study.finish is not None and study.finish.reason is EndReason.TOO_MANY_ERRORS
    assert "the model broke" in study.finish.message


def test_a_snapshot_replays_to_the_same_decision(
    config: AdvisorConfig, fake_study: type[FakeStudy]
) -> None:
    study = fake_study(config, workers=2).run()
    restored = create_advisor(config)
    applied = 0
    for asked in study.asked:
        for event in study.events[applied : asked.events]:
            restored.apply(event)
        applied = asked.events
        state = restored.dump()
        restored = create_advisor(config)
        restored.load(state)
        assert restored.decide(asked.situation) == asked.decision
