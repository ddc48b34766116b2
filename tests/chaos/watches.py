"""People who follow jobs through a storm: at the end they must know all that the server knows."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from tests.chaos.check import ServedTrial

from rafiki.client import Client
from rafiki.client.errors import RafikiError
from rafiki.resources import TrainJob, Trial, TrialState

# How long the rest of the news may take once a job has ended.
JOIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What somebody knows who has followed a job: state and score of each trial by name.

    `error` is why the watch ended before the job did, if so.
    """

    job: str
    is_ended: bool
    trials: Mapping[str, tuple[TrialState, float | None]]
    error: str = ""


class Watch:
    """Follows one job in a thread of its own, from its creation to its end."""

    def __init__(self, client: Client, job: str) -> None:
        self._client = client
        self._job = job
        self._is_ended = False
        self._trials: dict[str, tuple[TrialState, float | None]] = {}
        self._error = ""
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def seen(self) -> Seen:
        """What it knows, once the news have ended."""
        self._thread.join(JOIN_S)
        late = "the news do not end" if self._thread.is_alive() else ""
        return Seen(
            job=self._job,
            is_ended=self._is_ended,
            trials=dict(self._trials),
            error=self._error or late,
        )

    def _run(self) -> None:
        try:
            for news in self._client.watch_train_job(self._job):
                if isinstance(news, Trial):
                    self._trials[news.name] = (news.state, news.score)
                elif isinstance(news, TrainJob):
                    self._is_ended = news.state.is_end
        except RafikiError as error:
            self._error = str(error)


def check_watches(watches: Iterable[Seen], trials: Iterable[ServedTrial]) -> Iterator[str]:
    """Whether each has learned of the end of its job and of all its trials, as they are."""
    known = {seen.job: seen for seen in watches}
    for seen in known.values():
        if seen.error:
            yield f"the watch of {seen.job} failed: {seen.error}"
        elif not seen.is_ended:
            yield f"the watch of {seen.job} did not learn of its end"
    for trial in trials:
        watched = known.get(trial.name.partition("/studies/")[0])
        if watched is None or watched.error:
            continue
        last = watched.trials.get(trial.name)
        if last is None:
            yield f"the watch of {watched.job} missed {trial.name}"
        elif last != (trial.state, trial.score):
            yield f"the watch saw {trial.name} {last} at last, and it is {trial.state}"
