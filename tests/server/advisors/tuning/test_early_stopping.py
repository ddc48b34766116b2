"""The rules that end running trials, by hand-computed cases."""

from collections.abc import Iterable

import pytest
from tests.server.advisors.fake_study import FakeStudy, through_json
from tests.server.advisors.tuning_studies import LONG_ARCH, WIDE, tuning_config

from rafiki.resources import AdvisorKind, Direction, EarlyStopping, EarlyStoppingRule, TrialPhase
from rafiki.server.advisors.tuning.early_stopping import (
    CURVE_POINTS,
    CURVES,
    Curve,
    EarlyStopper,
)
from rafiki.server.domain.advisor import Proposal

MEDIAN = EarlyStopping(min_trials=3)
ASHA = EarlyStopping(rule=EarlyStoppingRule.ASHA, min_steps=1, reduction_factor=3.0)


def reported(stopper: EarlyStopper, number: int, rewards: Iterable[float]) -> EarlyStopper:
    """Lets a trial report at steps 1, 2, ..."""
    for step, reward in enumerate(rewards, start=1):
        stopper.report(number, step, reward)
    return stopper


def three_others(options: EarlyStopping = MEDIAN) -> EarlyStopper:
    """Running means after step 2 are 0.3, 0.5 and 0.6: their median is 0.5."""
    stopper = EarlyStopper(options)
    reported(stopper, 1, [0.2, 0.4])
    reported(stopper, 2, [0.4, 0.6])
    reported(stopper, 3, [0.5, 0.7])
    return stopper


@pytest.mark.parametrize(
    ("rewards", "behind"),
    [
        ([0.0, 0.49], {4}),
        ([0.0, 0.5], set()),  # not strictly worse
        ([0.51, 0.0], set()),  # the best so far counts, not the current one
    ],
)
def test_behind_is_whose_best_is_below_the_median_of_the_running_means(
    rewards: list[float], behind: set[int]
) -> None:
    # Step 1 is passed over: others had means 0.2, 0.4 and 0.5 there.
    options = EarlyStopping(min_trials=3, min_steps=2)
    stopper = reported(three_others(options), 4, rewards)
    assert stopper.behind == behind


def test_means_are_those_of_the_step_that_the_trial_has_reached() -> None:
    stopper = three_others()
    stopper.report(4, 1, 0.39)  # the median of 0.2, 0.4 and 0.5 is 0.4
    assert stopper.behind == {4}


def test_nobody_is_judged_before_enough_others_have_come_as_far() -> None:
    stopper = reported(EarlyStopper(MEDIAN), 1, [0.9] * 5)
    reported(stopper, 2, [0.9] * 5)
    reported(stopper, 3, [0.9] * 2)
    reported(stopper, 4, [0.95, 0.95])
    stopper.report(4, 3, 0.0)
    reported(stopper, 5, [0.95, 0.95])
    assert stopper.behind == frozenset()
    stopper.report(6, 3, 0.1)
    assert stopper.behind == {6}  # 1, 2 and 4 have reported step 3


def test_trials_that_ended_count_unless_they_failed() -> None:
    stopper = three_others()
    for number in (1, 2, 3):
        stopper.end(number, is_scored=True)
    assert reported(stopper, 4, [0.1]).behind == {4}
    stopper = three_others()
    stopper.end(3, is_scored=False)
    assert reported(stopper, 4, [0.1]).behind == frozenset()


def test_a_trial_that_ended_is_not_behind() -> None:
    stopper = reported(three_others(), 4, [0.1])
    stopper.end(4, is_scored=True)
    assert stopper.behind == frozenset()


def test_another_attempt_starts_over() -> None:
    stopper = reported(three_others(), 4, [0.5, 0.2])
    assert reported(stopper, 4, [0.45]).behind == frozenset()
    stopper.report(4, 2, 0.45)
    assert stopper.behind == {4}
    # The same step again tells nothing new.
    stopper.report(4, 2, 0.9)
    assert stopper.behind == {4}


def test_the_rungs_keep_the_best_third() -> None:
    stopper = EarlyStopper(ASHA)
    stopper.report(1, 1, 0.5)
    stopper.report(2, 1, 0.1)
    assert stopper.behind == frozenset()  # fewer than three in the rung
    stopper.report(3, 1, 0.4)
    assert stopper.behind == {3}  # one of three goes on, and that is not it
    stopper.report(4, 1, 0.6)
    assert stopper.behind == {3}  # it is the best
    for number, reward in ((5, 0.2), (6, 0.55)):
        stopper.report(number, 1, reward)
    assert stopper.behind == {3, 5}  # two of six go on: 0.6 and 0.55
    stopper.report(7, 1, 0.55)
    assert stopper.behind == {3, 5}  # of equals none is behind


