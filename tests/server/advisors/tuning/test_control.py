"""The control arm: uniform draws beside those of the scheme."""

from dataclasses import replace

import pytest
from tests.server.advisors.fake_study import FakeStudy
from tests.server.advisors.tuning_studies import (
    EARLY_STOP,
    LONG_ARCH,
    WIDE,
    points_of,
    smooth_score,
    tuning_config,
)

from rafiki.resources import AdvisorKind, ControlArm, Direction, EvolutionOptions, TrialPhase
from rafiki.server.advisors.scores import score_stats
from rafiki.server.domain.advisor import AdvisorConfig, Ended, Proposal


def config(fraction: float, direction: Direction = Direction.MAXIMIZE) -> AdvisorConfig:
    """The config of an EVOLUTION study with a control arm."""
    return tuning_config(
        AdvisorKind.EVOLUTION,
        WIDE | LONG_ARCH | EARLY_STOP,
        settings={
            "control_fraction": fraction,
            "evolution": EvolutionOptions(population_size=5, sample_size=5),
        },
        direction=direction,
        model_trial_count=61,
    )


@pytest.mark.parametrize(("fraction", "count"), [(0.5, 30), (0.25, 15), (0.1, 6)])
def test_controls_are_the_share_asked_for_spread_evenly(fraction: float, count: int) -> None:
    study = FakeStudy(config(fraction)).run()
    controls = [number for number, p in study.proposals.items() if p.control]
    every = round(1 / fraction)
    assert controls == [every * (k + 1) for k in range(count)]
    assert all(study.proposals[n].phase is TrialPhase.TUNE for n in controls)


def test_a_control_that_was_cancelled_is_made_up_for() -> None:
    def controls_cancelled(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        return study.cancelled(number) if proposal.control and number < 20 else None

    study = FakeStudy(config(0.25), outcome=controls_cancelled).run()
    arm = study.advisor.control_arm()
    assert arm is not None and (arm.search.count, arm.control.count) == (45, 15)


@pytest.mark.parametrize("direction", Direction)
def test_both_arms_are_told_over_the_whole_study(direction: Direction) -> None:
    study = FakeStudy(config(0.25, direction), workers=3, score=smooth_score).run()
    arms: dict[bool, list[float]] = {True: [], False: []}
    for number, end in study.ends.items():
        proposal = study.proposals[number]
        if proposal.phase is TrialPhase.TUNE and end.score is not None:
            arms[proposal.control].append(end.score)
    arm = study.advisor.control_arm()
    assert arm == ControlArm(
        search=score_stats(arms[False], direction), control=score_stats(arms[True], direction)
    )
    assert arm.control.count == 15


def test_controls_neither_teach_nor_win() -> None:
    def controls_are_best(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        return (
            replace(study.completed(number, proposal), score=1000.0) if proposal.control else None
        )

    study = FakeStudy(config(0.5), workers=2, outcome=controls_are_best).run()
    controls = {number for number, proposal in study.proposals.items() if proposal.control}
    parents = {proposal.basis.get("parent_trial") for proposal in study.proposals.values()}
    assert len(parents) > 3 and not controls & parents
    (final,) = study.of(TrialPhase.FINAL_TRAIN)
    assert final.basis["tune_trial"] not in controls and not final.control


def test_controls_are_not_saved_and_no_point_is_tried_in_both_arms() -> None:
    study = FakeStudy(config(0.5), workers=2).run()
    assert not any(proposal.save for proposal in study.proposals.values() if proposal.control)
    points = [point for p in study.of(TrialPhase.TUNE) for point in points_of(p)]
    assert len(points) == len(set(points))


def test_without_a_share_there_is_no_control_arm() -> None:
    study = FakeStudy(config(0.0)).run()
    assert study.advisor.control_arm() is None
    assert not any(proposal.control for proposal in study.proposals.values())
