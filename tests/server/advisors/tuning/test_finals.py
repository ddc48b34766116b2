"""FINAL_TRAIN: the best settings again in full, inside the budget."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from tests.server.advisors.fake_study import FakeStudy
from tests.server.advisors.tuning_studies import (
    EARLY_STOP,
    LONG_ARCH,
    SMALL,
    WIDE,
    points_of,
    smooth_score,
    tuning_config,
)

from rafiki.model.knobs import Knob
from rafiki.resources import (
    AdvisorKind,
    Direction,
    EndReason,
    TrialCosts,
    TrialPhase,
    TrialState,
)
from rafiki.server.advisors import check_budget
from rafiki.server.domain.advisor import (
    Ended,
    Finish,
    Proposal,
    Proposed,
    Situation,
    Wait,
)
from rafiki.server.domain.errors import InfeasibleBudget

# A TUNE trial takes 10 s, a final training 40 s.
COSTS = TrialCosts(search_train_s=10.0, final_train_s=38.0, compile_s=2.0)


def takes(proposal: Proposal) -> float:
    """Seconds of a trial, as the costs have it."""
    return {TrialPhase.PROBE: 5.0, TrialPhase.TUNE: 10.0}.get(proposal.phase, 40.0)


def study_of(
    knobs: Mapping[str, Knob] = WIDE,
    *,
    final_trains: int | None = None,
    workers: int = 1,
    fails: set[int] | None = None,
    **limits: float,
) -> FakeStudy:
    """A RANDOM study of a template; the final trainings with these places, from 1, fail."""

    def outcome(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        place = len([p for p in study.of(TrialPhase.FINAL_TRAIN)])
        is_final = proposal.phase is TrialPhase.FINAL_TRAIN
        return study.errored(number) if is_final and place in (fails or set()) else None

    config = tuning_config(
        AdvisorKind.RANDOM,
        {**knobs, **EARLY_STOP},
        settings={"final_trains": final_trains},
        has_probe=True,
        **limits,  # type: ignore[arg-type]  # a count is given as an int
    )
    return FakeStudy(
        config, workers=workers, costs=COSTS, score=smooth_score, takes=takes, outcome=outcome
    )


def ranking(study: FakeStudy) -> list[int]:
    """The numbers of the scored TUNE trials, best first."""
    scored = [
        (end.score, number)
        for number, end in study.ends.items()
        if end.score is not None and study.proposals[number].phase is TrialPhase.TUNE
    ]
    return [number for _, number in sorted(scored, reverse=True)]


def finals(study: FakeStudy) -> list[Proposal]:
    """The FINAL_TRAIN proposals."""
    return study.of(TrialPhase.FINAL_TRAIN)


def test_search_trials_stop_early_and_the_best_is_trained_again_in_full() -> None:
    study = study_of(model_trial_count=8).run()
    tunes = study.of(TrialPhase.TUNE)
    assert len(tunes) == 7 and all(proposal.policies == {"EARLY_STOP"} for proposal in tunes)
    (final,) = finals(study)
    assert final.policies == frozenset() and final.start_checkpoint == "" and final.save
    assert final.knobs == study.proposals[ranking(study)[0]].knobs
    assert final.basis["tune_trial"] == ranking(study)[0]


def test_the_best_of_an_architecture_search_is_one_candidate() -> None:
    config = tuning_config(
        AdvisorKind.RANDOM, LONG_ARCH | EARLY_STOP, model_trial_count=4, batch_size=5
    )
    study = FakeStudy(config, score=smooth_score).run()
    (final,) = finals(study)
    best = max(
        (archs for proposal in study.of(TrialPhase.TUNE) for archs in proposal.candidates),
        key=lambda archs: smooth_score({}, archs),
    )
    assert final.candidates == (best,)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_as_many_of_the_best_as_wanted_are_trained_in_order(workers: int) -> None:
    study = study_of(final_trains=3, workers=workers, model_trial_count=11).run()
    assert len(study.of(TrialPhase.TUNE)) == 8
    assert [final.basis["tune_trial"] for final in finals(study)] == ranking(study)[:3]


def test_final_trainings_wait_for_the_search_to_end() -> None:
    study = study_of(final_trains=2, workers=4, model_trial_count=9).run()
    first_final = min(n for n, p in study.proposals.items() if p.phase is TrialPhase.FINAL_TRAIN)
    tunes = {n for n, p in study.proposals.items() if p.phase is TrialPhase.TUNE}
    order = [(type(event), event.number) for event in study.events]
    ended = {
        number for kind, number in order[: order.index((Proposed, first_final))] if kind is Ended
    }
    assert tunes <= ended


def test_of_equals_the_first_is_trained() -> None:
    config = tuning_config(AdvisorKind.RANDOM, WIDE | EARLY_STOP, model_trial_count=5)
    study = FakeStudy(config, workers=3).run()
    assert finals(study)[0].basis["tune_trial"] == 1.0


def test_where_less_is_better_the_lowest_is_trained() -> None:
    config = tuning_config(
        AdvisorKind.RANDOM, WIDE | EARLY_STOP, model_trial_count=6, direction=Direction.MINIMIZE
    )
    study = FakeStudy(config, score=smooth_score).run()
    assert finals(study)[0].basis["tune_trial"] == ranking(study)[-1]


def test_if_a_final_training_fails_the_next_best_is_tried() -> None:
    study = study_of(SMALL, fails={1, 2}, time_s=1e6).run()
    assert [final.basis["tune_trial"] for final in finals(study)] == ranking(study)[:3]


def test_what_the_trial_count_does_not_hold_is_not_tried() -> None:
    study = study_of(model_trial_count=10, fails={1}).run()
    assert [final.basis["tune_trial"] for final in finals(study)] == ranking(study)[:1]
    assert study.finish is not None and study.finish.reason is EndReason.TRIAL_COUNT


def test_after_three_failures_no_other_is_tried() -> None:
    study = study_of(SMALL, fails=set(range(1, 9)), time_s=1e6).run()
    assert len(finals(study)) == 3
    assert study.finish is not None and study.finish.reason is EndReason.TOO_MANY_ERRORS
    assert "final training failed for the 3 best, the last: the model broke" in study.finish.message


def test_a_final_training_that_was_cancelled_is_proposed_again() -> None:
    def first_cancelled(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        is_first = proposal.phase is TrialPhase.FINAL_TRAIN and len(finals(study)) == 1
        return study.cancelled(number) if is_first else None

    config = tuning_config(AdvisorKind.RANDOM, WIDE | EARLY_STOP, model_trial_count=4)
    study = FakeStudy(config, outcome=first_cancelled, score=smooth_score).run()
    first, second = finals(study)
    assert points_of(first) == points_of(second)
    assert len(study.of(TrialPhase.TUNE)) == 3


def test_the_time_for_final_training_is_kept_by_measured_costs() -> None:
    study = study_of(time_s=200.0).run()
    assert len(finals(study)) == 1
    # 200 s hold 16 trials of 10 s and one of 40 s; workers are up to 10 % off.
    assert 14 <= len(study.of(TrialPhase.TUNE)) <= 16
    end = max(end.at_s for end in study.ends.values())
    assert 170.0 < end <= 200.0 * 1.02
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE


@pytest.mark.parametrize(("final_trains", "waves"), [(2, 1), (3, 2), (4, 2)])
def test_final_trainings_run_side_by_side_in_waves(final_trains: int, waves: int) -> None:
    study = study_of(final_trains=final_trains, workers=2, time_s=200.0).run()
    assert len(finals(study)) == final_trains
    begins = [
        event.at_s
        for event in study.events
        if isinstance(event, Proposed) and event.proposal.phase is TrialPhase.FINAL_TRAIN
    ]
    assert min(begins) == pytest.approx(200.0 - waves * 40.0, abs=15.0)


def test_final_training_does_not_wait_for_a_trial_until_it_is_too_late() -> None:
    def stuck(proposal: Proposal) -> float:
        return 1e6 if proposal.basis.get("scored") == 4.0 else takes(proposal)

    config = study_of(time_s=200.0).config
    study = FakeStudy(config, workers=2, costs=COSTS, takes=stuck, score=smooth_score)
    study.run(until=lambda study: study.elapsed_s > 150.0)
    late = Situation(number=len(study.proposals) + 1, elapsed_s=155.0, workers=2)
    assert isinstance(study.advisor.decide(late), Wait)
    final = study.advisor.decide(replace(late, elapsed_s=161.0))
    assert isinstance(final, Proposal) and final.phase is TrialPhase.FINAL_TRAIN


def test_full_training_that_took_longer_than_measured_is_reckoned_with() -> None:
    slow = replace(COSTS, search_train_s=1.0, final_train_s=2.0, compile_s=0.0)
    config = tuning_config(AdvisorKind.RANDOM, WIDE | EARLY_STOP, has_probe=True, time_s=200.0)
    study = FakeStudy(config, costs=slow, takes=takes, score=smooth_score).run()
    # The PROBE said 1 and 2 s; trials took 10 s, and so at least would full training.
    first = min(
        event.at_s
        for event in study.events
        if isinstance(event, Proposed) and event.proposal.phase is TrialPhase.FINAL_TRAIN
    )
    assert first <= 192.0


@pytest.mark.parametrize(("final_trains", "minimum"), [(1, 2), (3, 4)])
def test_a_trial_count_below_one_trial_and_the_finals_is_refused(
    final_trains: int, minimum: int
) -> None:
    config = study_of(final_trains=final_trains, model_trial_count=minimum).config
    check_budget(config)
    with pytest.raises(InfeasibleBudget) as raised:
        check_budget(replace(config, model_trial_count=minimum - 1))
    assert raised.value.minimum_model_trial_count == minimum


@pytest.mark.parametrize(
    ("final_trains", "workers", "needed"), [(1, 1, 50), (3, 1, 130), (3, 3, 50), (3, 2, 90)]
)
def test_a_time_below_one_trial_and_the_finals_is_refused_after_the_probe(
    final_trains: int, workers: int, needed: int
) -> None:
    enough = study_of(final_trains=final_trains, workers=workers, time_s=needed)
    enough.run(until=lambda study: len(study.ends) == 1)
    situation = replace(enough.asked[-1].situation, number=2)
    assert isinstance(enough.advisor.decide(situation), Proposal)
    study = study_of(final_trains=final_trains, workers=workers, time_s=needed - 1.0).run()
    assert [proposal.phase for proposal in study.proposals.values()] == [TrialPhase.PROBE]
    assert study.finish is not None and study.finish.reason is EndReason.INFEASIBLE_BUDGET
    assert f"a time of at least {needed} s" in study.finish.message
    assert f"a model_trial_count of at least {1 + final_trains}" in study.finish.message


def test_a_time_below_one_trial_is_not_refused_where_nothing_is_trained_again() -> None:
    study = study_of(final_trains=0, time_s=3.0).run()
    assert len(study.of(TrialPhase.TUNE)) == 1 and not finals(study)
    assert study.finish is not None and study.finish.reason is EndReason.TIME


def test_more_final_trainings_than_the_count_holds_are_cut_to_the_points_there_are() -> None:
    study = study_of(final_trains=3, model_trial_count=4).run()
    assert len(study.of(TrialPhase.TUNE)) == len(finals(study)) == 2


def test_if_all_trials_fail_the_place_of_the_final_training_is_used_for_another() -> None:
    def first_fails(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        return study.errored(number) if number == 1 else None

    config = tuning_config(AdvisorKind.RANDOM, WIDE | EARLY_STOP, model_trial_count=2)
    study = FakeStudy(config, outcome=first_fails).run()
    assert [end.state for end in study.ends.values()] == [
        TrialState.ERRORED,
        TrialState.COMPLETED,
    ]
    assert study.proposals[2].phase is TrialPhase.TUNE


def test_the_best_of_an_exhausted_space_is_trained_again() -> None:
    config = tuning_config(AdvisorKind.RANDOM, SMALL | EARLY_STOP, time_s=1e6)
    study = FakeStudy(config, workers=3, score=smooth_score).run()
    assert len(study.of(TrialPhase.TUNE)) == 12 and len(finals(study)) == 1
    assert study.finish == Finish(
        reason=EndReason.SEARCH_COMPLETE,
        message="all 12 points of the space are tried, then 1 trained in full",
    )
