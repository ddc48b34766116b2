"""What must hold after a storm: ledgers and server agree, nothing is lost, nothing there twice.

Pure functions over what was gathered; each returns what is wrong, in words.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.chaos.ledger import Moment, Report, Run

from rafiki.resources import TrainJobState, TrialErrorKind, TrialPhase, TrialState

MAX_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedTrial:
    """A trial as the server has it; `token` is that of its latest attempt."""

    name: str
    phase: TrialPhase
    state: TrialState
    attempt: int
    seed: int
    score: float | None = None
    token: str = ""
    error_kind: TrialErrorKind | None = None

    @property
    def study(self) -> str:
        """The name of its study."""
        return self.name.rpartition("/trials/")[0]

    @property
    def number(self) -> int:
        """Its number in the study."""
        return int(self.name.rpartition("/")[2])


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedStudy:
    """A study as the server has it, with the state and the budget of its job."""

    name: str
    job_state: TrainJobState
    budget_trials: int
    completed: int
    errored: int
    cancelled: int
    end_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """A row of the event log of a study."""

    study: str
    sequence: int
    kind: str
    trial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What workers, templates and the server say of the same storm."""

    reports: Sequence[Report]
    runs: Sequence[Run]
    studies: Sequence[ServedStudy]
    trials: Sequence[ServedTrial]
    events: Sequence[LoggedEvent]


def check(evidence: Evidence) -> list[str]:
    """Everything that is wrong; empty if all holds."""
    trials = {trial.name: trial for trial in evidence.trials}
    complaints = [
        *_check_acknowledged(evidence.reports, trials),
        *_check_invented(evidence.reports, evidence.trials),
        *_check_runs(evidence.runs, evidence.trials),
        *_check_attempts(evidence.reports, evidence.trials),
        *_check_studies(evidence.studies, evidence.trials),
        *_check_events(evidence.events, evidence.trials),
    ]
    if len(trials) != len(evidence.trials):
        complaints.append("the server lists a trial twice")
    # Otherwise all of the above would hold of nothing.
    if not any(report.moment is Moment.ACKNOWLEDGED for report in evidence.reports):
        complaints.append("no result was acknowledged at all")
    return complaints


def _check_acknowledged(
    reports: Iterable[Report], trials: Mapping[str, ServedTrial]
) -> Iterator[str]:
    """What a worker was told is stored, is stored: once, and as it was told."""
    tokens: defaultdict[str, set[str]] = defaultdict(set)
    for report in reports:
        if report.moment is not Moment.ACKNOWLEDGED:
            continue
        trial = trials.get(report.trial)
        if trial is None:
            yield f"{report.trial} was acknowledged to {report.worker} and is not there"
            continue
        if not TrialState(report.answered_state).is_end:
            if trial.attempt == 1 or trial.token == report.token:
                yield f"{trial.name} waited for another attempt, which never came"
            continue
        tokens[trial.name].add(report.token)
        if trial.state != report.answered_state:
            yield f"{trial.name} was acknowledged {report.answered_state}, and is {trial.state}"
        if trial.score != report.answered_score:
            yield f"{trial.name} was acknowledged {report.answered_score}, and has {trial.score}"
        if trial.token != report.token:
            yield f"{trial.name} was acknowledged under {report.token}, and has {trial.token}"
    for name, used in tokens.items():
        if len(used) > 1:
            yield f"{name} was acknowledged to {len(used)} attempts"


def _check_invented(reports: Iterable[Report], trials: Iterable[ServedTrial]) -> Iterator[str]:
    """What is stored, some worker reported, under the same lease and with the same score."""
    reported = {(x.trial, x.token, x.outcome, x.score) for x in reports}
    for trial in trials:
        match trial.state:
            case TrialState.COMPLETED:
                if (trial.name, trial.token, "completed", trial.score) not in reported:
                    yield f"nobody reported {trial.score} for {trial.name}"
            case TrialState.ERRORED:
                is_lost = trial.error_kind is TrialErrorKind.WORKER_LOST
                if not is_lost and (trial.name, trial.token, "error", None) not in reported:
                    yield f"nobody reported the error of {trial.name}"
            case TrialState.CANCELLED:
                yield f"{trial.name} is cancelled, which nobody asked for"
            case _:
                yield f"{trial.name} has not ended: {trial.state}"


