"""Train jobs: checked, created, paused, resumed and stopped."""

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection

from rafiki.model.knobs import KnobConfig
from rafiki.resources import (
    AdvisorSettings,
    Dataset,
    EndReason,
    Model,
    Study,
    StudySpec,
    TrainJob,
    TrainJobState,
)
from rafiki.server.domain.advisor import Advisor, AdvisorConfig
from rafiki.server.domain.clock import Clock
from rafiki.server.domain.errors import (
    InvalidArgument,
    InvalidState,
    ResourceNotFound,
    TaskMismatch,
)
from rafiki.server.domain.names import DatasetName, JobName, ModelName, StudyName, new_id
from rafiki.server.domain.requests import RequestKey
from rafiki.server.domain.seeds import derive_seed
from rafiki.server.domain.studies import StudyFacts, batch_size, has_probe
from rafiki.server.service.running_jobs import RunningJobs
from rafiki.server.service.signals import Signals
from rafiki.server.store.changes import add_job_change, add_study_change
from rafiki.server.store.database import Database
from rafiki.server.store.datasets import find_dataset
from rafiki.server.store.jobs import (
    ask_to_stop,
    budget_times,
    find_job,
    insert_job,
    job_state,
    next_app_version,
    pause_job,
    resume_job,
)
from rafiki.server.store.models import find_model
from rafiki.server.store.request_ids import find_answer, record_answer
from rafiki.server.store.studies import insert_study

logger = logging.getLogger(__name__)

_CREATE = "CreateTrainJob"
# Stands for the id of a job that has none yet.
_NO_ID = "00000000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Schemes:
    """The search schemes, as `rafiki.server.advisors` has them."""

    resolve_settings: Callable[..., AdvisorSettings]
    check_budget: Callable[[AdvisorConfig], None]
    create_advisor: Callable[[AdvisorConfig], Advisor]


@dataclass(frozen=True, slots=True)
class _Draft:
    study: Study
    batch_size: int
    has_probe: bool


