"""JobService: create, steer and read train jobs, their studies and trials."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

import grpc

from rafiki.resources import (
    LogLevel,
    TrainJob,
    TrainJobState,
    Trial,
    TrialOrder,
    TrialPhase,
    TrialState,
)
from rafiki.server.domain.errors import ServerDraining
from rafiki.server.domain.names import JobName, StudyName, TrialName, parse_study_or_all
from rafiki.server.domain.requests import check_page_size, page_position, request_key
from rafiki.server.rpc.authorization import Role, current_principal
from rafiki.server.rpc.errors import async_statuses, statuses
from rafiki.server.rpc.job_messages import check_fits, created_to_proto, watch_response
from rafiki.server.rpc.job_positions import (
    best_position,
    entry_position,
    job_key_from,
    job_position,
    plot_position,
    round_position,
    score_from,
    scored_position,
    study_position,
    trial_position,
    two_ints,
)
from rafiki.server.rpc.pages import cut_page
from rafiki.server.rpc.streams import StreamContext, Streams
from rafiki.server.service.jobs import JobService
from rafiki.server.service.reading import JobReader
from rafiki.server.service.watch import Bells, WatchEvent, WatchPage, WatchService
from rafiki.v1 import jobs_pb2 as messages
from rafiki.v1.jobs_pb2_grpc import JobServiceServicer
from rafiki.wire.fields import at, enum_value, required_enum
from rafiki.wire.jobs import train_job_from_proto, train_job_to_proto
from rafiki.wire.reports import trial_log_to_proto, trial_metrics_to_proto, trial_plot_to_proto
from rafiki.wire.studies import study_round_to_proto, study_to_proto
from rafiki.wire.trials import trial_to_proto

# How often a watcher is told what no change tells, such as a worker that has come.
_LOOK_S = 1.0
# Changes that come close together are told together.
_GATHER_S = 0.05


class JobServicer(JobServiceServicer):
    """See jobs.proto."""

    def __init__(
        self,
        jobs: JobService,
        reader: JobReader,
        watch: WatchService,
        bells: Bells,
        streams: Streams,
    ) -> None:
        self._jobs = jobs
        self._reader = reader
        self._watch = watch
        self._bells = bells
        self._streams = streams
        self.is_draining = False

    def CreateTrainJob(
        self, request: messages.CreateTrainJobRequest, context: grpc.ServicerContext
    ) -> messages.CreateTrainJobResponse:
        """Starts searching, or only checks and plans."""
        with statuses(context):
            if self.is_draining:
                raise ServerDraining
            content = request.train_job.SerializeToString(deterministic=True)
            job_id, job, studies = self._jobs.create(
                train_job_from_proto(request.train_job, "train_job"),
                owner=current_principal().user,
                request=request_key(request.request_id, content),
                validate_only=request.validate_only,
                check=check_fits,
            )
            if job_id:
                job, studies = self._reader.job_and_studies(job_id)
            return created_to_proto(job, studies)

    def GetTrainJob(
        self, request: messages.GetTrainJobRequest, context: grpc.ServicerContext
    ) -> messages.GetTrainJobResponse:
        """Reads one job."""
        with statuses(context):
            return messages.GetTrainJobResponse(train_job=self._job(JobName.parse(request.name)))

    def ListTrainJobs(
        self, request: messages.ListTrainJobsRequest, context: grpc.ServicerContext
    ) -> messages.ListTrainJobsResponse:
        """Reads jobs, newest first."""
        with statuses(context):
            size = check_page_size(request.page_size)
            states = [
                required_enum(TrainJobState, number, f"states[{index}]")
                for index, number in enumerate(request.states)
            ]
            principal = current_principal()
            scope = ("ListTrainJobs", request.app, *states)
            position = page_position(scope, request.page_token, [int, str])
            after = None
            if position is not None:
                after = job_key_from(position)
            jobs = self._reader.jobs(
                owner=None if principal.role is Role.SUPERUSER else principal.user,
                app=request.app,
                states=states,
                after=after,
                most=size + 1,
            )
            page, token = cut_page(
                jobs, size=size, to_proto=train_job_to_proto, position=job_position, scope=scope
            )
            return messages.ListTrainJobsResponse(train_jobs=page, next_page_token=token)

    def PauseTrainJob(
        self, request: messages.PauseTrainJobRequest, context: grpc.ServicerContext
    ) -> messages.PauseTrainJobResponse:
        """Stops assigning trials of a job."""
        with statuses(context):
            name = JobName.parse(request.name)
            self._jobs.pause(name)
            return messages.PauseTrainJobResponse(train_job=self._job(name))

    def ResumeTrainJob(
        self, request: messages.ResumeTrainJobRequest, context: grpc.ServicerContext
    ) -> messages.ResumeTrainJobResponse:
        """Goes on with a paused job."""
        with statuses(context):
            name = JobName.parse(request.name)
            self._jobs.resume(name)
            return messages.ResumeTrainJobResponse(train_job=self._job(name))

    def StopTrainJob(
        self, request: messages.StopTrainJobRequest, context: grpc.ServicerContext
    ) -> messages.StopTrainJobResponse:
        """Asks a job to stop."""
        with statuses(context):
            name = JobName.parse(request.name)
            self._jobs.stop(name)
            return messages.StopTrainJobResponse(train_job=self._job(name))

    # A coroutine that writes, not a generator: it ends with its call, wherever it is.
    async def WatchTrainJob(  # type: ignore[override]  # the stubs know generators only
        self, request: messages.WatchTrainJobRequest, context: StreamContext
    ) -> None:
        """Streams a job: as it is, then every change until it ends."""
        async with async_statuses(context), self._streams.admitted(context):
            name = JobName.parse(request.name)
            bell = self._bells.hang(name.job)
            try:
                if request.resume_token:
                    first = partial(self._watch.resume, name, request.resume_token)
                else:
                    first = partial(self._watch.begin, name)
                await self._follow(name, context, bell, await self._streams.run(first))
            finally:
                self._bells.take_down(name.job, bell)

    async def _follow(
        self, name: JobName, context: StreamContext, bell: asyncio.Event, page: WatchPage
    ) -> None:
        known: TrainJob | None = None
        while True:
            for event in page.events:
                if isinstance(event.resource, TrainJob):
                    known = event.resource
                await context.write(watch_response(event))
            if page.is_last:
                return
            if self.is_draining:
                raise ServerDraining
            if not page.events:
                job = await self._streams.run(partial(self._watch.job_now, name))
                if known is None or _line(job) != _line(known):
                    known = job
                    event = WatchEvent(job, str(page.position))
                    await context.write(watch_response(event))
                await _wait(bell)
            page = await self._streams.run(partial(self._watch.next_page, name, page.position))

    def GetStudy(
        self, request: messages.GetStudyRequest, context: grpc.ServicerContext
    ) -> messages.GetStudyResponse:
        """Reads one study."""
        with statuses(context):
            study = self._reader.study(StudyName.parse(request.name))
            return messages.GetStudyResponse(study=study_to_proto(study))

    def ListStudies(
        self, request: messages.ListStudiesRequest, context: grpc.ServicerContext
    ) -> messages.ListStudiesResponse:
        """Reads the studies of a job in the order of its specs."""
        with statuses(context):
            size = check_page_size(request.page_size)
            parent = JobName.parse(request.parent, "parent")
            scope = ("ListStudies", request.parent)
            after = page_position(scope, request.page_token, [int]) or [0]
            studies = self._reader.studies(parent, after=int(after[0]), most=size + 1)
            page, token = cut_page(
                studies, size=size, to_proto=study_to_proto, position=study_position, scope=scope
            )
            return messages.ListStudiesResponse(studies=page, next_page_token=token)

    def ListStudyRounds(
        self, request: messages.ListStudyRoundsRequest, context: grpc.ServicerContext
    ) -> messages.ListStudyRoundsResponse:
        """Reads the completed rounds of a study in their order."""
        with statuses(context):
            size = check_page_size(request.page_size)
            parent = StudyName.parse(request.parent, "parent")
            scope = ("ListStudyRounds", request.parent)
            after = page_position(scope, request.page_token, [int]) or [0]
            rounds = self._reader.rounds(parent, after=int(after[0]), most=size + 1)
            page, token = cut_page(
                rounds,
                size=size,
                to_proto=study_round_to_proto,
                position=round_position,
                scope=scope,
            )
            return messages.ListStudyRoundsResponse(study_rounds=page, next_page_token=token)

    def GetTrial(
        self, request: messages.GetTrialRequest, context: grpc.ServicerContext
    ) -> messages.GetTrialResponse:
        """Reads one trial."""
        with statuses(context):
            trial = self._reader.trial(TrialName.parse(request.name))
            return messages.GetTrialResponse(trial=trial_to_proto(trial))

    def ListTrials(
        self, request: messages.ListTrialsRequest, context: grpc.ServicerContext
    ) -> messages.ListTrialsResponse:
        """Reads trials of a study, or of all studies of a job."""
        with statuses(context):
            size = check_page_size(request.page_size)
            parent = parse_study_or_all(request.parent)
            states = [
                required_enum(TrialState, number, f"states[{index}]")
                for index, number in enumerate(request.states)
            ]
            phases = [
                required_enum(TrialPhase, number, f"phases[{index}]")
                for index, number in enumerate(request.phases)
            ]
            order = enum_value(TrialOrder, request.order, at("", "order"))
            scope = ("ListTrials", request.parent, order or "", *states, "phases", *phases)
            position: Callable[[Trial], Sequence[int | str]]
            if order is TrialOrder.SCORE:
                place = page_position(scope, request.page_token, [str, int, int])
                trials = self._reader.trials_by_score(
                    parent,
                    states=states,
                    phases=phases,
                    after=None if place is None else (score_from(place[0]), *two_ints(place[1:])),
                    most=size + 1,
                )
                position = scored_position
            else:
                place = page_position(scope, request.page_token, [int, int])
                trials = self._reader.trials(
                    parent,
                    states=states,
                    phases=phases,
                    after=None if place is None else two_ints(place),
                    most=size + 1,
                )
                position = trial_position
            page, token = cut_page(
                trials, size=size, to_proto=trial_to_proto, position=position, scope=scope
            )
            return messages.ListTrialsResponse(trials=page, next_page_token=token)

    def ListBestTrials(
        self, request: messages.ListBestTrialsRequest, context: grpc.ServicerContext
    ) -> messages.ListBestTrialsResponse:
        """Reads deployable trials, best first."""
        with statuses(context):
            size = check_page_size(request.page_size)
            parent = parse_study_or_all(request.parent)
            scope = ("ListBestTrials", request.parent)
            place = page_position(scope, request.page_token, [int, str, int, int])
            after = None
            if place is not None:
                after = (int(place[0]), score_from(place[1]) or 0.0, *two_ints(place[2:]))
            trials = self._reader.best_trials(parent, after=after, most=size + 1)
            page, token = cut_page(
                trials, size=size, to_proto=trial_to_proto, position=best_position, scope=scope
            )
            return messages.ListBestTrialsResponse(trials=page, next_page_token=token)

    def ListTrialLogs(
        self, request: messages.ListTrialLogsRequest, context: grpc.ServicerContext
    ) -> messages.ListTrialLogsResponse:
        """Reads log lines in order of attempt and sequence."""
        with statuses(context):
            size = check_page_size(request.page_size)
            parent = TrialName.parse(request.parent, "parent")
            min_level = enum_value(LogLevel, request.min_level, "min_level")
            scope = ("ListTrialLogs", request.parent, min_level or "")
            place = page_position(scope, request.page_token, [int, int])
            logs = self._reader.logs(
                parent,
                min_level=min_level,
                after=(0, 0) if place is None else two_ints(place),
                most=size + 1,
            )
            page, token = cut_page(
                logs, size=size, to_proto=trial_log_to_proto, position=entry_position, scope=scope
            )
            return messages.ListTrialLogsResponse(logs=page, next_page_token=token)

    def ListTrialMetrics(
        self, request: messages.ListTrialMetricsRequest, context: grpc.ServicerContext
    ) -> messages.ListTrialMetricsResponse:
        """Reads metrics in order of attempt and sequence."""
        with statuses(context):
            size = check_page_size(request.page_size)
            parent = TrialName.parse(request.parent, "parent")
            scope = ("ListTrialMetrics", request.parent)
            place = page_position(scope, request.page_token, [int, int])
            after = (0, 0) if place is None else two_ints(place)
            metrics = self._reader.metrics(parent, after=after, most=size + 1)
            page, token = cut_page(
                metrics,
                size=size,
                to_proto=trial_metrics_to_proto,
                position=entry_position,
                scope=scope,
            )
            return messages.ListTrialMetricsResponse(metrics=page, next_page_token=token)

    def ListTrialPlots(
        self, request: messages.ListTrialPlotsRequest, context: grpc.ServicerContext
    ) -> messages.ListTrialPlotsResponse:
        """Reads the plots declared by a trial, by title."""
        with statuses(context):
            size = check_page_size(request.page_size)
            parent = TrialName.parse(request.parent, "parent")
            scope = ("ListTrialPlots", request.parent)
            after = page_position(scope, request.page_token, [str]) or [""]
            plots = self._reader.plots(parent, after=str(after[0]), most=size + 1)
            page, token = cut_page(
                plots, size=size, to_proto=trial_plot_to_proto, position=plot_position, scope=scope
            )
            return messages.ListTrialPlotsResponse(plots=page, next_page_token=token)

    def _job(self, name: JobName) -> messages.TrainJob:
        return train_job_to_proto(self._reader.job(name))


async def _wait(bell: asyncio.Event) -> None:
    """Until the bell rings, but not long; and a little more, for what follows closely."""
    try:
        async with asyncio.timeout(_LOOK_S):
            await bell.wait()
    except TimeoutError:
        return
    await asyncio.sleep(_GATHER_S)
    bell.clear()


def _line(job: TrainJob) -> tuple[int, str]:
    return job.workers, job.waiting_for
