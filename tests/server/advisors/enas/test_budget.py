"""What an ENAS study makes of its budget: plans, limits, the smallest feasible numbers."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import pytest
from tests.server.advisors.fake_study import trial_s

from rafiki.resources import EnasOptions, EndReason, TrialPhase, TrialState
from rafiki.server.advisors import check_budget
from rafiki.server.domain.advisor import AdvisorConfig, Ended, Merged, Proposal, Situation
from rafiki.server.domain.errors import InfeasibleBudget

if TYPE_CHECKING:
    from tests.server.advisors.conftest import FakeStudy

    MakeEnas: TypeAlias = Callable[..., AdvisorConfig]
    MakeStudy: TypeAlias = type[FakeStudy]

# Rounds are 1 + 3 trials, the final phases 2 + 1.
ROUND, FINAL = 4, 3


@pytest.mark.parametrize(
    ("batch_size", "control_fraction", "minimum"),
    [(4, 0.0, 4 + 3), (4, 0.5, 7 + 3), (1, 0.0, 13 + 9), (3, 0.0, 7 + 5)],
)
def test_the_smallest_trial_count_named_is_feasible_and_one_less_is_not(
    make_enas: MakeEnas,
    fake_study: MakeStudy,
    batch_size: int,
    control_fraction: float,
    minimum: int,
) -> None:
    def config(count: int) -> AdvisorConfig:
        return make_enas(
            batch_size=batch_size, control_fraction=control_fraction, model_trial_count=count
        )

    with pytest.raises(InfeasibleBudget) as caught:
        check_budget(config(1))
    assert caught.value.minimum_model_trial_count == minimum
    assert caught.value.limit == "model_trial_count"
    with pytest.raises(InfeasibleBudget):
        check_budget(config(minimum - 1))
    check_budget(config(minimum))
    study = fake_study(config(minimum)).run()
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE
    assert len(study.of(TrialPhase.FINAL_TRAIN)) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_the_smallest_time_named_is_feasible_and_one_second_less_is_not(
    make_enas: MakeEnas, fake_study: MakeStudy, workers: int
) -> None:
    study = fake_study(make_enas(time_s=1.0), workers=workers).run()
    assert study.finish is not None and study.finish.reason is EndReason.INFEASIBLE_BUDGET
    assert len(study.proposals) == 1  # the PROBE, which is free
    found = re.search(r"a time of at least (\d+) s", study.finish.message)
    assert found is not None
    minimum = int(found[1])
    too_short = fake_study(make_enas(time_s=minimum - 1.0), workers=workers).run()
    assert too_short.finish == replace(
        study.finish,
        message=study.finish.message.replace("(given: 1 s", f"(given: {minimum - 1} s"),
    )
    enough = fake_study(make_enas(time_s=float(minimum)), workers=workers).run()
    assert enough.of(TrialPhase.FINAL_TRAIN)
    assert f"model_trial_count of at least {ROUND + FINAL}" in study.finish.message


@pytest.mark.parametrize("count", range(ROUND + FINAL, 4 * ROUND + FINAL))
def test_whole_rounds_fill_the_trial_count_and_never_exceed_it(
    make_enas: MakeEnas, fake_study: MakeStudy, small_options: EnasOptions, count: int
) -> None:
    options = replace(small_options, train_shards=1)
    study = fake_study(make_enas(options=options, model_trial_count=count), workers=2).run()
    rounds = (count - FINAL) // ROUND
    assert len(study.advisor.rounds()) == rounds
    assert len(study.proposals) - 1 == rounds * ROUND + FINAL <= count


@pytest.mark.parametrize("count", range(ROUND + FINAL, 4 * ROUND + FINAL))
def test_shards_are_trials_of_the_count_and_the_plan_knows(
    make_enas: MakeEnas, fake_study: MakeStudy, count: int
) -> None:
    study = fake_study(make_enas(model_trial_count=count), workers=2)
    # The plan knows the workers from the first trial on, the steps from the PROBE.
    study.run(until=lambda study: len(study.ends) == 1)
    planned = study.advisor.plan(0.0)
    study.run()
    happened = study.advisor.plan(study.elapsed_s)
    assert (happened.rounds, happened.trials) == (planned.rounds, planned.trials)
    assert happened.trials == len(study.proposals) - 1 <= count
    # A round of two shards takes a trial more; what is left holds one without.
    more, rest = divmod(count - FINAL - ROUND, ROUND + 1)
    assert len(study.advisor.rounds()) == 1 + more + (rest == ROUND)


@pytest.mark.parametrize("seed", range(8))
def test_no_failure_makes_a_study_exceed_its_trial_count(
    make_enas: MakeEnas, fake_study: MakeStudy, seed: int
) -> None:
    def fails(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        if proposal.phase is TrialPhase.PROBE or (number * 7919 + seed) % 4:
            return None
        if number % 3 == 0:
            return Ended(number=number, at_s=study.elapsed_s, state=TrialState.CANCELLED)
        return study.errored(number)

    limit = 3 * ROUND + FINAL + seed
    study = fake_study(
        make_enas(model_trial_count=limit), workers=1 + seed % 3, seed=seed, outcome=fails
    ).run()
    counted = 0
    outstanding = 0
    for event in study.events:
        if study.proposals[event.number].phase is TrialPhase.PROBE or isinstance(event, Merged):
            continue
        is_end = isinstance(event, Ended)
        outstanding += -1 if is_end else 1
        counted += isinstance(event, Ended) and event.state is not TrialState.CANCELLED
        assert counted + outstanding <= limit


def test_evaluations_give_way_when_failures_eat_up_the_count(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    def train_fails_once(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        return study.errored(number) if number == 2 else None

    config = make_enas(model_trial_count=ROUND + FINAL)
    study = fake_study(config, outcome=train_fails_once).run()
    assert len(study.of(TrialPhase.SEARCH_EVAL)) == 2  # not 3: the reserve is kept
    assert len(study.of(TrialPhase.FINAL_TRAIN)) == 1
    assert len(study.advisor.rounds()) == 1


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_a_time_limit_is_used_and_kept_to_what_the_last_training_takes(
    make_enas: MakeEnas, fake_study: MakeStudy, workers: int
) -> None:
    study = fake_study(make_enas(time_s=200.0), workers=workers).run()
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE
    assert len(study.advisor.rounds()) >= 10
    assert 200 - 40 <= study.elapsed_s <= 200


def test_a_round_that_takes_too_long_is_cut_short_for_the_final_phases(
    make_enas: MakeEnas, fake_study: MakeStudy, small_options: EnasOptions
) -> None:
    options = replace(small_options, batches_per_round=40)
    # By the costs measured a round takes 28 s and the rest 26 s; then the workers stall.
    config = make_enas(options=options, time_s=80.0)
    study = fake_study(config, workers=2)
    study.run(until=lambda study: len(study.ends) == 8)
    study.stall(40.0)
    study.run()
    assert 0 < len(study.of(TrialPhase.SEARCH_EVAL)) < 40
    assert len(study.of(TrialPhase.FINAL_TRAIN)) == 1
    assert len(study.advisor.rounds()) == 1


def test_nothing_is_proposed_once_the_time_is_over(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    study = fake_study(make_enas(time_s=100.0)).run(until=lambda study: len(study.ends) == 3)
    decision = study.advisor.decide(Situation(number=9, elapsed_s=100.0, workers=1))
    assert getattr(decision, "reason", None) is EndReason.TIME


def test_with_both_limits_the_tighter_one_ends_the_search(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    by_count = fake_study(make_enas(time_s=1000.0, model_trial_count=2 * ROUND + FINAL)).run()
    assert len(by_count.advisor.rounds()) == 2
    by_time = fake_study(make_enas(time_s=80.0, model_trial_count=1000)).run()
    assert 1 <= len(by_time.advisor.rounds()) <= 5


def test_the_plan_by_count_is_what_happens(make_enas: MakeEnas, fake_study: MakeStudy) -> None:
    study = fake_study(make_enas(model_trial_count=3 * ROUND + FINAL + 2))
    first = study.advisor.plan(0.0)
    assert (first.rounds, first.trials, first.final_trains) == (3, 3 * ROUND + FINAL, 1)
    assert (first.candidates_per_round, first.measured) == (12, False)
    study.run()
    last = study.advisor.plan(study.elapsed_s)
    assert (last.rounds, last.completed_rounds) == (3, 3)
    assert last.trials == len(study.proposals) - 1 == first.trials
    assert last.measured and last.remaining_s == 0


def test_the_plan_is_close_to_what_happens_once_costs_are_measured(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    study = fake_study(make_enas(time_s=300.0), workers=2)
    study.run(until=lambda study: len(study.ends) == 1)
    planned = study.advisor.plan(0.0)
    assert planned.measured
    # Final phases: both arms at once, then one training and what it has to compile.
    assert planned.final_reserve_s == pytest.approx(2 + 20 + 4)
    assert planned.remaining_s <= 300
    study.run()
    happened = study.advisor.plan(study.elapsed_s)
    assert happened.rounds == pytest.approx(planned.rounds, rel=0.15)
    assert happened.trials == pytest.approx(planned.trials, rel=0.15)


def test_what_comes_once_does_not_shake_the_plan(
    make_enas: MakeEnas, fake_study: MakeStudy, small_options: EnasOptions
) -> None:
    """Evaluations take thrice what the PROBE said; the first ones wait for compilation."""
    evaluations = itertools.count()

    def takes(proposal: Proposal) -> float:
        if proposal.phase is not TrialPhase.SEARCH_EVAL:
            return trial_s(proposal)
        return 33.0 if next(evaluations) < 2 else 3.0

    config = make_enas(options=replace(small_options, batches_per_round=20), time_s=1000.0)
    planned: list[int] = []

    def note_plan(study: FakeStudy) -> bool:
        if study.advisor.rounds():
            planned.append(study.advisor.plan(study.elapsed_s).rounds)
        return False

    study = fake_study(config, workers=2, takes=takes).run(until=note_plan)
    assert study.finish is not None
    assert planned[-1] > 15
    assert max(planned) <= 1.1 * planned[-1]
    assert min(planned) >= 0.9 * planned[-1]


@pytest.mark.parametrize("rank_trains", [0, 3])
def test_trials_of_the_plan_add_up_at_every_step(
    make_enas: MakeEnas, fake_study: MakeStudy, small_options: EnasOptions, rank_trains: int
) -> None:
    options = replace(small_options, rank_trains=rank_trains)
    limit = 3 * ROUND + 2 + FINAL + rank_trains
    study = fake_study(make_enas(options=options, model_trial_count=limit), workers=2)
    study.run(until=lambda study: len(study.ends) == 1)
    totals = set()

    def note_plan(study: FakeStudy) -> bool:
        plan = study.advisor.plan(study.elapsed_s)
        totals.add((plan.trials, plan.rounds))
        assert plan.remaining_s >= 0 and math.isfinite(plan.remaining_s)
        return False

    study.run(until=note_plan)
    assert totals == {(limit, 3)}
