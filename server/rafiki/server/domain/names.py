"""Resource names: parsed and built here and nowhere else.

A `*_id` is one component, a `*_name` the whole path. `str(name)` builds the path.

    users/{user}
    models/{8 hex digits}
    datasets/{8 hex digits}
    trainJobs/{8 hex digits}
    trainJobs/{train_job}/studies/{number}
    trainJobs/{train_job}/studies/{study}/trials/{number}
    trainJobs/{train_job}/studies/{study}/checkpoints/{trial}-{attempt}
"""

import re
import secrets
from dataclasses import dataclass
from typing import ClassVar, Self

from rafiki.server.domain.errors import InvalidArgument

_ID = r"[0-9a-f]{8}"
_NUMBER = r"[1-9][0-9]{0,8}"
_NUMBER_OR_0 = rf"0|{_NUMBER}"


def new_id() -> str:
    """A random id of 8 hexadecimal digits."""
    return secrets.token_hex(4)


@dataclass(frozen=True, slots=True)
class _Name:
    form: ClassVar[str]
    pattern: ClassVar[re.Pattern[str]]

    @classmethod
    def parse(cls, text: str, field: str = "name") -> Self:
        """Parses a name that came in `field`.

        Raises:
            InvalidArgument: It does not have the form of this class.
        """
        match = cls.pattern.fullmatch(text)
        if match is None:
            raise InvalidArgument([(field, _wrong_form(text, cls.form))])
        return cls._build(match)

    @classmethod
    def _build(cls, match: re.Match[str]) -> Self:
        parts = [int(p) if _is_number(k) else p for k, p in match.groupdict().items()]
        return cls(*parts)


def _is_number(group: str) -> bool:
    return group in ("study", "trial", "attempt")


def _wrong_form(text: str, form: str) -> str:
    if not text:
        return f"must be set; its form is {form}"
    shown = text if len(text) <= 200 else text[:200] + "..."
    return f"{shown!r} does not have the form {form}"


@dataclass(frozen=True, slots=True)
class UserName(_Name):
    """Who owns resources and makes calls."""

    form = "users/{user}"
    pattern = re.compile(r"users/(?P<user>[a-z][a-z0-9-]{0,62})")
    user: str

    def __str__(self) -> str:
        return f"users/{self.user}"


@dataclass(frozen=True, slots=True)
class ModelName(_Name):
    """A model template."""

    form = "models/{model}"
    pattern = re.compile(rf"models/(?P<model>{_ID})")
    model: str

    def __str__(self) -> str:
        return f"models/{self.model}"


@dataclass(frozen=True, slots=True)
class DatasetName(_Name):
    """A data set."""

    form = "datasets/{dataset}"
    pattern = re.compile(rf"datasets/(?P<dataset>{_ID})")
    dataset: str

    def __str__(self) -> str:
        return f"datasets/{self.dataset}"


@dataclass(frozen=True, slots=True)
class JobName(_Name):
    """A train job."""

    form = "trainJobs/{train_job}"
    pattern = re.compile(rf"trainJobs/(?P<job>{_ID})")
    job: str

    def __str__(self) -> str:
        return f"trainJobs/{self.job}"


@dataclass(frozen=True, slots=True, order=True)
class StudyName(_Name):
    """A study of a train job, by its number from 1 in the order of the specs."""

    form = "trainJobs/{train_job}/studies/{study}"
    pattern = re.compile(rf"trainJobs/(?P<job>{_ID})/studies/(?P<study>{_NUMBER})")
    job: str
    study: int

    @property
    def parent(self) -> JobName:
        """The job of the study."""
        return JobName(self.job)

    def __str__(self) -> str:
        return f"trainJobs/{self.job}/studies/{self.study}"


@dataclass(frozen=True, slots=True, order=True)
class TrialName(_Name):
    """A trial, by its number from 1 in its study."""

    form = "trainJobs/{train_job}/studies/{study}/trials/{trial}"
    pattern = re.compile(
        rf"trainJobs/(?P<job>{_ID})/studies/(?P<study>{_NUMBER})/trials/(?P<trial>{_NUMBER})"
    )
    job: str
    study: int
    trial: int

    @property
    def parent(self) -> StudyName:
        """The study of the trial."""
        return StudyName(self.job, self.study)

    def __str__(self) -> str:
        return f"{self.parent}/trials/{self.trial}"


@dataclass(frozen=True, slots=True, order=True)
class CheckpointName(_Name):
    """What an attempt of a trial saved.

    Attempt 0 is the server's: it merged what the shards of a round saved, of which `trial`
    is the last that ended.
    """

    form = "trainJobs/{train_job}/studies/{study}/checkpoints/{checkpoint}"
    pattern = re.compile(
        rf"trainJobs/(?P<job>{_ID})/studies/(?P<study>{_NUMBER})"
        rf"/checkpoints/(?P<trial>{_NUMBER})-(?P<attempt>{_NUMBER_OR_0})"
    )
    job: str
    study: int
    trial: int
    attempt: int

    @property
    def parent(self) -> StudyName:
        """The study of the checkpoint."""
        return StudyName(self.job, self.study)

    @property
    def checkpoint_id(self) -> str:
        """The last component."""
        return f"{self.trial}-{self.attempt}"

    def __str__(self) -> str:
        return f"{self.parent}/checkpoints/{self.checkpoint_id}"


def parse_study_or_all(text: str, field: str = "parent") -> StudyName | JobName:
    """Parses the name of a study, where `-` as study means all: then the name of the job.

    Raises:
        InvalidArgument: It has neither form.
    """
    if text.endswith("/studies/-"):
        job = JobName.pattern.fullmatch(text.removesuffix("/studies/-"))
        if job is not None:
            return JobName(job["job"])
    match = StudyName.pattern.fullmatch(text)
    if match is None:
        form = f"{StudyName.form}, with - as study for all"
        raise InvalidArgument([(field, _wrong_form(text, form))])
    return StudyName(match["job"], int(match["study"]))
