"""What every scheme keeps to, whatever it searches by."""

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.server.advisors.conftest import enas_config
from tests.server.advisors.fake_study import FakeStudy, Outcome, reloaded
from tests.server.advisors.tuning_studies import (
    EARLY_STOP,
    LONG_ARCH,
    POINTS,
    SHARE_PARAMS,
    SMALL,
    SMALL_ARCH,
    WIDE,
    points_of,
    smooth_score,
    tuned_points,
    tuning_config,
)

from rafiki.model.knobs import FixedKnob, Knob
from rafiki.resources import (
    AdvisorKind,
    BayesOptOptions,
    Direction,
    EarlyStopping,
    EarlyStoppingRule,
    EndReason,
    EvolutionOptions,
    ReinforceOptions,
    TrialErrorKind,
    TrialPhase,
    TrialState,
)
from rafiki.server.advisors import create_advisor
from rafiki.server.domain.advisor import (
    Advisor,
    AdvisorConfig,
    Ended,
    Finish,
    Proposal,
    Proposed,
    Reported,
    Situation,
    Wait,
)

MEDIAN = EarlyStopping(min_trials=2)
ASHA = EarlyStopping(rule=EarlyStoppingRule.ASHA, reduction_factor=2.0)


@dataclass(frozen=True)
class Scheme:
    """A scheme over a space, as a test id and as a config; `small` is a space of 12 points."""

    name: str
    kind: AdvisorKind
    knobs: Mapping[str, Knob]
    small: Mapping[str, Knob]
    settings: Mapping[str, Any] = field(default_factory=dict)
    batch_size: int = 1
    has_probe: bool = False

    def config(self, *, small: bool = False, **changes: Any) -> AdvisorConfig:
        """The config of a study."""
        if self.kind is AdvisorKind.ENAS:
            return replace(enas_config(control_fraction=0.2), **changes)
        made = {"batch_size": self.batch_size, "has_probe": self.has_probe}
        knobs = self.small if small else self.knobs
        return tuning_config(self.kind, knobs, settings=self.settings, **made | changes)


RANDOM = Scheme("random", AdvisorKind.RANDOM, WIDE | EARLY_STOP, SMALL, {}, 1, True)
RANDOM_BATCHES = Scheme("random-batches", AdvisorKind.RANDOM, LONG_ARCH, SMALL_ARCH, {}, 3)
BAYES_OPT = Scheme(
    "bayes_opt",
    AdvisorKind.BAYES_OPT,
    WIDE | EARLY_STOP,
    SMALL,
    {"bayes_opt": BayesOptOptions(initial_trials=4), "control_fraction": 0.25},
    1,
    True,
)
BAYES_OPT_ARCH = Scheme(
    "bayes_opt-arch",
    AdvisorKind.BAYES_OPT,
    LONG_ARCH,
    SMALL_ARCH,
    {"bayes_opt": BayesOptOptions(initial_trials=4)},
)
SHARING = Scheme(
    "param_sharing",
    AdvisorKind.BAYES_OPT_PARAM_SHARING,
    WIDE | EARLY_STOP | SHARE_PARAMS,
    SMALL | SHARE_PARAMS,
    {"bayes_opt": BayesOptOptions(initial_trials=4)},
    1,
    True,
)
EVOLUTION = Scheme(
    "evolution",
    AdvisorKind.EVOLUTION,
    WIDE | LONG_ARCH | EARLY_STOP,
    SMALL,
    {"evolution": EvolutionOptions(population_size=5, sample_size=2), "control_fraction": 0.25},
    1,
    True,
)
REINFORCE = Scheme(
    "reinforce",
    AdvisorKind.REINFORCE,
    LONG_ARCH | EARLY_STOP,
    SMALL_ARCH,
    {"reinforce": ReinforceOptions(batch_size=4), "control_fraction": 0.25},
    2,
)
ENAS = Scheme("enas", AdvisorKind.ENAS, {}, {})
FIXED_ = Scheme("fixed", AdvisorKind.FIXED, {"depth": FixedKnob(3)}, {"depth": FixedKnob(3)})