def _check_runs(runs: Iterable[Run], trials: Iterable[ServedTrial]) -> Iterator[str]:
    """A score is what the template computed, the same in every attempt."""
    scores: defaultdict[int, set[float]] = defaultdict(set)
    for run in runs:
        scores[run.seed].add(run.score)
    for seed, different in scores.items():
        if len(different) > 1:
            yield f"the trial with seed {seed} came to different scores: {sorted(different)}"
    for trial in trials:
        is_scored = trial.state is TrialState.COMPLETED and trial.phase is not TrialPhase.PROBE
        if is_scored and trial.score not in scores[trial.seed]:
            yield f"{trial.name} has {trial.score}, and its template computed {scores[trial.seed]}"


def _check_attempts(reports: Iterable[Report], trials: Iterable[ServedTrial]) -> Iterator[str]:
    tokens: defaultdict[str, set[str]] = defaultdict(set)
    for report in reports:
        tokens[report.trial].add(report.token)
    for trial in trials:
        if not len(tokens[trial.name]) <= trial.attempt <= MAX_ATTEMPTS:
            yield f"{trial.name}: attempt {trial.attempt}, of which {len(tokens[trial.name])} told"
        if trial.error_kind is TrialErrorKind.WORKER_LOST and trial.attempt < MAX_ATTEMPTS:
            yield f"{trial.name} was given up after {trial.attempt} attempts"


def _check_studies(studies: Iterable[ServedStudy], trials: Iterable[ServedTrial]) -> Iterator[str]:
    """Every job has succeeded with as many trials as it may have."""
    by_study: defaultdict[str, list[ServedTrial]] = defaultdict(list)
    for trial in trials:
        by_study[trial.study].append(trial)
    for study in studies:
        own = by_study.pop(study.name, [])
        if study.job_state is not TrainJobState.SUCCEEDED:
            yield f"the job of {study.name} is {study.job_state}: {study.end_reason}"
        if sorted(trial.number for trial in own) != list(range(1, len(own) + 1)):
            yield f"{study.name} has trials with numbers that do not follow one another"
        counted = [trial for trial in own if trial.phase is not TrialPhase.PROBE]
        if len(counted) != study.budget_trials:
            yield f"{study.name} has {len(counted)} trials of {study.budget_trials}"
        states = Counter(trial.state for trial in own)
        for state, count in (
            (TrialState.COMPLETED, study.completed),
            (TrialState.ERRORED, study.errored),
            (TrialState.CANCELLED, study.cancelled),
        ):
            if states[state] != count:
                yield f"{study.name} counts {count} trials {state}, and has {states[state]}"
    for name in by_study:
        yield f"{name} has trials, and is not there"


def _check_events(events: Iterable[LoggedEvent], trials: Iterable[ServedTrial]) -> Iterator[str]:
    """Each trial was proposed once and ended once, in a log without gaps."""
    by_study: defaultdict[str, list[LoggedEvent]] = defaultdict(list)
    for event in events:
        by_study[event.study].append(event)
    expected: defaultdict[str, set[int]] = defaultdict(set)
    for trial in trials:
        expected[trial.study].add(trial.number)
    for study, log in by_study.items():
        log.sort(key=lambda event: event.sequence)
        if [event.sequence for event in log] != list(range(1, len(log) + 1)):
            yield f"the log of {study} has gaps"
        proposed = [event.trial for event in log if event.kind == "PROPOSED"]
        ended = [event.trial for event in log if event.kind == "ENDED"]
        if proposed != sorted(expected[study]):
            yield f"{study} did not propose each of its trials once, in order"
        if sorted(ended) != sorted(expected[study]):
            yield f"{study} did not note the end of each of its trials once"
        first = {(e.kind, e.trial): e.sequence for e in reversed(log)}
        for number in ended:
            if first["ENDED", number] < first.get(("PROPOSED", number), 0):
                yield f"trial {number} of {study} ended before it was proposed"
    for study in expected.keys() - by_study.keys():
        yield f"{study} has no log"
