"""The jobs that have not ended, each with a runner per study that has not."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import Connection

from rafiki.resources import (
    Dataset,
    EndReason,
    Model,
    StudySpec,
    StudyState,
    TrainJob,
    TrainJobState,
    Trial,
    TrialTimings,
)
from rafiki.server.domain.budget_clock import BudgetClock
from rafiki.server.domain.errors import StorageError
from rafiki.server.domain.leases import Lease
from rafiki.server.domain.names import DatasetName, ModelName, StudyName, TrialName
from rafiki.server.domain.outcomes import Outcome
from rafiki.server.domain.seeds import derive_seed
from rafiki.server.domain.studies import StudyFacts
from rafiki.server.service.repeats import recorded_outcome
from rafiki.server.service.study_runner import StudyRunner
from rafiki.server.service.surroundings import Surroundings
from rafiki.server.store.datasets import find_dataset
from rafiki.server.store.jobs import budget_times, find_job, job_state, unfinished_jobs
from rafiki.server.store.models import find_model
from rafiki.server.store.studies import StoredStudy, studies_of
from rafiki.server.store.trials import find_trial

logger = logging.getLogger(__name__)


class RunningJobs:
    """Starts runners, finds them, and lets them go once their studies have ended.

    Thread-safe: the lock guards the dictionaries only, never a step of a runner.

    Args:
        surroundings: What the studies run in.
        make_runner: Called with the arguments of StudyRunner.
    """

    def __init__(
        self, surroundings: Surroundings, make_runner: Callable[..., StudyRunner] = StudyRunner
    ) -> None:
        self._around = surroundings
        self._make_runner = make_runner
        self._lock = threading.Lock()
        self._runners: dict[StudyName, StudyRunner] = {}
        self._budgets: dict[str, BudgetClock] = {}
        self._unsettled: set[str] = set()  # jobs of which memory may differ from the database

    def restore(self) -> None:
        """Starts the runners of all jobs that had not ended when the server did."""
        with self._around.database.read() as connection:
            job_ids = unfinished_jobs(connection)
        for job_id in job_ids:
            self.start(job_id)
        if job_ids:
            logger.info("jobs restored jobs=%d studies=%d", len(job_ids), len(self._runners))

    def start(self, job_id: str) -> None:
        """Starts the runners of a job that is stored, those that are not there yet."""
        with self.changing(job_id):
            self._start(job_id)

    @contextmanager
    def changing(self, job_id: str) -> Iterator[None]:
        """Has `settle` look at the job if a change of it fails, or only seems to."""
        try:
            yield
        except StorageError:
            with self._lock:
                self._unsettled.add(job_id)
            raise

    def settle(self) -> None:
        """Does what the database says of jobs whose changes, starts or stops have failed.

        Raises:
            StorageError: The database still fails.
        """
        with self._lock:
            unsettled, self._unsettled = sorted(self._unsettled), set()
        for job_id in unsettled:
            with self.changing(job_id):
                self._settle(job_id)

    def _settle(self, job_id: str) -> None:
        with self._around.database.read() as connection:
            job = find_job(connection, job_id)
        if job is None or job.state.is_end:
            return
        budget = self.budget(job_id)
        with budget.turn, self._around.database.read() as connection:
            budget.times = budget_times(connection, job_id)
        self._start(job_id)

    def find(self, study: StudyName) -> StudyRunner | None:
        """The runner of a study; None if the study has ended or does not exist."""
        return self._runners.get(study)

    def all(self) -> Sequence[StudyRunner]:
        """The runners there are, by the names of their studies."""
        with self._lock:
            return [runner for _, runner in sorted(self._runners.items())]

    def budget(self, job_id: str) -> BudgetClock:
        """The clock of the time budget of a job that has not ended."""
        with self._lock:
            return self._budgets.setdefault(job_id, BudgetClock())

    def time_used(self, job_id: str) -> timedelta | None:
        """How much of its time budget a job that has not ended has used; None before the start."""
        budget = self._budgets.get(job_id)
        if budget is None or budget.times.start is None:
            return None
        return timedelta(seconds=budget.elapsed_s(self._around.clock()))

    def of_job(self, job_id: str) -> Sequence[StudyRunner]:
        """The runners of a job."""
        return [runner for runner in self.all() if runner.facts.name.job == job_id]

    def needed_checkpoints(self) -> dict[StudyName, frozenset[str]]:
        """What the advisor of each study that has not ended may yet need."""
        return {runner.facts.name: runner.needed_checkpoints() for runner in self.all()}

    def forget_ended(self, study: StudyName) -> None:
        """Lets the runner of a study go, if the study has ended."""
        with self._lock:
            runner = self._runners.get(study)
            if runner is not None and runner.is_ended:
                del self._runners[study]
                if not any(name.job == study.job for name in self._runners):
                    self._budgets.pop(study.job, None)

    def complete(
        self, name: TrialName, token: str, outcome: Outcome, timings: TrialTimings | None
    ) -> Trial:
        """Records an outcome. Raises ResourceNotFound, LeaseLost and InvalidArgument."""
        runner = self.find(name.parent)
        if runner is None:
            return recorded_outcome(self._around.database, name, token)
        return runner.complete(name, token, outcome, timings)

    def lose(self, lease: Lease, *, is_handed_back: bool = False) -> None:
        """Takes back the trial of a lease that has been removed from the table."""
        runner = self.find(lease.trial.parent)
        if runner is None:
            self._around.signals.lease_ended(lease)
        else:
            runner.lose(lease, is_handed_back=is_handed_back)

    def stop(self, job_id: str, reason: EndReason) -> None:
        """Has all studies of a job end."""
        with self.changing(job_id):
            for runner in self.of_job(job_id):
                runner.stop(reason)

    def _start(self, job_id: str) -> None:
        with self._around.database.read() as connection:
            job = find_job(connection, job_id)
            assert job is not None
            stored = [s for s in studies_of(connection, job_id) if _is_running(s)]
            facts = [study_facts(connection, job, study) for study in stored]
            ending = _known_ending(connection, job, facts)
        budget = self.budget(job_id)
        for item in facts:
            existing = self.find(item.name)
            if existing is not None:
                if ending is not None:
                    existing.stop(ending)
                continue
            runner = self._make_runner(
                item, budget, self._around, on_goal=lambda: self._reach_goal(job_id), ending=ending
            )
            with self._lock:
                self._runners[item.name] = runner
            self._around.signals.study_moved(item.name)
        # Whoever stopped the job since then has not found the runners.
        with self._around.database.read() as connection:
            is_stopping = job_state(connection, job_id) is TrainJobState.STOPPING
        if is_stopping:
            self.stop(job_id, EndReason.STOPPED)

    def _reach_goal(self, job_id: str) -> None:
        self.stop(job_id, EndReason.GOAL_REACHED)


def study_facts(connection: Connection, job: TrainJob, stored: StoredStudy) -> StudyFacts:
    """What of a stored study never changes."""
    study = stored.study
    name = StudyName.parse(study.name)
    budget = job.budget
    assert job.seed is not None
    return StudyFacts(
        name=name,
        knob_config=study.knob_config,
        settings=study.spec.advisor,
        direction=job.direction,
        seed=derive_seed(job.seed, "study", name.study),
        batch_size=stored.batch_size,
        has_probe=stored.has_probe,
        model=_model(connection, study.spec),
        train_dataset=_dataset(connection, job.train_dataset),
        validation_dataset=_dataset(connection, job.validation_dataset),
        test_dataset=_dataset(connection, job.test_dataset),
        train_args=job.train_args,
        gpu_count=budget.gpu_count,
        time_s=budget.time.total_seconds() if budget.time else None,
        model_trial_count=budget.model_trial_count or None,
        goal_score=job.goal_score,
    )


def _is_running(stored: StoredStudy) -> bool:
    return stored.study.state is StudyState.RUNNING


def _known_ending(
    connection: Connection, job: TrainJob, facts: Sequence[StudyFacts]
) -> EndReason | None:
    if job.state is TrainJobState.STOPPING:
        return EndReason.STOPPED
    if job.best_trial and facts:
        best = find_trial(connection, TrialName.parse(job.best_trial))
        if best is not None and best.trial.score is not None:
            if facts[0].reaches_goal(best.trial.score):
                return EndReason.GOAL_REACHED
    return None


def _model(connection: Connection, spec: StudySpec) -> Model | None:
    return find_model(connection, ModelName.parse(spec.model)) if spec.model else None


def _dataset(connection: Connection, name: str) -> Dataset | None:
    return find_dataset(connection, DatasetName.parse(name)) if name else None
