"""How well shared weights rank: Kendall's tau, and the brief trainings it is measured with."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import pytest

from rafiki.model.knobs import Policy
from rafiki.resources import EnasOptions, EndReason, TrialPhase
from rafiki.server.advisors import check_budget
from rafiki.server.advisors.enas.rank import kendall_tau_b
from rafiki.server.domain.advisor import AdvisorConfig, Ended, Proposal
from rafiki.server.domain.errors import InfeasibleBudget

if TYPE_CHECKING:
    from tests.server.advisors.fake_study import FakeStudy

    MakeEnas: TypeAlias = Callable[..., AdvisorConfig]
    MakeStudy: TypeAlias = type[FakeStudy]

# One round of 1 + 3 trials, 2 FINAL_EVALs of four candidates each, 1 FINAL_TRAIN.
REST = 4 + 3


@pytest.mark.parametrize(
    ("first", "second", "tau"),
    [
        ((1, 2, 3, 4), (10, 20, 30, 40), 1.0),
        ((1, 2, 3, 4), (4, 3, 2, 1), -1.0),
        ((1, 2, 3, 4), (1, 2, 4, 3), 4 / 6),  # 5 couples alike, 1 contrary
        ((1, 2, 3, 4), (3, 1, 4, 2), 0.0),  # 3 and 3
        ((1, 1, 2, 3), (1, 2, 3, 4), 5 / 30**0.5),  # 5 alike, 1 tie: sqrt(5 * 6)
        ((1, 1, 2, 2), (1, 1, 2, 2), 1.0),  # 4 alike; sqrt(4 * 4)
        ((1, 1, 2, 3), (2, 2, 1, 1), -4 / 20**0.5),  # 4 contrary; sqrt(5 * 4)
        ((1, 2, 3), (7, 7, 7), None),
        ((), (), None),
    ],
)
def test_tau_is_that_computed_by_hand(
    first: Sequence[float], second: Sequence[float], tau: float | None
) -> None:
    pairs = list(zip(first, second, strict=True))
    assert kendall_tau_b(pairs) == (None if tau is None else pytest.approx(tau))
    assert kendall_tau_b([(b, a) for a, b in pairs]) == kendall_tau_b(pairs)


def ranked(study: FakeStudy) -> list[Proposal]:
    """The brief trainings."""
    return study.of(TrialPhase.TUNE)


def with_rank(small_options: EnasOptions, count: int = 8) -> EnasOptions:
    return replace(small_options, rank_trains=count)


@pytest.mark.parametrize("workers", [1, 3])
def test_controls_then_finalists_are_trained_briefly_from_fresh_parameters(
    make_enas: MakeEnas, fake_study: MakeStudy, small_options: EnasOptions, workers: int
) -> None:
    options = with_rank(small_options, 6)
    config = make_enas(options=options, model_trial_count=REST + 6)
    study = fake_study(config, workers=workers).run()
    (search,) = study.of(TrialPhase.FINAL_EVAL, control=False)
    (control,) = study.of(TrialPhase.FINAL_EVAL, control=True)
    briefs = ranked(study)
    assert [p.candidates[0] for p in briefs] == [*control.candidates, *search.candidates[:2]]
    for proposal in briefs:
        assert proposal.policies == {Policy.EARLY_STOP, Policy.DOWNSCALE}
        assert (proposal.start_checkpoint, proposal.save, proposal.control) == ("", False, True)
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE
    assert len(study.of(TrialPhase.FINAL_TRAIN)) == 1


def test_without_the_option_nothing_is_ranked(make_enas: MakeEnas, fake_study: MakeStudy) -> None:
    study = fake_study(make_enas(model_trial_count=REST)).run()
    arm = study.advisor.control_arm()
    assert not ranked(study)
    assert arm is not None and (arm.rank_correlation, arm.rank_count) == (None, 0)


@pytest.mark.parametrize("planted", [(0, 1, 2, 3, 4, 5, 6, 7), (1, 0, 2, 3, 5, 4, 7, 6)])
def test_the_planted_correlation_is_reported(
    make_enas: MakeEnas, fake_study: MakeStudy, small_options: EnasOptions, planted: tuple[int, ...]
) -> None:
    """The k-th best on shared weights comes out as the `planted[k]`-th best."""

    def brief_score(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        if proposal.phase is not TrialPhase.TUNE:
            return None
        scores = {
            tuple(candidate.archs.items()): candidate.score or 0.0
            for n, end in study.ends.items()
            if study.proposals[n].phase is TrialPhase.FINAL_EVAL
            for candidate in end.candidates
        }
        assert len(scores) == 8
        order = sorted(scores.values(), reverse=True)
        place = order.index(scores[tuple(proposal.candidates[0].items())])
        return replace(study.completed(number, proposal), score=-float(planted[place]))

    config = make_enas(options=with_rank(small_options), model_trial_count=REST + 8)
    study = fake_study(config, workers=2, outcome=brief_score).run()
    arm = study.advisor.control_arm()
    exchanged = sum(a > b for a, b in itertools.pairwise(planted))
    assert arm is not None and arm.rank_count == 8
    assert arm.rank_correlation == pytest.approx(1 - 2 * exchanged / 28)


@pytest.mark.parametrize(("failing", "is_set"), [(4, True), (6, False)])
def test_those_that_fail_are_left_out_and_of_two_nothing_is_said(
    make_enas: MakeEnas,
    fake_study: MakeStudy,
    small_options: EnasOptions,
    failing: int,
    is_set: bool,
) -> None:
    def fails(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        is_brief = proposal.phase is TrialPhase.TUNE
        return study.errored(number) if is_brief and len(ranked(study)) <= failing else None

    config = make_enas(options=with_rank(small_options), model_trial_count=REST + 8)
    study = fake_study(config, outcome=fails).run()
    arm = study.advisor.control_arm()
    assert arm is not None and arm.rank_count == 8 - failing
    assert (arm.rank_correlation is not None) == is_set
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE


def test_a_cancelled_one_is_trained_anew(
    make_enas: MakeEnas, fake_study: MakeStudy, small_options: EnasOptions
) -> None:
    def first_is_cancelled(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        is_first = proposal.phase is TrialPhase.TUNE and len(ranked(study)) == 1
        return study.cancelled(number) if is_first else None

    config = make_enas(options=with_rank(small_options), model_trial_count=REST + 8)
    study = fake_study(config, outcome=first_is_cancelled).run()
    arm = study.advisor.control_arm()
    assert len(ranked(study)) == 9
    assert arm is not None and arm.rank_count == 8


def test_they_are_in_the_plan_and_in_the_smallest_budget(
    make_enas: MakeEnas, fake_study: MakeStudy, small_options: EnasOptions
) -> None:
    options = with_rank(small_options, 5)
    with pytest.raises(InfeasibleBudget) as caught:
        check_budget(make_enas(options=options, model_trial_count=REST + 4))
    assert caught.value.minimum_model_trial_count == REST + 5

    def reserve_s(options: EnasOptions) -> float:
        study = fake_study(make_enas(options=options, time_s=300.0))
        study.run(until=lambda study: len(study.ends) == 1)
        return study.advisor.plan(0.0).final_reserve_s

    # By the PROBE, each takes as long as an epoch of shared training, and what it compiles.
    assert reserve_s(options) - reserve_s(small_options) == pytest.approx(5 * (8 + 4))


def test_the_time_kept_for_them_follows_what_they_take(
    make_enas: MakeEnas, fake_study: MakeStudy, small_options: EnasOptions
) -> None:
    def takes(proposal: Proposal) -> float:
        return {TrialPhase.TUNE: 3.0, TrialPhase.FINAL_TRAIN: 20.0}.get(proposal.phase, 1.0)

    config = make_enas(options=with_rank(small_options), time_s=300.0)
    study = fake_study(config, takes=takes)
    study.run(until=lambda study: len(ranked(study)) == 3)  # and the third has ended
    assert study.advisor.plan(study.elapsed_s).remaining_s == pytest.approx(3.0 * 5)
    study.run()
    assert study.advisor.plan(study.elapsed_s).remaining_s == 0
