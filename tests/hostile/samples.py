"""Valid requests of every method, as what hostile ones are made from."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeAlias

from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from tests.hostile.forge import nested_struct
from tests.hostile.world import (
    ENAS_KNOBS,
    PLAIN_KNOBS,
    SOURCE_CLASS,
    World,
    job_of,
    opening,
    source_archive,
)

from rafiki.resources import (
    AdvisorKind,
    Budget,
    Dataset,
    LogLevel,
    Model,
    StudySpec,
    TrainJob,
    TrialLog,
    TrialMetrics,
)
from rafiki.v1 import advisor_pb2, datasets_pb2, jobs_pb2, models_pb2, params_pb2, trials_pb2
from rafiki.wire.blobs import digest_of
from rafiki.wire.jobs import dataset_to_proto, model_to_proto, train_job_to_proto
from rafiki.wire.reports import trial_log_to_proto, trial_metrics_to_proto

# The stubs are of a release without it.
_HEALTH_LIST = health_pb2.HealthListRequest  # type: ignore[attr-defined]

_JOB_STATES = (jobs_pb2.TRAIN_JOB_STATE_RUNNING, jobs_pb2.TRAIN_JOB_STATE_STOPPED)
_STATES = (trials_pb2.TRIAL_STATE_RUNNING,)
_PHASES = (trials_pb2.TRIAL_PHASE_TUNE,)
_BY_SCORE = jobs_pb2.TRIAL_ORDER_SCORE
_DEBUG = trials_pb2.LOG_LEVEL_DEBUG

# The messages that one call sends.
Requests: TypeAlias = Sequence[Message]


def samples(world: World) -> Mapping[str, Sequence[Requests]]:
    """Valid calls by the path of their method."""
    return {
        **{f"/rafiki.v1.JobService/{name}": calls for name, calls in _jobs(world).items()},
        **{f"/rafiki.v1.AdvisorService/{name}": calls for name, calls in _advisor(world).items()},
        **{f"/rafiki.v1.ParameterService/{name}": x for name, x in _parameters(world).items()},
        **_models(world),
        **_datasets(world),
        "/grpc.health.v1.Health/Check": [[health_pb2.HealthCheckRequest()]],
        "/grpc.health.v1.Health/List": [[_HEALTH_LIST()]],
        "/grpc.health.v1.Health/Watch": [
            [health_pb2.HealthCheckRequest(service="rafiki.v1.JobService")]
        ],
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": [
            [reflection_pb2.ServerReflectionRequest(list_services="")],
            [reflection_pb2.ServerReflectionRequest(file_by_filename="rafiki/v1/jobs.proto")],
            [reflection_pb2.ServerReflectionRequest(file_containing_symbol="rafiki.v1.Trial")],
            [
                reflection_pb2.ServerReflectionRequest(
                    all_extension_numbers_of_type="rafiki.v1.Trial"
                )
            ],
        ],
    }


def _jobs(world: World) -> Mapping[str, Sequence[Requests]]:
    plain = job_of(PLAIN_KNOBS, AdvisorKind.EVOLUTION, Budget(model_trial_count=30))
    enas = job_of(ENAS_KNOBS, AdvisorKind.ENAS, Budget(model_trial_count=500))
    of_model = TrainJob(
        app="hostile",
        task="TEST",
        studies=(StudySpec(model=world.model),),
        budget=Budget(time=timedelta(hours=1)),
        train_dataset=world.dataset,
        validation_dataset=world.dataset,
        train_args={"epochs": 3, "rates": [0.5, None, {"x": True}]},
    )
    deep = train_job_to_proto(plain)
    deep.train_args.CopyFrom(nested_struct(30))
    jobs = [*map(train_job_to_proto, (plain, enas, of_model)), deep]
    trial = world.done_trial[0]
    return {
        # Mostly checked only: a server keeps every job, and what it needs to go on with it.
        "CreateTrainJob": [
            [jobs_pb2.CreateTrainJobRequest(train_job=job, validate_only=job is not jobs[0])]
            for job in jobs
        ],
        "GetTrainJob": [[jobs_pb2.GetTrainJobRequest(name=world.job)]],
        "ListTrainJobs": [
            [jobs_pb2.ListTrainJobsRequest(app="hostile", states=_JOB_STATES, page_size=1)]
        ],
        "PauseTrainJob": [[jobs_pb2.PauseTrainJobRequest(name="trainJobs/00000000")]],
        "ResumeTrainJob": [[jobs_pb2.ResumeTrainJobRequest(name=world.job)]],
        "StopTrainJob": [[jobs_pb2.StopTrainJobRequest(name="trainJobs/00000000")]],
        "WatchTrainJob": [
            [jobs_pb2.WatchTrainJobRequest(name=world.job)],
            [jobs_pb2.WatchTrainJobRequest(name=world.job, resume_token="1")],
        ],
        "GetStudy": [[jobs_pb2.GetStudyRequest(name=world.study)]],
        "ListStudies": [[jobs_pb2.ListStudiesRequest(parent=world.job, page_size=1)]],
        "ListStudyRounds": [[jobs_pb2.ListStudyRoundsRequest(parent=world.study, page_size=1)]],
        "GetTrial": [[jobs_pb2.GetTrialRequest(name=trial)]],
        "ListTrials": [
            [
                jobs_pb2.ListTrialsRequest(
                    parent=world.study, states=_STATES, phases=_PHASES, page_size=2
                )
            ],
            [
                jobs_pb2.ListTrialsRequest(
                    parent=f"{world.job}/studies/-", order=_BY_SCORE, page_size=2
                )
            ],
        ],
        "ListBestTrials": [[jobs_pb2.ListBestTrialsRequest(parent=world.study, page_size=1)]],
        "ListTrialLogs": [
            [jobs_pb2.ListTrialLogsRequest(parent=trial, min_level=_DEBUG, page_size=1)]
        ],
        "ListTrialMetrics": [[jobs_pb2.ListTrialMetricsRequest(parent=trial, page_size=1)]],
        "ListTrialPlots": [[jobs_pb2.ListTrialPlotsRequest(parent=trial, page_size=1)]],
    }


def _advisor(world: World) -> Mapping[str, Sequence[Requests]]:
    heartbeat = advisor_pb2.StreamTrialsRequest(
        heartbeat=advisor_pb2.Heartbeat(lease_tokens=["x", world.leases[0][1]])
    )
    close = advisor_pb2.StreamTrialsRequest(close=advisor_pb2.CloseSession())
    session = [opening(), heartbeat, close]
    now = datetime.now(UTC)
    log = TrialLog(sequence=1, time=now, level=LogLevel.INFO, message="hello")
    metrics = TrialMetrics(sequence=2, time=now, values={"loss": 0.1}, score=0.5)
    return {
        "StreamTrials": [
            session,
            [opening(), opening(), heartbeat],
            [heartbeat, opening()],
            [opening(), close, heartbeat, close],
            [close],
        ],
        "ReportTrial": [
            [
                advisor_pb2.ReportTrialRequest(
                    name=name,
                    lease_token=token,
                    logs=[trial_log_to_proto(log)],
                    metrics=[trial_metrics_to_proto(metrics)],
                    plots=[trials_pb2.TrialPlot(title="p", metrics=["loss"])],
                    progress=trials_pb2.TrialProgress(fraction=0.5),
                )
            ]
            for name, token in world.leases
        ],
        "CompleteTrial": [
            [
                advisor_pb2.CompleteTrialRequest(
                    name=name,
                    lease_token=token,
                    timings=trials_pb2.TrialTimings(),
                    **outcome,
                )
            ]
            for name, token in world.leases
            for outcome in (
                {"completed": advisor_pb2.TrialCompleted(score=0.5, checkpoint=world.checkpoint)},
                {
                    "error": trials_pb2.TrialError(
                        kind=trials_pb2.TRIAL_ERROR_KIND_CRASHED, message="m", traceback="t"
                    )
                },
            )
        ],
    }


def _parameters(world: World) -> Mapping[str, Sequence[Requests]]:
    digest = digest_of(b"content")
    header = params_pb2.UploadBlobsRequest(
        header=params_pb2.Digest(sha256=digest.sha256, size_bytes=digest.size_bytes)
    )
    chunk = params_pb2.UploadBlobsRequest(chunk=b"content")
    tensor = params_pb2.Tensor(
        path="w", dtype=params_pb2.DTYPE_FLOAT32, shape=[2, 3], digest=world.blob
    )
    return {
        "FindMissingBlobs": [[params_pb2.FindMissingBlobsRequest(digests=[world.blob])]],
        "UploadBlobs": [
            [header, chunk, header, chunk],
            [chunk, header],
            [header, header],
            [header, chunk, chunk],
        ],
        "DownloadBlobs": [[params_pb2.DownloadBlobsRequest(digests=[world.blob], offset_bytes=3)]],
        "CreateCheckpoint": [
            [
                params_pb2.CreateCheckpointRequest(
                    parent=world.study,
                    checkpoint=params_pb2.Checkpoint(tensors=[tensor]),
                    lease_token=world.leases[0][1],
                )
            ]
        ],
        "CollectGarbage": [
            [params_pb2.CollectGarbageRequest(dry_run=True)],
            [params_pb2.CollectGarbageRequest()],
        ],
        "GetCheckpoint": [[params_pb2.GetCheckpointRequest(name=world.checkpoint)]],
        "ListCheckpoints": [[params_pb2.ListCheckpointsRequest(parent=world.study, page_size=1)]],
    }


def _models(world: World) -> Mapping[str, Sequence[Requests]]:
    source = source_archive()
    model = Model(
        display_name="m",
        task="TEST",
        model_class=SOURCE_CLASS,
        source=digest_of(source),
        knob_config=ENAS_KNOBS,
        dependencies={"numpy": "2.0"},
    )
    metadata = models_pb2.CreateModelRequest(
        metadata=models_pb2.CreateModelMetadata(model=model_to_proto(model))
    )
    chunk = models_pb2.CreateModelRequest(chunk=source)
    return {
        "/rafiki.v1.ModelService/CreateModel": [
            [metadata, chunk],
            [chunk, metadata],
            [metadata, metadata],
        ],
        "/rafiki.v1.ModelService/GetModel": [[models_pb2.GetModelRequest(name=world.model)]],
        "/rafiki.v1.ModelService/ListModels": [
            [models_pb2.ListModelsRequest(task="TEST", page_size=1)]
        ],
    }


def _datasets(world: World) -> Mapping[str, Sequence[Requests]]:
    dataset = Dataset(display_name="d", task="TEST", digest=digest_of(b"data"))
    metadata = datasets_pb2.CreateDatasetRequest(
        metadata=datasets_pb2.CreateDatasetMetadata(dataset=dataset_to_proto(dataset))
    )
    chunk = datasets_pb2.CreateDatasetRequest(chunk=b"data")
    return {
        "/rafiki.v1.DatasetService/CreateDataset": [
            [metadata, chunk],
            [chunk, metadata],
            [metadata, metadata],
            [metadata, chunk, chunk],
        ],
        "/rafiki.v1.DatasetService/GetDataset": [
            [datasets_pb2.GetDatasetRequest(name=world.dataset)]
        ],
        "/rafiki.v1.DatasetService/ListDatasets": [
            [datasets_pb2.ListDatasetsRequest(task="TEST", page_size=1)]
        ],
    }
