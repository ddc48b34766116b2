"""SEARCH_TRAIN in shards: who trains what, and when it is merged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import pytest

from rafiki.resources import EnasOptions, EndReason, Shard, TrialCosts, TrialPhase, TrialState
from rafiki.server.domain.advisor import (
    AdvisorConfig,
    Ended,
    Merge,
    Proposal,
    Proposed,
    Situation,
    Wait,
)

if TYPE_CHECKING:
    from tests.server.advisors.fake_study import FakeStudy

    MakeEnas: TypeAlias = Callable[..., AdvisorConfig]
    MakeStudy: TypeAlias = type[FakeStudy]

# Of the table of costs: minibatches of an epoch.
STEPS = 12


def trains_of(study: FakeStudy, number: int) -> list[Proposal]:
    """The SEARCH_TRAINs of a round."""
    return [p for p in study.of(TrialPhase.SEARCH_TRAIN) if p.round == number]


def merges_of(study: FakeStudy) -> list[Merge]:
    """The merges that were asked for."""
    return [asked.decision for asked in study.asked if isinstance(asked.decision, Merge)]


@pytest.mark.parametrize("workers", [2, 3, 5])
def test_a_round_goes_into_as_many_shards_as_there_are_workers(
    make_enas: MakeEnas, fake_study: MakeStudy, workers: int
) -> None:
    study = fake_study(make_enas(model_trial_count=60), workers=workers).run()
    shards = trains_of(study, 2)
    assert [p.shard for p in shards] == [Shard(index, workers) for index in range(workers)]
    assert len({(p.start_checkpoint, p.data_seed, p.round) for p in shards}) == 1
    assert shards[0].start_checkpoint
    # Shard i takes minibatches i, i + W, ...
    assert [len(p.candidates) for p in shards] == [
        -(-(STEPS - i) // workers) for i in range(workers)
    ]
    drawn = [tuple(archs.items()) for p in shards for archs in p.candidates]
    assert len(set(drawn)) == STEPS


def test_the_first_round_has_no_shards_as_there_is_nothing_to_compare_with(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    study = fake_study(make_enas(model_trial_count=60), workers=3).run()
    (first,) = trains_of(study, 1)
    assert (first.shard, len(first.candidates), first.start_checkpoint) == (None, STEPS, "")


@pytest.mark.parametrize(("most", "expected"), [(0, 4), (1, 1), (2, 2), (9, 4)])
def test_there_are_at_most_as_many_shards_as_asked_for(
    make_enas: MakeEnas,
    fake_study: MakeStudy,
    small_options: EnasOptions,
    most: int,
    expected: int,
) -> None:
    options = replace(small_options, train_shards=most)
    study = fake_study(make_enas(options=options, model_trial_count=60), workers=4).run()
    assert len(trains_of(study, 2)) == expected
    assert bool(merges_of(study)) == (expected > 1)


def test_no_shard_is_without_a_minibatch(make_enas: MakeEnas, fake_study: MakeStudy) -> None:
    costs = TrialCosts(steps_per_epoch=2, search_train_s=2.0, search_eval_s=1.0, final_train_s=9.0)
    study = fake_study(make_enas(model_trial_count=60), workers=5, costs=costs).run()
    assert [len(p.candidates) for p in trains_of(study, 2)] == [1, 1]


@pytest.mark.parametrize("batch_size", [1, 4])
def test_there_are_no_shards_without_candidate_batches_or_checkpoints(
    make_enas: MakeEnas, fake_study: MakeStudy, single_costs: TrialCosts, batch_size: int
) -> None:
    """A template without the pair of methods; an external study."""
    is_external = batch_size > 1

    def saves_nothing(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        ended = study.completed(number, proposal)
        return replace(ended, checkpoint="") if is_external else None

    config = make_enas(batch_size=batch_size, has_probe=not is_external, model_trial_count=60)
    study = fake_study(config, workers=3, costs=single_costs, outcome=saves_nothing).run()
    assert len(study.of(TrialPhase.SEARCH_TRAIN)) == len(study.advisor.rounds()) > 1
    assert all(p.shard is None for p in study.proposals.values())


def test_the_merge_is_asked_for_once_all_shards_have_ended_and_is_the_next_version(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    study = fake_study(make_enas(model_trial_count=30), workers=3, seed=3).run()
    numbers = [n for n, p in study.proposals.items() if p.round == 2 and p.shard is not None]
    ended = [n for n in study.ends if n in numbers]
    merge, *_ = merges_of(study)
    assert merge == Merge(
        number=ended[-1],
        round=2,
        base="checkpoint-2",
        shards=tuple(f"checkpoint-{number}" for number in numbers),
    )
    evaluations = [p for p in study.of(TrialPhase.SEARCH_EVAL) if p.round == 2]
    assert {p.start_checkpoint for p in evaluations} == {"merged-2"}
    _, second, *_ = study.advisor.rounds()
    assert (second.checkpoint, second.merge_s) == ("merged-2", 0.5)
    assert trains_of(study, 3)[0].start_checkpoint == second.checkpoint


def test_a_worker_without_a_shard_waits_and_one_that_joins_takes_an_open_one(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    study = fake_study(make_enas(model_trial_count=60), workers=2)
    study.run(until=lambda study: len(trains_of(study, 2)) == 2)
    situation = Situation(number=99, elapsed_s=30.0, workers=3)
    assert isinstance(study.advisor.decide(situation), Wait)
    # The worker of the shard that still runs is lost for good: whoever asks gets its shard.
    lost = max(study.proposals.keys() - study.ends.keys())
    study.advisor.apply(study.errored(lost))
    again = study.advisor.decide(situation)
    assert isinstance(again, Proposal) and again.shard == study.proposals[lost].shard


@pytest.mark.parametrize("is_error", [True, False])
def test_a_shard_that_fails_is_redone_and_no_other(
    make_enas: MakeEnas, fake_study: MakeStudy, is_error: bool
) -> None:
    failed: list[int] = []

    def second_shard_fails(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        if failed or proposal.shard != Shard(1, 2):
            return None
        failed.append(number)
        if is_error:
            return study.errored(number)
        return Ended(number=number, at_s=study.elapsed_s, state=TrialState.CANCELLED)

    config = make_enas(model_trial_count=30)
    study = fake_study(config, workers=2, outcome=second_shard_fails).run()
    shards = trains_of(study, 2)
    assert sorted(p.shard.index for p in shards if p.shard is not None) == [0, 1, 1]
    first, again = (p for p in shards if p.shard == Shard(1, 2))
    assert (first.start_checkpoint, first.data_seed) == (again.start_checkpoint, again.data_seed)
    assert len(merges_of(study)[0].shards) == 2
    assert f"checkpoint-{failed[0]}" not in merges_of(study)[0].shards
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE


def test_three_shards_that_fail_in_a_row_end_the_study_with_their_error(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    def fails(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        return study.errored(number) if proposal.shard == Shard(1, 2) else None

    study = fake_study(make_enas(model_trial_count=60), workers=2, outcome=fails).run()
    assert study.finish is not None and study.finish.reason is EndReason.TOO_MANY_ERRORS
    assert "the model broke" in study.finish.message


def test_after_a_merge_that_failed_the_round_is_trained_again(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    errors = iter(["shard 1 of 2 lacks the tensor 'a'"])
    study = fake_study(
        make_enas(model_trial_count=60),
        workers=2,
        merge_error=lambda merge: next(errors, ""),
    ).run()
    assert [p.shard for p in trains_of(study, 2)] == [Shard(0, 2), Shard(1, 2)] * 2
    assert len({p.start_checkpoint for p in trains_of(study, 2)}) == 1
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE


def test_three_merges_that_fail_end_the_study_with_their_error(
    make_enas: MakeEnas, fake_study: MakeStudy
) -> None:
    config = make_enas(model_trial_count=60)
    study = fake_study(config, workers=2, merge_error=lambda merge: "'a' differs").run()
    assert study.finish is not None and study.finish.reason is EndReason.TOO_MANY_ERRORS
    assert "could not be merged 3 times: 'a' differs" in study.finish.message


@pytest.mark.parametrize("batch_size", [1, 4])
def test_no_draw_is_older_than_the_bound(
    make_enas: MakeEnas,
    fake_study: MakeStudy,
    small_options: EnasOptions,
    single_costs: TrialCosts,
    batch_size: int,
) -> None:
    """Ten clients in one: each takes a trial, and they count as one worker."""
    options = replace(small_options, batches_per_round=12)
    config = make_enas(options=options, batch_size=batch_size, model_trial_count=150)
    study = fake_study(config, workers=1, capacity=20, costs=single_costs).run()
    proposed: dict[int, int] = {}
    ages: list[int] = []
    for event in study.events:
        proposal = study.proposals[event.number]
        if proposal.phase is not TrialPhase.SEARCH_EVAL:
            continue
        if isinstance(event, Proposed):
            proposed[event.number] = int(proposal.basis["controller_updates"])
            assert proposal.basis["batches_in_flight"] <= 2
        elif isinstance(event, Ended):
            ages.append(len(ages) // (4 // batch_size) - proposed[event.number])
    # It was drawn from a controller at most two updates before the one that learned from it.
    assert 1 <= max(ages) <= 2
