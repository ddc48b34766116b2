"""Resource names from what people type.

A full name is always understood. Short forms leave out what is clear from the context:

    a1b2c3d4                 a model, data set or train job, by its id
    a1b2c3d4/1               a study of a job, by its number
    a1b2c3d4/1/3             a trial of a study of a job
    3 with a job             a trial of the job's only (first) study
    2/3 with a job           a trial of its second study
"""

import re

_ID = re.compile(r"[0-9a-f]{8}")
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_STUDY = re.compile(r"trainJobs/[0-9a-f]{8}/studies/[1-9][0-9]{0,8}")
_TRIAL = re.compile(_STUDY.pattern + r"/trials/[1-9][0-9]{0,8}")
_CHECKPOINT = re.compile(_STUDY.pattern + r"/checkpoints/[1-9][0-9]*-(0|[1-9][0-9]*)")


class InvalidName(ValueError):
    """What was typed names nothing; the message says what would."""


def model_name(text: str) -> str:
    """`models/{id}` for a full name or an id."""
    return _top("models", "model", text)


def dataset_name(text: str) -> str:
    """`datasets/{id}` for a full name or an id."""
    return _top("datasets", "data set", text)


def job_name(text: str) -> str:
    """`trainJobs/{id}` for a full name or an id."""
    return _top("trainJobs", "job", text)


def study_name(text: str, job: str = "") -> str:
    """The full name of a study; `job` (in any form) is the job of a bare number."""
    if _STUDY.fullmatch(text):
        return text
    parts = text.split("/")
    if len(parts) == 2 and _ID.fullmatch(parts[0]) and _NUMBER.fullmatch(parts[1]):
        return f"trainJobs/{parts[0]}/studies/{parts[1]}"
    if len(parts) == 1 and _NUMBER.fullmatch(text) and job:
        return f"{job_name(job)}/studies/{text}"
    raise InvalidName(f"{text!r} is no study; studies are written like a1b2c3d4/1")


def trial_name(text: str, job: str = "") -> str:
    """The full name of a trial; `job` (in any form) is the job of `3` and `2/3`."""
    if _TRIAL.fullmatch(text):
        return text
    parts = text.split("/")
    if all(_NUMBER.fullmatch(part) for part in parts) and job and len(parts) <= 2:
        study, trial = ["1", *parts][-2:]
        return f"{job_name(job)}/studies/{study}/trials/{trial}"
    if len(parts) == 3 and _ID.fullmatch(parts[0]) and all(map(_NUMBER.fullmatch, parts[1:])):
        return f"trainJobs/{parts[0]}/studies/{parts[1]}/trials/{parts[2]}"
    raise InvalidName(
        f"{text!r} is no trial; write its number with --job, or a1b2c3d4/1/3 (job/study/trial)"
    )


def checkpoint_name(text: str) -> str:
    """The full name of a checkpoint, from that or a1b2c3d4/1/7-1; "" if `text` is none."""
    if _CHECKPOINT.fullmatch(text):
        return text
    parts = text.split("/")
    if len(parts) != 3:
        return ""
    name = f"trainJobs/{parts[0]}/studies/{parts[1]}/checkpoints/{parts[2]}"
    return name if _CHECKPOINT.fullmatch(name) else ""


def study_of(name: str) -> str:
    """The study of a full trial or checkpoint name."""
    return name.rsplit("/", 2)[0]


def job_of(name: str) -> str:
    """The job of a full study, trial or checkpoint name."""
    return "/".join(name.split("/")[:2])


def short(name: str) -> str:
    """The short form of any full name: what the functions above read."""
    parts = name.split("/")
    return "/".join(parts[1::2])


def _top(collection: str, noun: str, text: str) -> str:
    head, _, tail = text.rpartition("/")
    if _ID.fullmatch(tail) and head in ("", collection):
        return f"{collection}/{tail}"
    raise InvalidName(f"{text!r} is no {noun}; {noun}s are named like a1b2c3d4")
