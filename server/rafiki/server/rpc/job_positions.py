"""Where lists of JobService go on: what page tokens hold of the last item of a page."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from rafiki.resources import Study, StudyRound, TrainJob, Trial, TrialLog, TrialMetrics, TrialPlot
from rafiki.server.domain.names import JobName, StudyName, TrialName
from rafiki.server.domain.studies import DEPLOYABLE_PHASES

_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_MICROSECOND = timedelta(microseconds=1)


def job_position(job: TrainJob) -> tuple[int, str]:
    """By time of creation, then id."""
    assert job.create_time is not None
    return (job.create_time - _EPOCH) // _MICROSECOND, JobName.parse(job.name).job


def study_position(study: Study) -> tuple[int]:
    """By number."""
    return (StudyName.parse(study.name).study,)


def round_position(item: StudyRound) -> tuple[int]:
    """By number."""
    return (item.round,)


def trial_position(trial: Trial) -> tuple[int, int]:
    """By study, then number."""
    name = TrialName.parse(trial.name)
    return name.study, name.trial


def scored_position(trial: Trial) -> tuple[str, int, int]:
    """By score, in hexadecimal ("" for none), then study and number."""
    return "" if trial.score is None else trial.score.hex(), *trial_position(trial)


def best_position(trial: Trial) -> tuple[int, str, int, int]:
    """By the rank of the phase, then as `scored_position`."""
    return DEPLOYABLE_PHASES.index(trial.phase), *scored_position(trial)


def entry_position(entry: TrialLog | TrialMetrics) -> tuple[int, int]:
    """By attempt, then sequence."""
    return entry.attempt, entry.sequence


def plot_position(plot: TrialPlot) -> tuple[str]:
    """By title."""
    return (plot.title,)


def score_from(part: int | str) -> float | None:
    """The score in a position."""
    return float.fromhex(str(part)) if part else None


def two_ints(parts: Sequence[int | str]) -> tuple[int, int]:
    """Two integers of a position."""
    first, second = parts
    return int(first), int(second)


def job_key_from(parts: Sequence[int | str]) -> tuple[datetime, str]:
    """The reverse of `job_position`."""
    microseconds, job_id = parts
    return _EPOCH + int(microseconds) * _MICROSECOND, str(job_id)
