"""What a watcher must know at the end."""

from dataclasses import replace

import pytest
from tests.chaos.check import ServedTrial
from tests.chaos.watches import Seen, check_watches

from rafiki.resources import TrialPhase, TrialState

TRIAL = ServedTrial(
    name="trainJobs/a/studies/1/trials/1",
    phase=TrialPhase.TUNE,
    state=TrialState.COMPLETED,
    attempt=1,
    seed=1,
    score=0.5,
)
SEEN = Seen(job="trainJobs/a", is_ended=True, trials={TRIAL.name: (TrialState.COMPLETED, 0.5)})


def test_nothing_is_said_of_who_knows_all() -> None:
    assert list(check_watches([SEEN], [TRIAL])) == []


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (replace(SEEN, error="gone"), "failed: gone"),
        (replace(SEEN, is_ended=False), "did not learn of its end"),
        (replace(SEEN, trials={}), "missed"),
        (replace(SEEN, trials={TRIAL.name: (TrialState.RUNNING, None)}), "at last"),
        (replace(SEEN, trials={TRIAL.name: (TrialState.COMPLETED, 0.4)}), "at last"),
    ],
)
def test_what_a_watcher_does_not_know_is_said(seen: Seen, said: str) -> None:
    (complaint,) = check_watches([seen], [TRIAL])
    assert said in complaint
