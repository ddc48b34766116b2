"""The comparison after a storm: silent about what is right, and about nothing else."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.chaos.check import Evidence, LoggedEvent, ServedStudy, ServedTrial, check
from tests.chaos.ledger import Moment, Report, Run

from rafiki.resources import TrainJobState, TrialErrorKind, TrialPhase, TrialState

STUDY = "trainJobs/a/studies/1"


def name(number: int) -> str:
    return f"{STUDY}/trials/{number}"


def report(number: int, moment: Moment, token: str, score: float | None) -> Report:
    is_answer = moment is Moment.ACKNOWLEDGED
    return Report(
        moment=moment,
        worker="w",
        trial=name(number),
        token=token,
        outcome="error" if score is None else "completed",
        score=score,
        answered_state=("PENDING" if score is None else "COMPLETED") if is_answer else "",
        answered_score=score if is_answer else None,
    )


def trial(number: int, *, token: str, attempt: int, score: float | None) -> ServedTrial:
    return ServedTrial(
        name=name(number),
        phase=TrialPhase.TUNE,
        state=TrialState.ERRORED if score is None else TrialState.COMPLETED,
        attempt=attempt,
        seed=number,
        score=score,
        token=token,
        error_kind=TrialErrorKind.WORKER_LOST if score is None else None,
    )


def events(numbers: list[int]) -> list[LoggedEvent]:
    kinds = [(kind, number) for number in numbers for kind in ("PROPOSED", "ENDED")]
    return [
        LoggedEvent(study=STUDY, sequence=sequence, kind=kind, trial=number)
        for sequence, (kind, number) in enumerate(kinds, start=1)
    ]


# 1: at once. 2: failed and was tried again; the answer to the result came at the second try.
# 3: lost three times. 4: its worker died before it knew that the result was stored.
RIGHT = Evidence(
    reports=[
        report(1, Moment.REPORTING, "k1", 0.1),
        report(1, Moment.ACKNOWLEDGED, "k1", 0.1),
        report(2, Moment.REPORTING, "k2", None),
        report(2, Moment.ACKNOWLEDGED, "k2", None),
        report(2, Moment.REPORTING, "k3", 0.2),
        report(2, Moment.REFUSED, "k3", 0.2),
        report(2, Moment.REPORTING, "k3", 0.2),
        report(2, Moment.ACKNOWLEDGED, "k3", 0.2),
        report(4, Moment.REPORTING, "k7", 0.4),
    ],
    runs=[
        Run(seed=1, score=0.1),
        Run(seed=2, score=0.2),
        Run(seed=2, score=0.2),
        Run(seed=4, score=0.4),
    ],
    studies=[
        ServedStudy(
            name=STUDY,
            job_state=TrainJobState.SUCCEEDED,
            budget_trials=4,
            completed=3,
            errored=1,
            cancelled=0,
        )
    ],
    trials=[
        trial(1, token="k1", attempt=1, score=0.1),
        trial(2, token="k3", attempt=2, score=0.2),
        trial(3, token="", attempt=3, score=None),
        trial(4, token="k7", attempt=1, score=0.4),
    ],
    events=events([1, 2, 3, 4]),
)


def with_trial(number: int, **changes: object) -> Evidence:
    """As RIGHT, but for one trial on the server."""
    trials = [
        replace(trial, **changes) if trial.number == number else trial  # type: ignore[arg-type]
        for trial in RIGHT.trials
    ]
    return replace(RIGHT, trials=trials)


def with_study(**changes: object) -> Evidence:
    """As RIGHT, but for the study."""
    return replace(RIGHT, studies=[replace(RIGHT.studies[0], **changes)])  # type: ignore[arg-type]


def with_reports(*more: Report) -> Evidence:
    """As RIGHT, with more in the ledgers."""
    return replace(RIGHT, reports=[*RIGHT.reports, *more])


def without_trial(number: int) -> Evidence:
    """As RIGHT, without a trial on the server."""
    return replace(RIGHT, trials=[trial for trial in RIGHT.trials if trial.number != number])


def test_nothing_is_said_of_what_is_right() -> None:
    assert check(RIGHT) == []


DOCTORED: dict[str, tuple[Callable[[], Evidence], str]] = {
    "an acknowledged trial is gone": (lambda: without_trial(1), "is not there"),
    "another score": (lambda: with_trial(1, score=0.3), "was acknowledged 0.1"),
    "a score a bit off": (lambda: with_trial(1, score=0.1 + 2e-17), "was acknowledged 0.1"),
    "an acknowledged trial waits": (
        lambda: with_trial(1, state=TrialState.PENDING),
        "is PENDING",
    ),
    "an acknowledged trial errored": (
        lambda: with_trial(
            1, state=TrialState.ERRORED, error_kind=TrialErrorKind.WORKER_LOST, attempt=3
        ),
        "is ERRORED",
    ),
    "another lease": (lambda: with_trial(1, token="k9"), "was acknowledged under k1"),
    "acknowledged to two": (
        lambda: with_reports(
            report(1, Moment.REPORTING, "k9", 0.1), report(1, Moment.ACKNOWLEDGED, "k9", 0.1)
        ),
        "acknowledged to 2 attempts",
    ),
    "an acknowledged error without another attempt": (
        lambda: with_reports(
            report(1, Moment.REPORTING, "k9", None), report(1, Moment.ACKNOWLEDGED, "k9", None)
        ),
        "which never came",
    ),
    "a result that nobody reported": (
        lambda: replace(RIGHT, reports=RIGHT.reports[:-1]),
        "nobody reported 0.4",
    ),
    "an error that nobody reported": (
        lambda: with_trial(3, error_kind=TrialErrorKind.ENVIRONMENT),
        "nobody reported the error",
    ),
    "a cancelled trial": (lambda: with_trial(3, state=TrialState.CANCELLED), "is cancelled"),
    "a trial that runs for ever": (
        lambda: with_trial(3, state=TrialState.RUNNING),
        "has not ended",
    ),
    "a score that no template computed": (
        lambda: replace(RIGHT, runs=[*RIGHT.runs[:-1], Run(seed=5, score=0.4)]),
        "its template computed",
    ),
    "different scores of one trial": (
        lambda: replace(RIGHT, runs=[*RIGHT.runs, Run(seed=2, score=0.3)]),
        "different scores",
    ),
    "a fourth attempt": (lambda: with_trial(3, attempt=4), "attempt 4"),
    "more attempts told than counted": (lambda: with_trial(2, attempt=1), "of which 2 told"),
    "given up too early": (lambda: with_trial(3, attempt=2), "given up after 2"),
    "a job that failed": (lambda: with_study(job_state=TrainJobState.FAILED), "is FAILED"),
    "a job that runs": (lambda: with_study(job_state=TrainJobState.RUNNING), "is RUNNING"),
    "a trial too few": (lambda: with_study(budget_trials=5), "4 trials of 5"),
    "a trial too many": (lambda: with_study(budget_trials=3), "4 trials of 3"),
    "a wrong count": (lambda: with_study(completed=4), "counts 4 trials COMPLETED"),
    "a number left out": (
        lambda: with_trial(4, name=name(5)),
        "do not follow one another",
    ),
    "a trial listed twice": (
        lambda: replace(RIGHT, trials=[*RIGHT.trials, RIGHT.trials[0]]),
        "lists a trial twice",
    ),
    "a study that is not there": (lambda: replace(RIGHT, studies=[]), "is not there"),
    "a gap in the log": (
        lambda: replace(RIGHT, events=[e for e in RIGHT.events if e.sequence != 4]),
        "has gaps",
    ),
    "proposed twice": (
        lambda: replace(
            RIGHT,
            events=[*RIGHT.events, LoggedEvent(study=STUDY, sequence=9, kind="PROPOSED", trial=4)],
        ),
        "did not propose",
    ),
    "ended twice": (
        lambda: replace(
            RIGHT,
            events=[*RIGHT.events, LoggedEvent(study=STUDY, sequence=9, kind="ENDED", trial=4)],
        ),
        "did not note the end",
    ),
    "ended before it was proposed": (
        lambda: replace(
            RIGHT,
            events=[
                replace(event, sequence={1: 2, 2: 1}.get(event.sequence, event.sequence))
                for event in RIGHT.events
            ],
        ),
        "ended before",
    ),
    "no log": (lambda: replace(RIGHT, events=[]), "has no log"),
    "nothing at all": (
        lambda: Evidence(reports=[], runs=[], studies=[], trials=[], events=[]),
        "no result was acknowledged",
    ),
}


@pytest.mark.parametrize("case", DOCTORED)
def test_what_is_wrong_is_said(case: str) -> None:
    doctored, said = DOCTORED[case]
    complaints = check(doctored())
    assert any(said in complaint for complaint in complaints), complaints
