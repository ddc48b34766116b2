"""The closed sets of values in the API, by the names they have in the protos.

Each class is the proto enum of the same name without its prefix and its UNSPECIFIED
value; `rafiki.wire.enums` proves the match.
"""

from enum import StrEnum


class Direction(StrEnum):
    """Which scores are better."""

    MAXIMIZE = "MAXIMIZE"
    MINIMIZE = "MINIMIZE"


class TrialPhase(StrEnum):
    """What a trial is for. Scores of different phases are never compared."""

    PROBE = "PROBE"
    TUNE = "TUNE"
    SEARCH_TRAIN = "SEARCH_TRAIN"
    SEARCH_EVAL = "SEARCH_EVAL"
    FINAL_EVAL = "FINAL_EVAL"
    FINAL_TRAIN = "FINAL_TRAIN"


class TrialState(StrEnum):
    """The life of a trial: PENDING, RUNNING (back to PENDING if a lease is lost), an end."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    ERRORED = "ERRORED"
    CANCELLED = "CANCELLED"

    @property
    def is_end(self) -> bool:
        """Whether a trial in this state never changes again."""
        return self in (TrialState.COMPLETED, TrialState.ERRORED, TrialState.CANCELLED)


class StopReason(StrEnum):
    """Why the server told a trial to stop."""

    EARLY_STOPPED = "EARLY_STOPPED"
    JOB_ENDED = "JOB_ENDED"
    SUPERSEDED = "SUPERSEDED"


class TrialErrorKind(StrEnum):
    """The kinds of failure of a trial, which decide whether it is tried again."""

    MODEL_EXCEPTION = "MODEL_EXCEPTION"
    INFEASIBLE = "INFEASIBLE"
    NON_FINITE_SCORE = "NON_FINITE_SCORE"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    ENVIRONMENT = "ENVIRONMENT"
    CRASHED = "CRASHED"
    WORKER_LOST = "WORKER_LOST"

    @property
    def is_retried(self) -> bool:
        """Whether another attempt may end differently."""
        return self in (
            TrialErrorKind.OUT_OF_MEMORY,
            TrialErrorKind.ENVIRONMENT,
            TrialErrorKind.CRASHED,
            TrialErrorKind.WORKER_LOST,
        )


class LogLevel(StrEnum):
    """How much a log line matters, least first."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


class StudyState(StrEnum):
    """The life of a study: RUNNING, then one of the others for good."""

    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"


class EndReason(StrEnum):
    """Which limit ended a study."""

    TIME = "TIME"
    TRIAL_COUNT = "TRIAL_COUNT"
    GOAL_REACHED = "GOAL_REACHED"
    SEARCH_COMPLETE = "SEARCH_COMPLETE"
    STOPPED = "STOPPED"
    TOO_MANY_ERRORS = "TOO_MANY_ERRORS"
    INFEASIBLE_BUDGET = "INFEASIBLE_BUDGET"


class TrainJobState(StrEnum):
    """The life of a train job: RUNNING, perhaps PAUSED or STOPPING, then an end."""

    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPING = "STOPPING"
    SUCCEEDED = "SUCCEEDED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"

    @property
    def is_end(self) -> bool:
        """Whether a job in this state never changes again."""
        return self in (TrainJobState.SUCCEEDED, TrainJobState.STOPPED, TrainJobState.FAILED)


class AdvisorKind(StrEnum):
    """The search strategies."""

    FIXED = "FIXED"
    RANDOM = "RANDOM"
    BAYES_OPT = "BAYES_OPT"
    BAYES_OPT_PARAM_SHARING = "BAYES_OPT_PARAM_SHARING"
    ENAS = "ENAS"
    EVOLUTION = "EVOLUTION"
    REINFORCE = "REINFORCE"


class EarlyStoppingRule(StrEnum):
    """The rules by which running trials are ended."""

    MEDIAN = "MEDIAN"
    ASHA = "ASHA"


class EnasPreset(StrEnum):
    """Where the constants of `EnasOptions` come from."""

    DEFAULT = "DEFAULT"
    PAPER_MICRO = "PAPER_MICRO"
    PAPER_MACRO = "PAPER_MACRO"
    PAPER_RNN = "PAPER_RNN"


class TrialOrder(StrEnum):
    """The order of listed trials."""

    PROPOSED = "PROPOSED"
    SCORE = "SCORE"


class Platform(StrEnum):
    """The families of devices."""

    CPU = "CPU"
    GPU = "GPU"
    TPU = "TPU"


class DrainReason(StrEnum):
    """Why a session gets no more trials."""

    SERVER_SHUTDOWN = "SERVER_SHUTDOWN"
    NO_WORK = "NO_WORK"