TUNING = [RANDOM, RANDOM_BATCHES, BAYES_OPT, BAYES_OPT_ARCH, SHARING, EVOLUTION, REINFORCE]
STOPPING = [
    replace(scheme, name=f"{scheme.name}-{rule.rule.lower()}", settings=settings)
    for scheme in (RANDOM, BAYES_OPT, SHARING, EVOLUTION)
    for rule in (MEDIAN, ASHA)
    for settings in ({**scheme.settings, "early_stopping": rule},)
]
SCHEMES = [*TUNING, ENAS, FIXED_]


def _parameter(scheme: Scheme) -> Any:
    """A scheme as a parameter of a test; that of a controller, which is compiled, is slow."""
    marks = [pytest.mark.slow] if scheme is REINFORCE else []
    return pytest.param(scheme, id=scheme.name, marks=marks)


each = pytest.mark.parametrize("scheme", list(map(_parameter, SCHEMES)))
each_tuning = pytest.mark.parametrize("scheme", list(map(_parameter, TUNING)))
each_stopping = pytest.mark.parametrize("scheme", STOPPING, ids=lambda scheme: scheme.name)

KINDS = [kind for kind in TrialErrorKind if kind is not TrialErrorKind.INFEASIBLE]


def troubled(seed: int) -> Outcome:
    """Trials of which some fail in different ways, some are given up, some come back unscored."""

    def outcome(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        if proposal.phase is TrialPhase.PROBE:
            return None
        draw = random.Random(f"{seed} {number}").random()
        if draw < 0.1:
            return study.errored(number, KINDS[number % len(KINDS)])
        if draw < 0.15:
            return study.errored(number, TrialErrorKind.INFEASIBLE)
        if draw < 0.25:
            return study.cancelled(number)
        is_scored = len(proposal.candidates) <= 1 or not proposal.evaluate or draw < 0.9
        return None if is_scored else study.unscored(number, proposal)

    return outcome


def curve(number: int, proposal: Proposal) -> list[float]:
    """What a trial reports on its way."""
    rng = random.Random(number)
    level = rng.random()
    return [level + rng.gauss(0.0, 0.1) for _ in range(4)] if proposal.evaluate else []


def shown(advisor: Advisor, elapsed_s: float) -> tuple[object, ...]:
    """What people are shown of a study."""
    return (
        advisor.phase(),
        advisor.plan(elapsed_s),
        advisor.rounds(),
        advisor.control_arm(),
        advisor.stops(),
    )


def check_replays(study: FakeStudy, seed: int) -> None:
    """Asserts that any prefix leads to the same decision, however it is read."""
    rng = random.Random(seed)
    folded, restored = create_advisor(study.config), create_advisor(study.config)
    applied = 0
    for asked in study.asked:
        for event in study.events[applied : asked.events]:
            folded.apply(event)
            restored.apply(event)
            if rng.random() < 0.2:
                restored = reloaded(restored, study.config)
        applied = asked.events
        assert folded.decide(asked.situation) == asked.decision
        assert restored.decide(asked.situation) == asked.decision
        elapsed_s = asked.situation.elapsed_s
        assert shown(folded, elapsed_s) == shown(restored, elapsed_s)


@pytest.mark.parametrize(("workers", "seed"), [(1, 0), (2, 1), (5, 2)])
@each
def test_any_prefix_of_the_events_replays_to_the_same_next_decision(
    scheme: Scheme, workers: int, seed: int
) -> None:
    config = scheme.config(model_trial_count=40, seed=seed)
    study = FakeStudy(config, workers=workers, seed=seed, outcome=troubled(seed)).run()
    check_replays(study, seed)


@pytest.mark.parametrize("workers", [1, 4])
@each_stopping
def test_studies_that_stop_trials_replay_as_well(scheme: Scheme, workers: int) -> None:
    config = scheme.config(model_trial_count=25)
    study = FakeStudy(config, workers=workers, seed=workers, outcome=troubled(3), curve=curve).run()
    assert study.stopped
    check_replays(study, workers)


@each
def test_deciding_changes_nothing(scheme: Scheme) -> None:
    study = FakeStudy(scheme.config(model_trial_count=25), workers=2)
    study.run(until=lambda study: len(study.ends) == 6)
    situation = Situation(number=len(study.proposals) + 1, elapsed_s=9.0, workers=2)
    before = shown(study.advisor, 9.0)
    decisions = [study.advisor.decide(situation) for _ in range(3)]
    assert decisions[0] == decisions[1] == decisions[2]
    assert shown(study.advisor, 9.0) == before


@each_tuning
def test_workers_that_ask_at_once_get_different_points_while_there_are_any(
    scheme: Scheme,
) -> None:
    config = scheme.config(small=True, time_s=1e6)
    study = FakeStudy(config, workers=1)
    study.run(until=lambda study: any(end.score is not None for end in study.ends.values()))
    study.workers = POINTS
    study.run()
    points = tuned_points(study)
    assert len(points) == len(set(points)) == POINTS
    assert study.finish is not None and study.finish.reason is EndReason.SEARCH_COMPLETE


@each_tuning
def test_a_point_that_failed_is_not_proposed_again(scheme: Scheme) -> None:
    def every_other(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        if number % 2 or proposal.phase is TrialPhase.PROBE:
            return None
        if len(proposal.candidates) > 1 and number % 4:
            return study.unscored(number, proposal)
        return study.errored(number, KINDS[number % len(KINDS)])

    config = scheme.config(small=True, time_s=1e6)
    study = FakeStudy(config, workers=3, outcome=every_other).run()
    points = tuned_points(study)
    assert len(points) == len(set(points)) == POINTS


@each_tuning
def test_a_point_whose_trial_was_cancelled_may_be_proposed_again(scheme: Scheme) -> None:
    def first_cancelled(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        is_first = study.of(TrialPhase.TUNE)[:1] == [proposal]
        return study.cancelled(number) if is_first else None

    study = FakeStudy(scheme.config(small=True, time_s=1e6), outcome=first_cancelled).run()
    completed = [
        point
        for number, end in study.ends.items()
        if end.state is TrialState.COMPLETED and end.costs is None
        for point in points_of(study.proposals[number])
    ]
    assert len(set(completed)) == len(completed) == POINTS


@each
def test_several_failures_of_one_kind_end_the_study_with_their_error(scheme: Scheme) -> None:
    def broken(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        if proposal.phase is TrialPhase.PROBE:
            return None
        return study.errored(number, message=f"no module called number{number}")

    study = FakeStudy(scheme.config(model_trial_count=30), workers=2, outcome=broken).run()
    assert study.finish is not None and study.finish.reason is EndReason.TOO_MANY_ERRORS
    assert "no module called number" in study.finish.message
    assert len(study.proposals) < 12
    check_replays(study, 1)


@each_tuning
def test_failures_between_successes_do_not_end_a_study(scheme: Scheme) -> None:
    def mostly_broken(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        is_fine = number % 4 == 1 or proposal.phase is not TrialPhase.TUNE
        return None if is_fine else study.errored(number)

    study = FakeStudy(scheme.config(model_trial_count=40), outcome=mostly_broken).run()
    assert study.finish is not None and study.finish.reason is EndReason.TRIAL_COUNT


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("count", [2, 3, 7])
@each_tuning
def test_a_trial_count_is_used_up_and_never_exceeded(
    scheme: Scheme, count: int, workers: int
) -> None:
    config = scheme.config(model_trial_count=count)
    study = FakeStudy(config, workers=workers, outcome=troubled(count)).run()
    counted = [
        end
        for number, end in study.ends.items()
        if study.proposals[number].phase is not TrialPhase.PROBE
        and end.state is not TrialState.CANCELLED
    ]
    assert len(counted) <= count
    open_trials = 0
    for event in study.events:
        is_counted = study.proposals[event.number].phase is not TrialPhase.PROBE
        if isinstance(event, Proposed):
            open_trials += is_counted
        elif isinstance(event, Ended) and event.state is TrialState.CANCELLED:
            open_trials -= is_counted
        assert open_trials <= count


@each_tuning
def test_a_trial_count_of_one_is_one_trial(scheme: Scheme) -> None:
    config = scheme.config(small=True, model_trial_count=1)
    study = FakeStudy(config, workers=3).run()
    assert len(study.of(TrialPhase.TUNE)) == 1
    assert study.finish is not None and study.finish.reason is EndReason.TRIAL_COUNT


@pytest.mark.parametrize("workers", [1, 3])
@each
def test_nothing_new_is_proposed_once_the_time_is_over(scheme: Scheme, workers: int) -> None:
    study = FakeStudy(scheme.config(time_s=130.0), workers=workers, outcome=troubled(1)).run()
    proposed = [event for event in study.events if isinstance(event, Proposed)]
    assert all(event.at_s < 130.0 for event in proposed)
    late = Situation(number=999, elapsed_s=130.0, workers=workers)
    assert isinstance(study.advisor.decide(late), Finish)


@each
def test_less_is_better_where_the_direction_says_so(scheme: Scheme) -> None:
    maximize = FakeStudy(scheme.config(model_trial_count=30), workers=2, score=smooth_score).run()
    minimize = FakeStudy(
        scheme.config(model_trial_count=30, direction=Direction.MINIMIZE),
        workers=2,
        score=lambda knobs, archs: -smooth_score(knobs, archs),
    ).run()
    assert maximize.proposals == minimize.proposals


@each
def test_a_result_of_an_unknown_trial_or_a_second_one_changes_nothing(scheme: Scheme) -> None:
    study = FakeStudy(scheme.config(model_trial_count=30))
    study.run(until=lambda study: len(study.ends) == 1)
    before = shown(study.advisor, 5.0)
    for number in (1, 999):
        with pytest.raises((ValueError, KeyError)):
            study.advisor.apply(study.completed(number, study.proposals[1]))
    assert shown(study.advisor, 5.0) == before


@each_stopping
def test_only_the_trial_that_is_behind_is_told_to_stop(scheme: Scheme) -> None:
    advisor = create_advisor(replace(scheme.config(), has_probe=False))
    for number in range(1, 6):
        situation = Situation(number=number, elapsed_s=1.0, workers=5)
        decision = advisor.decide(situation)
        assert isinstance(decision, Proposal)
        proposal = replace(decision, control=False)
        advisor.apply(Proposed(number=number, at_s=1.0, proposal=proposal))
    for number in range(1, 6):
        score = 0.1 if number == 4 else 0.9
        advisor.apply(Reported(number=number, at_s=2.0, step=1, score=score))
    assert advisor.stops() == {4}
    advisor.apply(Ended(number=2, at_s=3.0, state=TrialState.COMPLETED, score=0.9))
    assert advisor.stops() == {4}
    advisor.apply(Ended(number=4, at_s=3.0, state=TrialState.COMPLETED, score=0.1))
    assert advisor.stops() == frozenset()


@each
def test_a_study_that_waits_for_a_trial_goes_on_after_it(scheme: Scheme) -> None:
    study = FakeStudy(scheme.config(model_trial_count=25), workers=64).run()
    waited = [asked for asked in study.asked if isinstance(asked.decision, Wait)]
    assert waited and study.finish is not None
    assert not math.isnan(study.advisor.plan(study.elapsed_s).remaining_s)