class JobService:
    """Creates and steers train jobs. Thread-safe."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        signals: Signals,
        schemes: Schemes,
        jobs: RunningJobs,
    ) -> None:
        self._database = database
        self._clock = clock
        self._signals = signals
        self._schemes = schemes
        self._jobs = jobs

    def create(
        self,
        job: TrainJob,
        *,
        owner: str,
        request: RequestKey,
        validate_only: bool,
        check: Callable[[TrainJob, Sequence[Study]], None],
    ) -> tuple[str, TrainJob, list[Study]]:
        """Creates a job and starts it; or only checks and plans it.

        `check` is called with what would be created, before it is, and may raise.

        Returns:
            The id of the job ("" if only checked), and, if only checked, what would be
            created.

        Raises:
            ResourceNotFound: A model or data set does not exist.
            TaskMismatch, UnsupportedAdvisor, InfeasibleBudget, InvalidArgument: The job
                cannot run as asked for.
            RequestIdReused: The request id was used for something else.
        """
        with self._database.read() as connection:
            earlier = find_answer(connection, owner=owner, method=_CREATE, request=request)
            if earlier is None:
                self._check_datasets(connection, job)
                models = [self._model(connection, job, n) for n in range(len(job.studies))]
        if earlier is not None and not validate_only:
            return JobName.parse(earlier).job, job, []
        if earlier is not None:
            raise InvalidArgument([("request_id", "was used to create; leave it empty to check")])
        seed = secrets.randbelow(2**32) if job.seed is None else job.seed
        drafts = [
            self._draft(job, seed, number, model) for number, model in enumerate(models, start=1)
        ]
        job = replace(
            job,
            name="",
            studies=tuple(draft.study.spec for draft in drafts),
            seed=seed,
            owner=owner,
            state=TrainJobState.RUNNING,
            app_version=0,
            best_trial="",
            create_time=None,
            end_time=None,
            workers=0,
            waiting_for="",
            time_used=None,
        )
        check(job, [draft.study for draft in drafts])
        if validate_only:
            return "", job, [replace(draft.study, name="") for draft in drafts]
        return self._store(job, drafts, request), job, []

    def pause(self, name: JobName) -> None:
        """Has a job pause: once this returns, nothing is assigned until it is resumed.

        Raises:
            ResourceNotFound: There is no such job.
            InvalidState: It is stopping or has ended.
        """
        self._turn_to(name, TrainJobState.PAUSED, pause_job)

    def resume(self, name: JobName) -> None:
        """Undoes `pause`. Raises as it does."""
        self._turn_to(name, TrainJobState.RUNNING, resume_job)

    def stop(self, name: JobName) -> None:
        """Has a job stop; nothing happens if it has ended. Raises ResourceNotFound."""
        with self._jobs.changing(name.job), self._database.write() as connection:
            if find_job(connection, name.job) is None:
                raise ResourceNotFound(str(name))
            if ask_to_stop(connection, name.job):
                add_job_change(connection, name.job, self._clock())
                logger.info("job stopping job=%s", name)
        # Also when it was STOPPING already: then this does what was left to do.
        self._signals.job_changed(name.job)
        self._jobs.stop(name.job, EndReason.STOPPED)

    def _turn_to(
        self,
        name: JobName,
        state: TrainJobState,
        turn: Callable[[Connection, str, datetime], bool],
    ) -> None:
        with self._database.read() as connection:
            job = find_job(connection, name.job)
        if job is None:
            raise ResourceNotFound(str(name))
        if job.state.is_end:
            raise InvalidState(str(name), job.state)
        budget = self._jobs.budget(name.job)
        with budget.turn:
            with self._jobs.changing(name.job), self._database.write() as connection:
                now = self._clock()
                is_turned = turn(connection, name.job, now)
                current = job_state(connection, name.job)
                if current is not state:
                    raise InvalidState(str(name), current)
                if is_turned:
                    add_job_change(connection, name.job, now)
                times = budget_times(connection, name.job)
            budget.times = times
        if not is_turned:
            return
        logger.info("job turned job=%s state=%s", name, state)
        self._signals.job_changed(name.job)
        for runner in self._jobs.of_job(name.job):
            self._signals.study_moved(runner.facts.name)

    def _store(self, job: TrainJob, drafts: list[_Draft], request: RequestKey) -> str:
        owner = job.owner
        with self._database.read() as connection:
            job_id = new_id()
            while find_job(connection, job_id) is not None:
                job_id = new_id()
        with self._jobs.changing(job_id), self._database.write() as connection:
            earlier = find_answer(connection, owner=owner, method=_CREATE, request=request)
            if earlier is not None:
                return JobName.parse(earlier).job
            now = self._clock()
            name = str(JobName(job_id))
            version = next_app_version(connection, owner, job.app)
            stored = replace(job, name=name, app_version=version, create_time=now)
            assert job.seed is not None
            insert_job(connection, stored, seed=job.seed)
            add_job_change(connection, job_id, now)
            for number, draft in enumerate(drafts, start=1):
                study = StudyName(job_id, number)
                insert_study(
                    connection,
                    replace(draft.study, name=str(study)),
                    batch_size=draft.batch_size,
                    has_probe=draft.has_probe,
                )
                add_study_change(connection, study, now)
            record_answer(
                connection,
                owner=owner,
                method=_CREATE,
                request=request,
                resource=name,
                time=now,
            )
        logger.info("job created job=%s app=%s studies=%d", name, job.app, len(drafts))
        self._jobs.start(job_id)
        self._signals.job_changed(job_id)
        return job_id

    def _draft(self, job: TrainJob, seed: int, number: int, model: Model | None) -> _Draft:
        spec = job.studies[number - 1]
        knob_config = _knob_config(spec, model)
        subject = spec.model or f"study {number}"
        settings = self._schemes.resolve_settings(spec.advisor, knob_config, subject=subject)
        size = batch_size(
            knob_config,
            settings,
            takes_batches=model is not None and model.candidate_batches,
            candidate_batch_size=spec.candidate_batch_size if model is None else None,
        )
        probes = has_probe(settings, is_external=model is None)
        budget = job.budget
        config = StudyFacts(
            name=StudyName(_NO_ID, number),
            knob_config=knob_config,
            settings=settings,
            direction=job.direction,
            seed=derive_seed(seed, "study", number),
            batch_size=size,
            has_probe=probes,
            time_s=budget.time.total_seconds() if budget.time else None,
            model_trial_count=budget.model_trial_count or None,
        ).advisor_config()
        config = replace(config, study=subject)
        self._schemes.check_budget(config)
        advisor = self._schemes.create_advisor(config)
        study = Study(
            name="",
            spec=replace(spec, advisor=settings),
            knob_config=knob_config,
            phase=advisor.phase(),
            plan=advisor.plan(0.0),
        )
        return _Draft(study, size, probes)

    def _check_datasets(self, connection: Connection, job: TrainJob) -> None:
        for field in ("train_dataset", "validation_dataset", "test_dataset"):
            name = getattr(job, field)
            if name:
                dataset = self._dataset(connection, name, f"train_job.{field}")
                if dataset.task != job.task:
                    raise TaskMismatch(name, job.task, dataset.task)
            elif field != "test_dataset" and any(spec.model for spec in job.studies):
                rule = "must be set: only a job without models may have no data"
                raise InvalidArgument([(f"train_job.{field}", rule)])

    def _dataset(self, connection: Connection, name: str, field: str) -> Dataset:
        dataset = find_dataset(connection, DatasetName.parse(name, field))
        if dataset is None:
            raise ResourceNotFound(name)
        return dataset

    def _model(self, connection: Connection, job: TrainJob, index: int) -> Model | None:
        spec, field = job.studies[index], f"train_job.studies[{index}]"
        if not spec.model:
            return None
        model = find_model(connection, ModelName.parse(spec.model, f"{field}.model"))
        if model is None:
            raise ResourceNotFound(spec.model)
        if model.task != job.task:
            raise TaskMismatch(spec.model, job.task, model.task)
        if spec.candidate_batch_size:
            rule = "is for external studies; a model says itself whether it takes batches"
            raise InvalidArgument([(f"{field}.candidate_batch_size", rule)])
        return model


def _knob_config(spec: StudySpec, model: Model | None) -> KnobConfig:
    if model is not None:
        return model.knob_config
    assert spec.knob_config is not None
    return spec.knob_config
