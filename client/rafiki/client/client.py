"""`Client`: what programs use to talk to a Rafiki server."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import uuid4

import numpy as np

from rafiki.client import blobs, checkpoints, watching
from rafiki.client.blobs import OnProgress
from rafiki.client.checkpoints import CheckpointDiff, Garbage
from rafiki.client.pages import PAGE_SIZE, walk
from rafiki.client.transport import Transport
from rafiki.model.knobs import KnobConfig
from rafiki.resources import (
    Checkpoint,
    Dataset,
    LogLevel,
    Model,
    Study,
    StudyRound,
    TrainJob,
    TrainJobState,
    Trial,
    TrialLog,
    TrialMetrics,
    TrialOrder,
    TrialPhase,
    TrialPlot,
    TrialState,
)
from rafiki.v1 import (
    datasets_pb2,
    datasets_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    params_pb2,
    params_pb2_grpc,
    trials_pb2,
)
from rafiki.wire.blobs import chunks, digest_of
from rafiki.wire.enums import enum_to_proto
from rafiki.wire.jobs import (
    dataset_from_proto,
    dataset_to_proto,
    model_from_proto,
    model_to_proto,
    train_job_from_proto,
    train_job_to_proto,
)
from rafiki.wire.params import checkpoint_from_proto
from rafiki.wire.reports import (
    trial_log_from_proto,
    trial_metrics_from_proto,
    trial_plot_from_proto,
)
from rafiki.wire.studies import study_from_proto, study_round_from_proto
from rafiki.wire.trials import trial_from_proto

DEFAULT_ADDRESS = "127.0.0.1:8780"


class Client:
    """A connection to the server at `address` (`host:port`). Thread-safe.

    Names are full resource names; `rafiki.client.names` makes them from short ones. All
    calls have a deadline, are tried again while the server is unreachable, and raise
    `RafikiError`. Iterators fetch as they are read and raise while they are.

        with Client() as client:
            for trial in client.list_best_trials("trainJobs/a1b2c3d4"):
                print(trial.name, trial.score)
    """

    def __init__(self, address: str = DEFAULT_ADDRESS, *, timeout_s: float = 30.0) -> None:
        self.address = address
        self._transport = Transport(address, timeout_s)
        channel = self._transport.channel
        self._jobs = jobs_pb2_grpc.JobServiceStub(channel)
        self._models = models_pb2_grpc.ModelServiceStub(channel)
        self._datasets = datasets_pb2_grpc.DatasetServiceStub(channel)
        self._params = params_pb2_grpc.ParameterServiceStub(channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the calls under way, watches included, and closes the connection."""
        self._transport.close()

    # Models.

    def create_model(
        self,
        source: Path | str | bytes,
        *,
        display_name: str,
        task: str,
        model_class: str,
        knob_config: KnobConfig,
        dependencies: Mapping[str, str] | None = None,
        candidate_batches: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Model:
        """Registers a template; a source that is stored already is not sent again.

        Args:
            source: A zip archive of Python files: its path, or its bytes.
            display_name: For people.
            task: What it solves, such as "IMAGE_CLASSIFICATION".
            model_class: `module:Class` inside the source.
            knob_config: What the class declares.
            dependencies: Exact versions by pip project name.
            candidate_batches: Whether the class has the candidate pair.
            on_progress: Told about bytes sent.
        """
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
        model = Model(
            display_name=display_name,
            task=task,
            model_class=model_class,
            source=digest_of(data),
            knob_config=knob_config,
            dependencies=dict(dependencies or {}),
            candidate_batches=candidate_batches,
        )
        metadata = models_pb2.CreateModelMetadata(
            model=model_to_proto(model), request_id=str(uuid4())
        )
        is_stored = blobs.is_stored(self._transport, model.source)

        def requests(sends: bool) -> Iterator[models_pb2.CreateModelRequest]:
            yield models_pb2.CreateModelRequest(metadata=metadata)
            parts = map(bytes, chunks(data)) if sends else iter(())
            for chunk in blobs.counted(parts, len(data), on_progress):
                yield models_pb2.CreateModelRequest(chunk=chunk)

        response = blobs.upload(
            self._transport, self._models.CreateModel, requests, len(data), is_stored=is_stored
        )
        return model_from_proto(response.model)

    def get_model(self, name: str) -> Model:
        """The model of this name."""
        request = models_pb2.GetModelRequest(name=name)
        return model_from_proto(self._transport.unary(self._models.GetModel, request).model)

    def list_models(self, task: str = "") -> Iterator[Model]:
        """The models of a task, or all, newest first."""

        def fetch(token: str) -> tuple[Sequence[Model], str]:
            request = models_pb2.ListModelsRequest(task=task, page_size=PAGE_SIZE, page_token=token)
            page = self._transport.unary(self._models.ListModels, request)
            return [model_from_proto(m) for m in page.models], page.next_page_token

        return walk(fetch)

    # Data sets.

    def create_dataset(
        self,
        path: Path | str,
        *,
        task: str,
        display_name: str = "",
        on_progress: OnProgress | None = None,
    ) -> Dataset:
        """Uploads a data set in chunks of 1 MiB; bytes that are stored are not sent again.

        Args:
            path: The file; for "IMAGE_CLASSIFICATION", a zip of images and `images.csv`.
            task: What it is for.
            display_name: For people; the name of the file if left out.
            on_progress: Told about bytes sent.
        """
        path = Path(path)
        digest = blobs.digest_of_file(path)
        dataset = Dataset(display_name=display_name or path.name, task=task, digest=digest)
        metadata = datasets_pb2.CreateDatasetMetadata(
            dataset=dataset_to_proto(dataset), request_id=str(uuid4())
        )
        is_stored = blobs.is_stored(self._transport, digest)

        def requests(sends: bool) -> Iterator[datasets_pb2.CreateDatasetRequest]:
            yield datasets_pb2.CreateDatasetRequest(metadata=metadata)
            parts = blobs.chunks_of_file(path) if sends else iter(())
            for chunk in blobs.counted(parts, digest.size_bytes, on_progress):
                yield datasets_pb2.CreateDatasetRequest(chunk=chunk)

        size_bytes, method = digest.size_bytes, self._datasets.CreateDataset
        response = blobs.upload(self._transport, method, requests, size_bytes, is_stored=is_stored)
        return dataset_from_proto(response.dataset)

    def get_dataset(self, name: str) -> Dataset:
        """The data set of this name."""
        request = datasets_pb2.GetDatasetRequest(name=name)
        return dataset_from_proto(self._transport.unary(self._datasets.GetDataset, request).dataset)

    def list_datasets(self, task: str = "") -> Iterator[Dataset]:
        """The data sets for a task, or all, newest first."""

        def fetch(token: str) -> tuple[Sequence[Dataset], str]:
            request = datasets_pb2.ListDatasetsRequest(
                task=task, page_size=PAGE_SIZE, page_token=token
            )
            page = self._transport.unary(self._datasets.ListDatasets, request)
            return [dataset_from_proto(d) for d in page.datasets], page.next_page_token

        return walk(fetch)

    # Train jobs.

    def create_train_job(
        self, job: TrainJob, *, validate_only: bool = False
    ) -> tuple[TrainJob, tuple[Study, ...]]:
        """Starts searching. Answers with the job and its studies, their plans included.

        With `validate_only` the job is checked and planned only; it gets no name.
        """
        request = jobs_pb2.CreateTrainJobRequest(
            train_job=train_job_to_proto(job),
            request_id=str(uuid4()),
            validate_only=validate_only,
        )
        response = self._transport.unary(self._jobs.CreateTrainJob, request)
        studies = tuple(study_from_proto(study) for study in response.studies)
        return train_job_from_proto(response.train_job), studies

    def get_train_job(self, name: str) -> TrainJob:
        """The train job of this name."""
        request = jobs_pb2.GetTrainJobRequest(name=name)
        return train_job_from_proto(
            self._transport.unary(self._jobs.GetTrainJob, request).train_job
        )

    def list_train_jobs(
        self, app: str = "", states: Sequence[TrainJobState] = ()
    ) -> Iterator[TrainJob]:
        """The jobs of an app and in these states, or any, newest first."""

        def fetch(token: str) -> tuple[Sequence[TrainJob], str]:
            request = jobs_pb2.ListTrainJobsRequest(
                app=app,
                states=[enum_to_proto(state) for state in states],
                page_size=PAGE_SIZE,
                page_token=token,
            )
            page = self._transport.unary(self._jobs.ListTrainJobs, request)
            return [train_job_from_proto(j) for j in page.train_jobs], page.next_page_token

        return walk(fetch)

    def pause_train_job(self, name: str) -> TrainJob:
        """Has a job assign nothing and its clock stand still; running trials finish.

        A paused job stays as it is, also if the server is restarted.

        Raises:
            InvalidState: The job is stopping or has ended.
        """
        request = jobs_pb2.PauseTrainJobRequest(name=name)
        response = self._transport.unary(self._jobs.PauseTrainJob, request)
        return train_job_from_proto(response.train_job)

    def resume_train_job(self, name: str) -> TrainJob:
        """Goes on with a paused job; a running one stays as it is.

        Raises:
            InvalidState: The job is stopping or has ended.
        """
        request = jobs_pb2.ResumeTrainJobRequest(name=name)
        response = self._transport.unary(self._jobs.ResumeTrainJob, request)
        return train_job_from_proto(response.train_job)

    def stop_train_job(self, name: str) -> TrainJob:
        """Asks a job to stop; one that has ended stays as it is."""
        request = jobs_pb2.StopTrainJobRequest(name=name)
        response = self._transport.unary(self._jobs.StopTrainJob, request)
        return train_job_from_proto(response.train_job)

    def watch_train_job(
        self, name: str, *, patience_s: float = 300.0
    ) -> Iterator[TrainJob | Study | Trial | StudyRound]:
        """The job and its studies now, then what changes, until the job ends.

        A broken connection is resumed where it broke, for as long as the server comes back
        within `patience_s`; then nothing is missing.
        """
        return watching.watch(self._transport, name, patience_s)

    # Studies.

    def get_study(self, name: str) -> Study:
        """The study of this name."""
        request = jobs_pb2.GetStudyRequest(name=name)
        return study_from_proto(self._transport.unary(self._jobs.GetStudy, request).study)

    def list_studies(self, job: str) -> Iterator[Study]:
        """The studies of a job, in their order."""

        def fetch(token: str) -> tuple[Sequence[Study], str]:
            request = jobs_pb2.ListStudiesRequest(parent=job, page_size=PAGE_SIZE, page_token=token)
            page = self._transport.unary(self._jobs.ListStudies, request)
            return [study_from_proto(s) for s in page.studies], page.next_page_token

        return walk(fetch)

    def list_study_rounds(self, study: str) -> Iterator[StudyRound]:
        """The completed rounds of a study, in their order."""

        def fetch(token: str) -> tuple[Sequence[StudyRound], str]:
            request = jobs_pb2.ListStudyRoundsRequest(
                parent=study, page_size=PAGE_SIZE, page_token=token
            )
            page = self._transport.unary(self._jobs.ListStudyRounds, request)
            return [study_round_from_proto(r) for r in page.study_rounds], page.next_page_token

        return walk(fetch)

    # Trials.

    def get_trial(self, name: str) -> Trial:
        """The trial of this name."""
        request = jobs_pb2.GetTrialRequest(name=name)
        return trial_from_proto(self._transport.unary(self._jobs.GetTrial, request).trial)

    def list_trials(
        self,
        parent: str,
        *,
        states: Sequence[TrialState] = (),
        phases: Sequence[TrialPhase] = (),
        order: TrialOrder = TrialOrder.PROPOSED,
    ) -> Iterator[Trial]:
        """The trials of a study, or of all studies of a job.

        Args:
            parent: The name of a study or of a job.
            states: Only trials in these; empty for any.
            phases: Only trials of these; empty for any. Exactly one to order by SCORE.
            order: By number, or the best score first.
        """

        def fetch(token: str) -> tuple[Sequence[Trial], str]:
            request = jobs_pb2.ListTrialsRequest(
                parent=_all_studies(parent),
                states=[enum_to_proto(state) for state in states],
                phases=[enum_to_proto(phase) for phase in phases],
                order=enum_to_proto(order),
                page_size=PAGE_SIZE,
                page_token=token,
            )
            page = self._transport.unary(self._jobs.ListTrials, request)
            return [trial_from_proto(t) for t in page.trials], page.next_page_token

        return walk(fetch)

    def list_best_trials(self, parent: str) -> Iterator[Trial]:
        """The deployable trials of a study or of all studies of a job, best first."""

        def fetch(token: str) -> tuple[Sequence[Trial], str]:
            request = jobs_pb2.ListBestTrialsRequest(
                parent=_all_studies(parent), page_size=PAGE_SIZE, page_token=token
            )
            page = self._transport.unary(self._jobs.ListBestTrials, request)
            return [trial_from_proto(t) for t in page.trials], page.next_page_token

        return walk(fetch)

    def list_trial_logs(self, trial: str, min_level: LogLevel | None = None) -> Iterator[TrialLog]:
        """What a trial logged, at least at `min_level`, in order of attempt and sequence."""
        level = trials_pb2.LOG_LEVEL_UNSPECIFIED if min_level is None else enum_to_proto(min_level)

        def fetch(token: str) -> tuple[Sequence[TrialLog], str]:
            request = jobs_pb2.ListTrialLogsRequest(
                parent=trial, min_level=level, page_size=PAGE_SIZE, page_token=token
            )
            page = self._transport.unary(self._jobs.ListTrialLogs, request)
            return [trial_log_from_proto(log) for log in page.logs], page.next_page_token

        return walk(fetch)

    def list_trial_metrics(self, trial: str) -> Iterator[TrialMetrics]:
        """What a trial measured, in order of attempt and sequence."""

        def fetch(token: str) -> tuple[Sequence[TrialMetrics], str]:
            request = jobs_pb2.ListTrialMetricsRequest(
                parent=trial, page_size=PAGE_SIZE, page_token=token
            )
            page = self._transport.unary(self._jobs.ListTrialMetrics, request)
            return [trial_metrics_from_proto(m) for m in page.metrics], page.next_page_token

        return walk(fetch)

    def list_trial_plots(self, trial: str) -> Iterator[TrialPlot]:
        """The plots that a trial declared, by title."""

        def fetch(token: str) -> tuple[Sequence[TrialPlot], str]:
            request = jobs_pb2.ListTrialPlotsRequest(
                parent=trial, page_size=PAGE_SIZE, page_token=token
            )
            page = self._transport.unary(self._jobs.ListTrialPlots, request)
            return [trial_plot_from_proto(p) for p in page.plots], page.next_page_token

        return walk(fetch)

    # Checkpoints.

    def get_checkpoint(self, name: str) -> Checkpoint:
        """The manifest of a checkpoint: its tensors without their values."""
        request = params_pb2.GetCheckpointRequest(name=name)
        response = self._transport.unary(self._params.GetCheckpoint, request)
        return checkpoint_from_proto(response.checkpoint)

    def download_checkpoint(self, name: str) -> dict[str, "np.ndarray"]:
        """The tensors of a checkpoint by path, each verified against its digest."""
        return checkpoints.download(self._transport, self.get_checkpoint(name))

    def list_checkpoints(self, study: str) -> Iterator[Checkpoint]:
        """The checkpoints of a study that are kept, newest first, without their tensors."""

        def fetch(token: str) -> tuple[Sequence[Checkpoint], str]:
            request = params_pb2.ListCheckpointsRequest(
                parent=study, page_size=PAGE_SIZE, page_token=token
            )
            page = self._transport.unary(self._params.ListCheckpoints, request)
            return [checkpoint_from_proto(c) for c in page.checkpoints], page.next_page_token

        return walk(fetch)

    def diff_checkpoints(self, old: str, new: str) -> CheckpointDiff:
        """What the tensors of one checkpoint are to those of another, by their digests."""
        return checkpoints.diff(self.get_checkpoint(old), self.get_checkpoint(new))

    def collect_garbage(self, *, dry_run: bool = False) -> Garbage:
        """Removes the checkpoints and blobs that nobody needs; or says what it would remove."""
        request = params_pb2.CollectGarbageRequest(dry_run=dry_run)
        return checkpoints.garbage(self._transport.unary(self._params.CollectGarbage, request))


def _all_studies(parent: str) -> str:
    """A job as parent of trials means all of its studies."""
    return parent if "/studies/" in parent else f"{parent}/studies/-"
