"""The course of an ENAS study: phases, rounds, what reaches the controller."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pytest

from rafiki.model.knobs import Policy
from rafiki.resources import Direction, EnasOptions, EndReason, TrialCosts, TrialPhase, TrialState
from rafiki.server.domain.advisor import (
    Advisor,
    AdvisorConfig,
    Ended,
    Finish,
    Merged,
    Proposal,
    Proposed,
    Wait,
)

if TYPE_CHECKING:
    from tests.server.advisors.conftest import FakeStudy

    MakeEnas: TypeAlias = Callable[..., AdvisorConfig]
    MakeStudy: TypeAlias = type[FakeStudy]
    Reload: TypeAlias = Callable[[Advisor, AdvisorConfig], Advisor]

# Rounds are 1 + 3 trials, the final phases 2 + 1.
ROUND, FINAL = 4, 3


def test_a_study_goes_from_probe_through_rounds_to_one_final_training(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    study = fake_study(make_enas(model_trial_count=2 * ROUND + FINAL)).run()
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE
    assert [proposal.phase for proposal in study.proposals.values()] == [
        TrialPhase.PROBE,
        *2 * [TrialPhase.SEARCH_TRAIN, *3 * [TrialPhase.SEARCH_EVAL]],
        *2 * [TrialPhase.FINAL_EVAL],
        TrialPhase.FINAL_TRAIN,
    ]


def test_every_phase_turns_on_its_policies(make_enas: MakeEnas, fake_study: MakeStudy) -> None:
    study = fake_study(make_enas(model_trial_count=ROUND + FINAL)).run()
    train = frozenset({Policy.SHARE_PARAMS, Policy.DOWNSCALE, Policy.EARLY_STOP})
    evaluate = frozenset({Policy.SHARE_PARAMS, Policy.SKIP_TRAIN, Policy.DOWNSCALE})
    expected: dict[TrialPhase, tuple[frozenset[Policy], bool, bool]] = {
        TrialPhase.PROBE: (train, False, False),
        TrialPhase.SEARCH_TRAIN: (train, False, True),
        TrialPhase.SEARCH_EVAL: (evaluate | {Policy.QUICK_EVAL}, True, False),
        TrialPhase.FINAL_EVAL: (evaluate, True, False),
        TrialPhase.FINAL_TRAIN: (frozenset(), True, True),
    }
    for proposal in study.proposals.values():
        assert (proposal.policies, proposal.evaluate, proposal.save) == expected[proposal.phase]
        assert proposal.knobs == {"filters": 16}


def test_every_round_starts_from_the_version_before_and_is_scored_on_its_own(
    make_enas: MakeEnas, fake_study: MakeStudy, small_options: EnasOptions
) -> None:
    config = make_enas(
        options=replace(small_options, train_shards=1), model_trial_count=3 * ROUND + FINAL
    )
    study = fake_study(config, workers=2).run()
    trains = study.of(TrialPhase.SEARCH_TRAIN)
    versions = [
        end.checkpoint
        for number, end in study.ends.items()
        if study.proposals[number].phase is TrialPhase.SEARCH_TRAIN
    ]
    assert [train.start_checkpoint for train in trains] == ["", *versions[:2]]
    assert [train.round for train in trains] == [1, 2, 3]
    assert len({train.data_seed for train in trains}) == 3
    for proposal in study.of(TrialPhase.SEARCH_EVAL):
        assert proposal.start_checkpoint == versions[proposal.round - 1]
    for proposal in study.of(TrialPhase.FINAL_EVAL):
        assert proposal.start_checkpoint == versions[-1]
    for proposal in study.of(TrialPhase.FINAL_TRAIN):
        assert proposal.start_checkpoint == ""


def test_a_search_train_has_a_fresh_architecture_for_every_minibatch(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    study = fake_study(make_enas(model_trial_count=ROUND + FINAL)).run()
    (train,) = study.of(TrialPhase.SEARCH_TRAIN)
    drawn = {tuple(archs.items()) for archs in train.candidates}
    assert len(train.candidates) == 12  # the steps per epoch that the PROBE measured
    assert len(drawn) == 12


def test_a_template_without_batches_gets_one_candidate_per_trial(
    make_enas: MakeEnas, fake_study: MakeStudy, single_costs: TrialCosts
) -> None:
    config = make_enas(batch_size=1, model_trial_count=1 + 12 + 8 + 1)
    study = fake_study(config, workers=3, costs=single_costs).run()
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE
    assert {len(proposal.candidates) for proposal in study.proposals.values()} == {1}
    assert len(study.of(TrialPhase.SEARCH_EVAL)) == 12
    assert len(study.of(TrialPhase.FINAL_EVAL)) == 8
    assert _updates(study.advisor) == 3


def test_updates_from_single_candidates_still_train_on_one_per_minibatch(
    make_enas: MakeEnas, fake_study: MakeStudy, small_options: EnasOptions
) -> None:
    options = replace(small_options, candidates_per_batch=1)
    config = make_enas(options=options, batch_size=1, model_trial_count=ROUND + 8 + 1)
    study = fake_study(config).run()
    assert [len(p.candidates) for p in study.of(TrialPhase.SEARCH_TRAIN)] == [12]
    assert [len(p.candidates) for p in study.of(TrialPhase.SEARCH_EVAL)] == [1, 1, 1]
    assert _updates(study.advisor) == 3


def test_a_client_that_takes_part_of_a_batch_gets_batches_in_parts(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    config = make_enas(batch_size=3, has_probe=False, model_trial_count=1 + 6 + 4 + 1)
    study = fake_study(config, workers=2).run()
    assert [len(p.candidates) for p in study.of(TrialPhase.SEARCH_EVAL)] == [3, 1] * 3
    assert [len(p.candidates) for p in study.of(TrialPhase.SEARCH_TRAIN)] == [3]
    assert not study.of(TrialPhase.PROBE)
    assert _updates(study.advisor) == 3


def test_an_external_study_keeps_its_weights_itself_and_needs_no_checkpoints(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    def without_checkpoint(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        return replace(study.completed(number, proposal), checkpoint="")

    config = make_enas(has_probe=False, time_s=200.0)
    study = fake_study(config, workers=2, outcome=without_checkpoint).run()
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE
    assert len(study.advisor.rounds()) > 5
    assert len(study.of(TrialPhase.FINAL_TRAIN)) == 1


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_controller_learns_once_from_every_batch_that_is_no_control(
    make_enas: MakeEnas, fake_study: MakeStudy, workers: int
) -> None:
    config = make_enas(control_fraction=0.4, model_trial_count=2 * (ROUND + 2) + FINAL)
    study = fake_study(config, workers=workers).run()
    assert len(study.of(TrialPhase.SEARCH_EVAL, control=True)) == 4
    assert len(study.of(TrialPhase.SEARCH_EVAL, control=False)) == 6
    assert _updates(study.advisor) == 6


def test_control_scores_teach_the_controller_nothing(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    def excellent_control(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        if not proposal.control or len(proposal.candidates) == 1:
            return None
        ended = study.completed(number, proposal)
        return replace(ended, candidates=tuple(replace(c, score=9.0) for c in ended.candidates))

    config = make_enas(control_fraction=0.4, model_trial_count=2 * (ROUND + 2) + FINAL)
    plain = fake_study(config).run()
    study = fake_study(config, outcome=excellent_control).run()
    assert study.proposals == plain.proposals
    assert _arrays_equal(study.advisor, plain.advisor)
    control = study.advisor.control_arm()
    assert control is not None and control.control.mean == 9.0


def test_final_scores_teach_the_controller_nothing(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    study = fake_study(make_enas(model_trial_count=ROUND + FINAL))
    study.run(until=lambda study: bool(study.of(TrialPhase.FINAL_EVAL)))
    before = study.advisor.dump().arrays
    after = study.run().advisor.dump().arrays
    assert all(np.array_equal(before[name], after[name], equal_nan=True) for name in before)


def test_no_reward_of_an_older_weight_version_reaches_the_controller(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    study = fake_study(make_enas(model_trial_count=3 * ROUND + 4 + FINAL), workers=3).run()
    open_evals: dict[int, int] = {}
    version = 0
    for event in study.events:
        match event:
            case Proposed(proposal=proposal) if proposal.phase is TrialPhase.SEARCH_EVAL:
                open_evals[event.number] = proposal.round
                assert proposal.round == version
            case Ended() if study.proposals[event.number].phase is TrialPhase.SEARCH_TRAIN:
                version += study.proposals[event.number].shard is None
                assert not open_evals
            case Merged():
                version += 1
                assert not open_evals
            case Ended():
                open_evals.pop(event.number, None)
    assert version == 3


def test_final_eval_scores_distinct_finalists_beside_as_many_controls(
    make_enas: MakeEnas, fake_study: MakeStudy, small_options: EnasOptions
) -> None:
    options = replace(small_options, final_evals=10)
    config = make_enas(options=options, batch_size=10, model_trial_count=ROUND + FINAL)
    study = fake_study(config).run()
    (search,) = study.of(TrialPhase.FINAL_EVAL, control=False)
    (control,) = study.of(TrialPhase.FINAL_EVAL, control=True)
    assert len(search.candidates) == len(control.candidates) == 10
    assert len({tuple(archs.items()) for archs in search.candidates}) == 10
    arm = study.advisor.control_arm()
    assert arm is not None and arm.search.count == arm.control.count == 10


def test_half_of_the_finalists_are_the_best_seen_by_mean_reward(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    study = fake_study(make_enas(model_trial_count=2 * ROUND + FINAL)).run()
    seen = {
        tuple(candidate.archs.items()): candidate.score or 0.0
        for number, end in study.ends.items()
        if study.proposals[number].phase is TrialPhase.SEARCH_EVAL
        for candidate in end.candidates
    }
    best = sorted(seen, key=lambda archs: -seen[archs])[:2]
    (search,) = study.of(TrialPhase.FINAL_EVAL, control=False)
    assert [tuple(archs.items()) for archs in search.candidates[:2]] == best


@pytest.mark.parametrize("direction", list(Direction))
def test_the_best_finalist_is_trained_in_full_and_no_control(
    make_enas: MakeEnas, fake_study: MakeStudy, direction: Direction
) -> None:
    config = make_enas(direction=direction, model_trial_count=ROUND + FINAL)
    study = fake_study(config).run()
    (evaluated,) = (
        end
        for number, end in study.ends.items()
        if study.proposals[number].phase is TrialPhase.FINAL_EVAL
        and not study.proposals[number].control
    )
    better = max if direction is Direction.MAXIMIZE else min
    best = better(evaluated.candidates, key=lambda candidate: candidate.score or 0.0)
    (trained,) = study.of(TrialPhase.FINAL_TRAIN)
    assert trained.candidates == (best.archs,)
    assert not trained.control


def test_final_controls_are_trained_beside_the_chosen(
    make_enas: MakeEnas, fake_study: MakeStudy, small_options: EnasOptions
) -> None:
    options = replace(small_options, final_trains=2, final_controls=2)
    config = make_enas(options=options, model_trial_count=ROUND + FINAL + 3)
    study = fake_study(config, workers=2).run()
    (control,) = study.of(TrialPhase.FINAL_EVAL, control=True)
    trained = study.of(TrialPhase.FINAL_TRAIN)
    assert [proposal.control for proposal in trained] == [False, False, True, True]
    assert [p.candidates[0] for p in trained[2:]] == list(control.candidates[:2])


def test_a_minimized_study_learns_what_a_maximized_one_learns_from_negated_scores(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    def negated(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        ended = study.completed(number, proposal)
        scored = (replace(c, score=None if c.score is None else -c.score) for c in ended.candidates)
        score = None if ended.score is None else -ended.score
        return replace(ended, candidates=tuple(scored), score=score)

    plain = fake_study(make_enas(model_trial_count=ROUND + FINAL)).run()
    config = make_enas(direction=Direction.MINIMIZE, model_trial_count=ROUND + FINAL)
    study = fake_study(config, outcome=negated).run()
    assert study.proposals == plain.proposals
    (first,), (second,) = plain.advisor.rounds(), study.advisor.rounds()
    assert second.mean_reward == -first.mean_reward
    assert second.baseline == -first.baseline


def test_a_round_is_reported_with_its_rewards_times_and_control(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    config = make_enas(control_fraction=0.25, model_trial_count=2 * (ROUND + 1) + FINAL)
    study = fake_study(config).run()
    first, _ = study.advisor.rounds()
    evaluated = [
        (study.proposals[number].control, candidate.score or 0.0)
        for number, end in study.ends.items()
        if study.proposals[number].phase is TrialPhase.SEARCH_EVAL
        and study.proposals[number].round == 1
        for candidate in end.candidates
    ]
    scores = [score for control, score in evaluated if not control]
    controls = [score for control, score in evaluated if control]
    assert first.round == 1 and first.checkpoint == "checkpoint-2"
    assert first.mean_reward == pytest.approx(sum(scores) / 12)
    assert first.best is not None and first.best.score == max(scores)
    assert first.control is not None and first.control.count == 4
    assert first.control.mean == pytest.approx(sum(controls) / 4)
    assert 0 < first.entropy <= 2 * (4 * math.log(3) + 2 * (math.log(2) + math.log(3)))
    assert first.train_s == pytest.approx(8, rel=0.11)
    assert first.evaluate_s == pytest.approx(4, rel=0.11)


def test_before_the_final_phases_the_control_arm_is_that_of_the_latest_round(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    config = make_enas(control_fraction=0.25, model_trial_count=2 * (ROUND + 1) + FINAL)
    study = fake_study(config).run(until=lambda study: bool(study.of(TrialPhase.FINAL_EVAL)))
    arm = study.advisor.control_arm()
    assert arm is not None and arm.search.count == 12
    assert arm.control == study.advisor.rounds()[-1].control


def test_a_failed_search_train_is_tried_again_and_never_evaluated(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    def second_fails(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        return study.errored(number) if number == 2 else None

    config = make_enas(model_trial_count=ROUND + FINAL + 1)
    study = fake_study(config, workers=3, outcome=second_fails).run()
    phases = [proposal.phase for proposal in study.proposals.values()]
    assert phases[1:4] == [TrialPhase.SEARCH_TRAIN] * 2 + [TrialPhase.SEARCH_EVAL]
    first, second = study.of(TrialPhase.SEARCH_TRAIN)
    assert (first.round, first.data_seed) == (second.round, second.data_seed)
    assert first.candidates != second.candidates
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE


def test_three_failed_search_trains_in_a_row_end_the_study_with_their_error(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    def fails(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        return study.errored(number) if proposal.phase is TrialPhase.SEARCH_TRAIN else None

    study = fake_study(make_enas(model_trial_count=100), outcome=fails).run()
    assert study.finish is not None and study.finish.reason is EndReason.TOO_MANY_ERRORS
    assert "the model broke" in study.finish.message
    assert len(study.proposals) == 1 + 3


def test_a_failed_probe_ends_the_study_with_its_error(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    study = fake_study(
        make_enas(model_trial_count=100),
        outcome=lambda study, number, proposal: study.errored(number),
    ).run()
    assert study.finish == Finish(
        reason=EndReason.TOO_MANY_ERRORS, message="PROBE failed: the model broke"
    )


def test_while_the_probe_runs_every_other_worker_waits(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    study = fake_study(make_enas(model_trial_count=100), workers=3)
    study.run(until=lambda study: len(study.asked) > 1)
    assert isinstance(study.asked[1].decision, Wait)


def test_a_batch_without_scores_teaches_nothing_and_three_in_a_row_end_the_study(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    def unscored(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        is_eval = proposal.phase is TrialPhase.SEARCH_EVAL
        return study.unscored(number, proposal) if is_eval else None

    study = fake_study(make_enas(model_trial_count=100), outcome=unscored).run()
    assert study.finish is not None and study.finish.reason is EndReason.TOO_MANY_ERRORS
    assert len(study.of(TrialPhase.SEARCH_EVAL)) == 3
    assert _updates(study.advisor) == 0


def test_a_failed_search_eval_counts_as_an_unscored_batch(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    def one_fails(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        return study.errored(number) if number == 3 else None

    study = fake_study(make_enas(model_trial_count=ROUND + FINAL), outcome=one_fails).run()
    assert study.proposals[3].phase is TrialPhase.SEARCH_EVAL
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE
    assert _updates(study.advisor) == 2


def test_after_a_failed_final_training_the_next_best_is_trained(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    def first_fails(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        is_first = len(study.of(TrialPhase.FINAL_TRAIN)) == 1
        fails = proposal.phase is TrialPhase.FINAL_TRAIN and is_first
        return study.errored(number) if fails else None

    study = fake_study(make_enas(model_trial_count=ROUND + FINAL + 1), outcome=first_fails).run()
    first, second = study.of(TrialPhase.FINAL_TRAIN)
    assert first.candidates != second.candidates
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE


def test_three_failed_final_trainings_end_the_study_with_their_error(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    def fails(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        return study.errored(number) if proposal.phase is TrialPhase.FINAL_TRAIN else None

    config = make_enas(model_trial_count=ROUND + FINAL + 3)
    study = fake_study(config, outcome=fails).run()
    assert len(study.of(TrialPhase.FINAL_TRAIN)) == 3
    assert study.finish is not None and study.finish.reason is EndReason.TOO_MANY_ERRORS


def test_a_cancelled_trial_is_proposed_anew(make_enas: MakeEnas, fake_study: MakeStudy) -> None:
    def cancelled(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        is_first = len(study.of(proposal.phase, control=proposal.control)) == 1
        if proposal.phase is TrialPhase.PROBE or not is_first:
            return None
        return Ended(number=number, at_s=study.elapsed_s, state=TrialState.CANCELLED)

    study = fake_study(make_enas(model_trial_count=ROUND + FINAL), outcome=cancelled).run()
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE
    completed = [end for end in study.ends.values() if end.state is TrialState.COMPLETED]
    assert len(completed) == 1 + ROUND + FINAL


def test_a_proposal_says_what_it_was_based_on(make_enas: MakeEnas, fake_study: MakeStudy) -> None:
    study = fake_study(make_enas(model_trial_count=2 * ROUND + FINAL), workers=2).run()
    second = study.of(TrialPhase.SEARCH_TRAIN)[1]
    assert second.basis["controller_updates"] == 3
    assert second.basis["round"] == 2
    assert second.basis["workers"] == 2
    assert second.basis["elapsed_s"] > 8
    evals = study.of(TrialPhase.SEARCH_EVAL)
    assert [evals[0].basis["batches_in_flight"], evals[1].basis["batches_in_flight"]] == [0, 1]


@pytest.mark.parametrize("workers", [1, 2, 3])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_any_prefix_of_the_events_replays_to_the_same_next_decision(
    make_enas: MakeEnas, fake_study: MakeStudy, reloaded: Reload, workers: int, batch_size: int
) -> None:
    def sometimes_fails(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        return study.errored(number) if number % 7 == 2 else None

    config = make_enas(control_fraction=0.25, batch_size=batch_size, time_s=120.0, seed=workers)
    study = fake_study(config, workers=workers, seed=workers, outcome=sometimes_fails).run()
    assert study.of(TrialPhase.FINAL_TRAIN)
    folded: Advisor = fake_study(config).advisor
    loaded: Advisor = fake_study(config).advisor
    applied = 0
    for asked in study.asked:
        for event in study.events[applied : asked.events]:
            folded.apply(event)
            loaded.apply(event)
        applied = asked.events
        loaded = reloaded(loaded, config)
        assert folded.decide(asked.situation) == asked.decision
        assert folded.decide(asked.situation) == asked.decision
        assert loaded.decide(asked.situation) == asked.decision
        assert loaded.plan(asked.situation.elapsed_s) == folded.plan(asked.situation.elapsed_s)
        assert loaded.rounds() == folded.rounds()
        assert loaded.control_arm() == folded.control_arm()
        assert loaded.phase() is folded.phase()


def _updates(advisor: Advisor) -> int:
    return int(advisor.dump().arrays["controller/updates"])


def _arrays_equal(first: Advisor, second: Advisor) -> bool:
    ours, theirs = first.dump().arrays, second.dump().arrays
    return all(np.array_equal(ours[name], theirs[name], equal_nan=True) for name in ours)
