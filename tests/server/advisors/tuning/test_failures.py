"""When failures end a study."""

import pytest
from tests.server.advisors.fake_study import FakeStudy, Outcome
from tests.server.advisors.tuning_studies import LONG_ARCH, WIDE, tuning_config

from rafiki.resources import AdvisorKind, EndReason, TrialErrorKind, TrialPhase
from rafiki.server.domain.advisor import Ended, Proposal

RANDOM = tuning_config(AdvisorKind.RANDOM, WIDE, model_trial_count=80)
PROBED = tuning_config(AdvisorKind.RANDOM, WIDE, model_trial_count=80, has_probe=True)


def fail_with(*kinds: TrialErrorKind | None) -> Outcome:
    """An outcome: the kinds in turn, over and over; None completes."""

    def outcome(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        kind = kinds[(number - 1) % len(kinds)]
        return None if kind is None else study.errored(number, kind, f"error {number}")

    return outcome


@pytest.mark.parametrize(
    ("kinds", "trials", "text"),
    [
        ([TrialErrorKind.MODEL_EXCEPTION], 5, "with MODEL_EXCEPTION, the last: error 5"),
        ([TrialErrorKind.CRASHED, TrialErrorKind.OUT_OF_MEMORY], 10, "error 10"),
        ([TrialErrorKind.INFEASIBLE], 50, "rejected 50 settings in a row, the last: error 50"),
        ([TrialErrorKind.INFEASIBLE, TrialErrorKind.CRASHED], 10, "5 trials in a row"),
    ],
)
def test_failures_in_a_row_end_the_study_with_the_last_error(
    kinds: list[TrialErrorKind], trials: int, text: str
) -> None:
    study = FakeStudy(RANDOM, outcome=fail_with(*kinds)).run()
    assert study.finish is not None and study.finish.reason is EndReason.TOO_MANY_ERRORS
    assert text in study.finish.message
    assert len(study.proposals) == trials


@pytest.mark.parametrize(
    "kinds",
    [
        [*4 * [TrialErrorKind.CRASHED], None],
        [*4 * [TrialErrorKind.CRASHED], *4 * [TrialErrorKind.OUT_OF_MEMORY], None],
        [*40 * [TrialErrorKind.INFEASIBLE], None],
    ],
)
def test_a_success_or_another_error_between_them_starts_the_count_again(
    kinds: list[TrialErrorKind | None],
) -> None:
    study = FakeStudy(RANDOM, outcome=fail_with(*kinds)).run()
    assert study.finish is not None and study.finish.reason is EndReason.TRIAL_COUNT
    assert len(study.proposals) == 80


def test_trials_of_which_no_candidate_is_scored_count_as_failures() -> None:
    def unscored(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        return study.unscored(number, proposal)

    config = tuning_config(AdvisorKind.RANDOM, LONG_ARCH, model_trial_count=80, batch_size=3)
    study = FakeStudy(config, outcome=unscored).run()
    assert len(study.proposals) == 5
    assert study.finish is not None and "unscored" in study.finish.message


def test_a_probe_that_fails_is_tried_with_other_knobs_until_it_is_clear_that_all_fail() -> None:
    study = FakeStudy(PROBED, outcome=fail_with(TrialErrorKind.CRASHED)).run()
    assert study.finish is not None and study.finish.reason is EndReason.TOO_MANY_ERRORS
    assert study.finish.message == "5 trials in a row failed with CRASHED, the last: error 5"
    assert len({tuple(proposal.knobs.items()) for proposal in study.of(TrialPhase.PROBE)}) == 5


def test_a_probe_with_knobs_the_model_rejects_is_tried_with_others() -> None:
    def rejected_twice(study: FakeStudy, number: int, proposal: Proposal) -> Ended | None:
        return study.errored(number, TrialErrorKind.INFEASIBLE) if number <= 2 else None

    study = FakeStudy(PROBED, outcome=rejected_twice).run(until=lambda study: len(study.ends) == 4)
    phases = [proposal.phase for proposal in study.proposals.values()]
    assert phases[:4] == [*3 * [TrialPhase.PROBE], TrialPhase.TUNE]
    assert len({tuple(study.proposals[n].knobs.items()) for n in (1, 2, 3)}) == 3