def test_the_next_rung_is_reached_at_three_times_the_steps() -> None:
    stopper = EarlyStopper(ASHA)
    for number in (1, 2, 3):
        reported(stopper, number, [0.5, 0.5])
    assert stopper.behind == frozenset()
    for number in (1, 2):
        stopper.report(number, 3, 0.9)
    stopper.report(3, 3, 0.2)
    assert stopper.behind == {3}


def test_a_report_past_a_rung_enters_it_with_the_current_score() -> None:
    stopper = EarlyStopper(EarlyStopping(rule=EarlyStoppingRule.ASHA, min_steps=4))
    stopper.report(1, 3, 0.9)
    stopper.report(1, 7, 0.1)  # rung 4; not its best
    stopper.report(2, 5, 0.5)
    stopper.report(3, 4, 0.6)
    assert stopper.behind == frozenset()
    stopper.report(4, 6, 0.4)
    assert stopper.behind == {4}


def test_another_attempt_leaves_its_rungs() -> None:
    stopper = EarlyStopper(ASHA)
    stopper.report(1, 2, 0.9)
    stopper.report(2, 1, 0.5)
    stopper.report(1, 1, 0.1)
    stopper.report(3, 1, 0.6)
    # 0.9 has left: with it, 0.6 would not be the best of the rung.
    assert stopper.behind == frozenset()


@pytest.mark.parametrize("options", [MEDIAN, ASHA])
def test_a_snapshot_judges_the_same(options: EarlyStopping) -> None:
    stopper = three_others(options)
    stopper.end(2, is_scored=True)
    reported(stopper, 5, [0.1])
    restored = EarlyStopper(options)
    restored.load(through_json(stopper.dump()))
    assert restored.behind == stopper.behind
    for each in (stopper, restored):
        each.report(1, 3, 0.3)
        reported(each, 6, [0.45, 0.3, 0.2])
    assert restored.behind == stopper.behind == {5, 6}


def test_a_snapshot_of_nothing_is_restored() -> None:
    for options in (MEDIAN, ASHA):
        stopper = EarlyStopper(options)
        EarlyStopper(options).load(through_json(stopper.dump()))


def test_curves_and_their_number_are_bounded() -> None:
    curve = Curve()
    for step in range(1, 1001):
        curve.add(step, float(step))
    assert len(curve.steps) <= CURVE_POINTS
    for step in (1, 100, 600, 1000):
        assert curve.mean_at(step) == pytest.approx((step + 1) / 2, abs=16)
    assert curve.mean_at(1001) is None
    stopper = EarlyStopper(MEDIAN)
    for number in range(CURVES + 50):
        reported(stopper, number, [0.5])
        stopper.end(number, is_scored=True)
    assert len(stopper.dump().arrays["number"]) == CURVES


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("rule", [MEDIAN, ASHA])
def test_bad_trials_of_a_study_are_stopped_and_their_scores_are_kept(
    rule: EarlyStopping, direction: Direction
) -> None:
    sign = 1.0 if direction is Direction.MAXIMIZE else -1.0

    def curve(number: int, proposal: Proposal) -> list[float]:
        return [sign * (0.1 if number % 4 == 0 else 0.8) + sign * number / 1e3] * 4

    config = tuning_config(
        AdvisorKind.RANDOM,
        WIDE,
        settings={"early_stopping": rule},
        direction=direction,
        model_trial_count=40,
    )
    study = FakeStudy(config, workers=4, curve=curve).run()
    bad = {number for number in study.proposals if number % 4 == 0 and number > 8}
    assert bad <= set(study.stopped)
    assert len(study.ends) == 40


def test_controls_and_trials_of_several_settings_are_left_alone() -> None:
    def curve(number: int, proposal: Proposal) -> list[float]:
        return [-float(number)] * 4

    config = tuning_config(
        AdvisorKind.EVOLUTION,
        WIDE,
        settings={"early_stopping": MEDIAN, "control_fraction": 0.5},
        model_trial_count=30,
    )
    study = FakeStudy(config, workers=2, curve=curve).run()
    assert study.stopped
    assert not any(study.proposals[number].control for number in study.stopped)
    batches = tuning_config(
        AdvisorKind.RANDOM,
        LONG_ARCH,
        settings={"early_stopping": MEDIAN},
        batch_size=3,
        model_trial_count=30,
    )
    assert not FakeStudy(batches, workers=2, curve=curve).run().stopped


def test_without_the_option_reports_mean_nothing() -> None:
    config = tuning_config(AdvisorKind.RANDOM, WIDE, model_trial_count=30)
    study = FakeStudy(config, curve=lambda number, proposal: [-float(number)] * 3).run()
    assert not study.stopped and len(study.of(TrialPhase.TUNE)) == 30
