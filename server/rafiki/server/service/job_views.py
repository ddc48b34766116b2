"""Jobs, studies and trials as people read them: what is stored, and what only memory knows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from rafiki.resources import Study, StudyState, TrainJob, TrainJobState
from rafiki.server.domain.errors import ResourceNotFound
from rafiki.server.domain.leases import LeaseTable
from rafiki.server.domain.names import JobName, StudyName
from rafiki.server.domain.waiting import may_run, waiting_for
from rafiki.server.domain.workers import Worker
from rafiki.server.service.running_jobs import RunningJobs
from rafiki.server.store.jobs import find_job
from rafiki.server.store.studies import StoredStudy, find_study, studies_of


class JobViews:
    """Reads jobs and studies inside transactions of its callers. Thread-safe.

    Args:
        jobs: The jobs that run.
        leases: The leases that are held.
        workers: Answers which workers are connected.
        quarantined: Answers why workers are quarantined, by their ids.
    """

    def __init__(
        self,
        jobs: RunningJobs,
        leases: LeaseTable,
        workers: Callable[[], Sequence[Worker]],
        quarantined: Callable[[], Mapping[str, str]],
    ) -> None:
        self._jobs = jobs
        self._leases = leases
        self._workers = workers
        self._quarantined = quarantined

    def job(self, connection: Connection, job_id: str) -> TrainJob:
        """A job. Raises ResourceNotFound."""
        job = find_job(connection, job_id)
        if job is None:
            raise ResourceNotFound(str(JobName(job_id)))
        return self.with_workers(job)

    def with_workers(self, job: TrainJob) -> TrainJob:
        """A stored job with its workers, what it waits for and the time it has used."""
        if job.state.is_end:
            return job
        job_id = JobName.parse(job.name).job
        studies = [runner.facts for runner in self._jobs.of_job(job_id) if not runner.is_ended]
        workers = self._workers()
        able = [worker for worker in workers if any(may_run(worker, facts) for facts in studies)]
        waiting = ""
        if job.state is not TrainJobState.STOPPING:
            running = self._leases.count_of_job(job_id)
            is_paused = job.state is TrainJobState.PAUSED
            waiting = waiting_for(
                studies, workers, running, quarantined=self._quarantined(), is_paused=is_paused
            )
        time_used = self._jobs.time_used(job_id)
        return replace(job, workers=len(able), waiting_for=waiting, time_used=time_used)

    def study(self, connection: Connection, name: StudyName) -> Study:
        """A study. Raises ResourceNotFound."""
        stored = find_study(connection, name)
        if stored is None:
            raise ResourceNotFound(str(name))
        return self._now(stored)

    def studies(
        self, connection: Connection, job_id: str, *, after: int = 0, most: int = 1000
    ) -> list[Study]:
        """The studies of a job by number, from the one after number `after`."""
        return [self._now(x) for x in studies_of(connection, job_id, after=after, most=most)]

    def _now(self, stored: StoredStudy) -> Study:
        """A study that runs, with the plan as it is now."""
        study = stored.study
        runner = self._jobs.find(StudyName.parse(study.name))
        if study.state is not StudyState.RUNNING or runner is None:
            return study
        view = runner.view()
        return replace(study, phase=view.phase, plan=view.plan, control_arm=view.control_arm)
