"""REINFORCE: what its controller learns from, and what is told about it."""

import itertools
import math
import random
import statistics

import pytest
from tests.server.advisors.fake_study import FakeStudy, reloaded, through_json
from tests.server.advisors.tuning_studies import LONG_ARCH, SMALL_ARCH, tuning_config

from rafiki.resources import AdvisorKind, Candidate, Direction, ReinforceOptions, TrialPhase
from rafiki.server.advisors.tuning.history import History, Point
from rafiki.server.advisors.tuning.reinforce import ReinforceSampler, ranks
from rafiki.server.domain.advisor import AdvisorState, Ended, Proposal

# The controller is compiled.
pytestmark = pytest.mark.slow

OPTIONS = ReinforceOptions(batch_size=4)


def sampler_of(options: ReinforceOptions = OPTIONS) -> ReinforceSampler:
    """A fresh sampler over a small space."""
    return ReinforceSampler(
        SMALL_ARCH,
        options,
        study="trainJobs/0/studies/1",
        direction=Direction.MAXIMIZE,
        seed=3,
    )


def ended(*rewards: float | None) -> list[tuple[Point, float | None]]:
    """Points with these rewards."""
    archs = History(SMALL_ARCH).grid.archs
    return [(Point({"depth": 3}, archs.at(n)), reward) for n, reward in enumerate(rewards)]


def test_the_controller_learns_once_a_batch_has_ended() -> None:
    sampler = sampler_of()
    history = History(SMALL_ARCH)
    sampler.learn(ended(0.1, 0.2, 0.3))
    assert sampler.rounds() == () and sampler.basis(history, 1) == {"controller_updates": 0.0}
    sampler.learn(ended(0.6, 0.5))
    assert len(sampler.rounds()) == 1 and sampler.basis(history, 1) == {"controller_updates": 1.0}
    sampler.learn(ended(0.1, 0.2, 0.3))
    assert len(sampler.rounds()) == 2


def test_a_round_tells_of_the_scores_of_its_batch() -> None:
    sampler = sampler_of()
    sampler.learn(ended(0.1, None, 0.5, 0.3))
    (first,) = sampler.rounds()
    assert first.round == 1 and first.checkpoint == ""
    assert first.mean_reward == pytest.approx(0.3)
    assert first.best == Candidate(archs={"arch": (0, 1, 0)}, score=0.5)
    assert first.entropy > 0 and math.isfinite(first.baseline)


def test_a_batch_without_any_score_teaches_nothing() -> None:
    sampler, other = sampler_of(), sampler_of()
    sampler.learn(ended(None, None, None, None))
    assert sampler.rounds() == ()
    history = History(SMALL_ARCH)
    assert sampler.propose(history, 3, 5) == other.propose(history, 3, 5)


def test_a_reward_is_the_share_of_its_batch_that_it_beats() -> None:
    assert ranks([1e9, 3.0, -5.0, 3.0]) == [7 / 8, 4 / 8, 1 / 8, 4 / 8]
    first, second, third = ranks([2.0, None, 1.0])
    assert (first, third) == (3 / 4, 1 / 4) and math.isnan(second)


def test_what_is_learned_does_not_depend_on_the_unit_of_scores() -> None:
    sampler, other = sampler_of(), sampler_of()
    sampler.learn(ended(0.1, 0.9, None, 0.4))
    other.learn(ended(-20.0, 5000.0, None, 3.0))
    history = History(SMALL_ARCH)
    assert sampler.propose(history, 4, 5) == other.propose(history, 4, 5)


def test_the_best_architectures_get_likelier_whatever_comes_after_them() -> None:
    sampler = ReinforceSampler(
        LONG_ARCH, OPTIONS, study="trainJobs/0/studies/1", direction=Direction.MAXIMIZE, seed=3
    )
    history, rng = History(LONG_ARCH), random.Random(1)
    good = [(2,) * n + (0,) + (2,) * (7 - n) for n in range(8)]
    sampler.learn([(Point({}, choices), 9.0) for choices in good])
    # Equal rewards teach REINFORCE nothing.
    for _ in range(10):
        sampler.learn([(Point({}, history.grid.archs.draw(rng)), 0.0) for _ in range(4)])
    drawn = [point for seed in range(5) for point in sampler.propose(history, 4, seed)]
    assert statistics.fmean(choice == 2 for point in drawn for choice in point.choices) > 0.6


def test_a_controller_that_draws_only_known_architectures_has_one_changed() -> None:
    sampler = ReinforceSampler(
        LONG_ARCH, OPTIONS, study="trainJobs/0/studies/1", direction=Direction.MAXIMIZE, seed=3
    )
    history = History(LONG_ARCH)
    for _ in range(100):
        sampler.learn([(Point({}, (2,) * 8), 9.0)] * 4)
    for choices in itertools.product(range(3), repeat=8):
        if sum(choice != 2 for choice in choices) <= 2:
            history.take(Point({}, choices))
    for seed in range(20):
        (child,) = sampler.propose(history, 1, seed)
        assert 3 <= sum(choice != 2 for choice in child.choices) <= 4


def test_a_snapshot_in_the_middle_of_a_batch_goes_on_the_same() -> None:
    sampler, restored = sampler_of(), sampler_of()
    sampler.learn(ended(0.1, 0.2, None, 0.4, 0.5, None))
    restored.load(through_json(sampler.dump()))
    for one in (sampler, restored):
        one.learn(ended(0.9, 0.8))
    assert sampler.rounds() == restored.rounds() and len(sampler.rounds()) == 2
    history = History(SMALL_ARCH)
    assert sampler.propose(history, 4, 7) == restored.propose(history, 4, 7)
    assert isinstance(sampler.dump(), AdvisorState)


def test_rounds_are_in_terms_of_scores_where_less_is_better() -> None:
    config = tuning_config(
        AdvisorKind.REINFORCE,
        LONG_ARCH,
        settings={"reinforce": OPTIONS},
        direction=Direction.MINIMIZE,
        model_trial_count=9,
    )
    study = FakeStudy(config, score=lambda knobs, archs: 5.0 + sum(archs["arch"])).run()
    scores = [end.score for end in study.ends.values() if end.score is not None]
    first, second = study.advisor.rounds()
    assert first.mean_reward == pytest.approx(statistics.fmean(scores[:4]))
    assert first.baseline == pytest.approx(first.mean_reward, abs=0.01)
    assert second.best is not None and second.best.score == min(scores[4:8])


def test_failed_trials_are_part_of_their_batch() -> None:
    def every_other(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        return study.errored(number) if number % 2 else None

    config = tuning_config(
        AdvisorKind.REINFORCE,
        LONG_ARCH,
        settings={"reinforce": OPTIONS},
        model_trial_count=8,
    )
    study = FakeStudy(config, outcome=every_other).run()
    assert len(study.advisor.rounds()) == 2
    assert reloaded(study.advisor, config).rounds() == study.advisor.rounds()


def test_reinforce_learns_which_choices_are_good() -> None:
    # Few trials for the size of the space: the best architectures are not tried twice.
    config = tuning_config(AdvisorKind.REINFORCE, LONG_ARCH, model_trial_count=200)
    study = FakeStudy(
        config,
        workers=4,
        score=lambda knobs, archs: sum(choice == 2 for choice in archs["arch"]) / 8,
    ).run()
    tunes = study.of(TrialPhase.TUNE)
    shares = [sum(choice == 2 for choice in p.candidates[0]["arch"]) / 8 for p in tunes]
    assert statistics.fmean(shares[:30]) == pytest.approx(1 / 3, abs=0.1)
    assert statistics.fmean(shares[-50:]) > 0.5
