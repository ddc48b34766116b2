"""Train jobs over real gRPC: created, read, followed and stopped."""

import io
import math
import uuid
import zipfile
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from tests.server.live import (
    TIMEOUT_S,
    BuildJob,
    Connect,
    OffsetClock,
    RunningServer,
    code,
    message,
    reason,
)

from rafiki.model.knobs import ArchKnob, FloatKnob, KnobConfig, Policy, PolicyKnob
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    Direction,
    Model,
    StudySpec,
)
from rafiki.v1 import (
    advisor_pb2,
    datasets_pb2,
    datasets_pb2_grpc,
    jobs_pb2,
    models_pb2,
    models_pb2_grpc,
    studies_pb2,
    trials_pb2,
)
from rafiki.wire.blobs import digest_of
from rafiki.wire.jobs import model_to_proto, train_job_to_proto
from rafiki.wire.params import digest_to_proto
from rafiki.wire.studies import study_spec_to_proto

RANDOM = AdvisorSettings(kind=AdvisorKind.RANDOM)
FIXED = AdvisorSettings(kind=AdvisorKind.FIXED)
REINFORCE = AdvisorSettings(kind=AdvisorKind.REINFORCE)
KNOBS: KnobConfig = {"rate": FloatKnob(0.1, 0.9)}


def upload_dataset(server: RunningServer, task: str = "ANY") -> str:
    """A stored data set of the task; returns its name."""
    data = uuid.uuid4().bytes
    dataset = datasets_pb2.Dataset(
        display_name="some", task=task, digest=digest_to_proto(digest_of(data))
    )
    requests = [
        datasets_pb2.CreateDatasetRequest(
            metadata=datasets_pb2.CreateDatasetMetadata(dataset=dataset)
        ),
        datasets_pb2.CreateDatasetRequest(chunk=data),
    ]
    stub = datasets_pb2_grpc.DatasetServiceStub(server.channel)
    return stub.CreateDataset(iter(requests), timeout=TIMEOUT_S).dataset.name


def upload_model(server: RunningServer, task: str = "ANY", knobs: KnobConfig = KNOBS) -> str:
    """A stored model of the task; returns its name."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("template.py", f"# {uuid.uuid4()}\n")
    source = archive.getvalue()
    model = Model(
        display_name="some",
        task=task,
        model_class="template:Template",
        source=digest_of(source),
        knob_config=knobs,
    )
    requests = [
        models_pb2.CreateModelRequest(
            metadata=models_pb2.CreateModelMetadata(model=model_to_proto(model))
        ),
        models_pb2.CreateModelRequest(chunk=source),
    ]
    stub = models_pb2_grpc.ModelServiceStub(server.channel)
    return stub.CreateModel(iter(requests), timeout=TIMEOUT_S).model.name


def count_jobs(server: RunningServer) -> int:
    """How many jobs there are."""
    request = jobs_pb2.ListTrainJobsRequest(page_size=1000)
    return len(server.jobs.ListTrainJobs(request, timeout=TIMEOUT_S).train_jobs)


def test_a_created_job_is_shown_with_its_resolved_study(
    server: RunningServer, random_job: BuildJob
) -> None:
    created = server.create_job(random_job(trials=4, app="shown"))
    job, study = created.train_job, created.studies[0]
    assert (job.app, job.app_version, job.owner) == ("shown", 1, "users/local")
    assert job.state == jobs_pb2.TRAIN_JOB_STATE_RUNNING
    assert study.spec.advisor.kind == studies_pb2.ADVISOR_KIND_RANDOM
    assert study.plan.trials == 4
    assert study.phase == trials_pb2.TRIAL_PHASE_TUNE
    assert server.job(job.name) == job
    assert server.study(job.name) == study


def test_the_versions_of_an_app_are_counted(server: RunningServer, random_job: BuildJob) -> None:
    first, second, other = (
        server.create_job(random_job(app=app)).train_job for app in ("count", "count", "other")
    )
    assert (first.app_version, second.app_version, other.app_version) == (1, 2, 1)


def test_a_job_without_a_seed_is_given_one(server: RunningServer, random_job: BuildJob) -> None:
    assert server.create_job(random_job(seed=None)).train_job.HasField("seed")


def test_a_repeated_request_returns_the_first_answer(
    server: RunningServer, random_job: BuildJob
) -> None:
    request_id = str(uuid.uuid4())
    first = server.create_job(random_job(), request_id=request_id)
    before = count_jobs(server)
    assert server.create_job(random_job(), request_id=request_id) == first
    assert count_jobs(server) == before
    with pytest.raises(grpc.RpcError) as raised:
        server.create_job(random_job(trials=9), request_id=request_id)
    assert reason(raised.value) == "REQUEST_ID_REUSED"


def test_validating_creates_nothing(server: RunningServer, random_job: BuildJob) -> None:
    before = count_jobs(server)
    answer = server.create_job(random_job(trials=4), validate_only=True)
    assert (answer.train_job.name, answer.studies[0].name) == ("", "")
    assert answer.studies[0].plan.trials == 4
    assert count_jobs(server) == before


Change = Callable[[jobs_pb2.TrainJob], None]


def put(**fields: Any) -> Change:
    """Sets fields of a job."""

    def change(job: jobs_pb2.TrainJob) -> None:
        for name, value in fields.items():
            setattr(job, name, value)

    return change


def limit(**fields: int) -> Change:
    """Replaces the budget of a job."""
    return lambda job: job.budget.CopyFrom(jobs_pb2.Budget(**fields))  # type: ignore[arg-type]


def search(spec: StudySpec) -> Change:
    """Replaces the study of a job."""
    return lambda job: job.studies[0].CopyFrom(study_spec_to_proto(spec))


@pytest.mark.parametrize(
    ("change", "expected", "text"),
    [
        (put(app="No Good"), "INVALID_FIELD", "train_job.app"),
        (put(task="lower"), "INVALID_FIELD", "train_job.task"),
        (limit(), "INVALID_FIELD", "train_job.budget.time"),
        (limit(model_trial_count=-1), "INVALID_FIELD", "train_job.budget.model_trial_count"),
        (limit(model_trial_count=1, gpu_count=-1), "INVALID_FIELD", "train_job.budget.gpu_count"),
        (put(goal_score=math.nan), "INVALID_FIELD", "train_job.goal_score"),
        (put(seed=-1), "INVALID_FIELD", "train_job.seed"),
        (lambda job: job.studies.pop(), "INVALID_FIELD", "train_job.studies"),
        (
            lambda job: job.train_args.update({"x": "y" * (64 << 10)}),
            "INVALID_FIELD",
            "train_job.train_args",
        ),
        (put(train_dataset="datasets/00000000"), "RESOURCE_NOT_FOUND", "datasets/00000000"),
        (put(test_dataset="nonsense"), "INVALID_FIELD", "train_job.test_dataset"),
        (search(StudySpec(model="models/0")), "INVALID_FIELD", "train_job.train_dataset"),
        (
            search(StudySpec(knob_config=KNOBS, advisor=REINFORCE)),
            "UNSUPPORTED_ADVISOR",
            "at least one arch knob",
        ),
        (
            search(StudySpec(knob_config=KNOBS, advisor=FIXED)),
            "UNSUPPORTED_ADVISOR",
            "these can be tuned: rate",
        ),
        (
            lambda job: job.studies[0].knob_config.knobs.add(name="No Name"),
            "INVALID_KNOB_CONFIG",
            "No Name",
        ),
    ],
)
def test_a_job_that_cannot_run_is_refused_and_nothing_changes(
    server: RunningServer, random_job: BuildJob, change: Change, expected: str, text: str
) -> None:
    before = count_jobs(server)
    request = jobs_pb2.CreateTrainJobRequest(train_job=train_job_to_proto(random_job()))
    change(request.train_job)
    with pytest.raises(grpc.RpcError) as raised:
        server.jobs.CreateTrainJob(request, timeout=TIMEOUT_S)
    assert reason(raised.value) == expected
    assert text in message(raised.value)
    assert count_jobs(server) == before


def test_a_job_with_a_model_needs_one_that_exists(
    server: RunningServer, random_job: BuildJob
) -> None:
    data = upload_dataset(server)
    spec = StudySpec(model="models/00000000", advisor=RANDOM)
    job = random_job(studies=(spec,), train_dataset=data, validation_dataset=data)
    with pytest.raises(grpc.RpcError) as raised:
        server.create_job(job)
    assert reason(raised.value) == "RESOURCE_NOT_FOUND"


def test_job_models_and_data_are_of_one_task(server: RunningServer, random_job: BuildJob) -> None:
    data, other_data = upload_dataset(server), upload_dataset(server, "OTHER")
    model, other_model = upload_model(server), upload_model(server, "OTHER")
    for model_name, data_name in ((other_model, data), (model, other_data)):
        spec = StudySpec(model=model_name, advisor=RANDOM)
        job = random_job(studies=(spec,), train_dataset=data, validation_dataset=data_name)
        with pytest.raises(grpc.RpcError) as raised:
            server.create_job(job)
        assert reason(raised.value) == "TASK_MISMATCH"


def test_a_budget_too_small_for_a_plan_is_refused_with_the_smallest(
    server: RunningServer, random_job: BuildJob
) -> None:
    data = upload_dataset(server)
    knobs: KnobConfig = {"cell": ArchKnob([["a", "b"]] * 4)} | {
        policy.lower(): PolicyKnob(policy) for policy in Policy
    }
    spec = StudySpec(model=upload_model(server, knobs=knobs))
    job = random_job(trials=5, studies=(spec,), train_dataset=data, validation_dataset=data)
    with pytest.raises(grpc.RpcError) as raised:
        server.create_job(job)
    assert code(raised.value) is grpc.StatusCode.FAILED_PRECONDITION
    assert reason(raised.value) == "INFEASIBLE_BUDGET"
    assert "model_trial_count of" in message(raised.value)


def test_a_study_of_a_model_goes_to_any_worker_with_its_template_and_data(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    data, model = upload_dataset(server), upload_model(server)
    job = random_job(
        studies=(StudySpec(model=model, advisor=RANDOM),),
        train_dataset=data,
        validation_dataset=data,
        train_args={"epochs": 3},
    )
    created = server.create_job(job)
    worker = connect(server)
    info = worker.event("study").study
    assert (info.name, info.model.name) == (created.studies[0].name, model)
    assert info.model.model_class == "template:Template"
    assert info.train_dataset.sha256
    assert info.train_args["epochs"] == 3
    probe = worker.assignment()
    assert probe.trial.phase == trials_pb2.TRIAL_PHASE_PROBE
    with pytest.raises(grpc.RpcError) as raised:
        worker.report(probe, completed=advisor_pb2.TrialCompleted())
    assert "completed.costs" in message(raised.value)
    worker.report(probe, completed=advisor_pb2.TrialCompleted(costs=advisor_pb2.TrialCosts()))
    tune = worker.assignment()
    assert (tune.trial.phase, tune.save) == (trials_pb2.TRIAL_PHASE_TUNE, True)
    own = f"{created.studies[0].name}/checkpoints/2-1"
    for checkpoint, text in (("", "must be set"), (own, "must be created before")):
        completed = advisor_pb2.TrialCompleted(score=0.5, checkpoint=checkpoint)
        with pytest.raises(grpc.RpcError) as raised:
            worker.report(tune, completed=completed)
        assert text in message(raised.value)
    stop(server, created.train_job.name)


def stop(server: RunningServer, name: str) -> jobs_pb2.TrainJob:
    """Stops a job; returns it as answered."""
    request = jobs_pb2.StopTrainJobRequest(name=name)
    return server.jobs.StopTrainJob(request, timeout=TIMEOUT_S).train_job


def test_a_job_that_nobody_works_on_is_stopped_at_once(
    server: RunningServer, random_job: BuildJob
) -> None:
    name = server.create_job(random_job()).train_job.name
    stopped = stop(server, name)
    assert stopped.state == jobs_pb2.TRAIN_JOB_STATE_STOPPED
    assert stopped.HasField("end_time")
    study = server.study(name)
    assert study.state == studies_pb2.STUDY_STATE_STOPPED
    assert study.end_reason == studies_pb2.END_REASON_STOPPED
    assert stop(server, name) == stopped


def test_a_stopping_job_waits_for_its_running_trials(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    created = server.create_job(random_job())
    name = created.train_job.name
    worker = connect(server, studies=(created.studies[0].name,), capacity=2)
    first, second = worker.assignment(), worker.assignment()
    assert stop(server, name).state == jobs_pb2.TRAIN_JOB_STATE_STOPPING
    told = {worker.event("stop").stop.lease_token for _ in range(2)}
    assert told == {first.lease.token, second.lease.token}
    cancelled = worker.report(first, cancelled=advisor_pb2.TrialCancelled()).trial
    assert cancelled.state == trials_pb2.TRIAL_STATE_CANCELLED
    assert cancelled.stop_reason == trials_pb2.STOP_REASON_JOB_ENDED
    worker.complete(second, 0.5)
    job = server.ended(name)
    assert job.state == jobs_pb2.TRAIN_JOB_STATE_STOPPED
    assert job.best_trial == second.trial.name


def test_a_stopping_job_does_not_wait_for_a_worker_that_is_gone(
    server: RunningServer, connect: Connect, clock: OffsetClock, random_job: BuildJob
) -> None:
    created = server.create_job(random_job())
    worker = connect(server, studies=(created.studies[0].name,))
    lost = worker.assignment()
    worker.vanish()
    stop(server, created.train_job.name)
    clock.offset += timedelta(seconds=20)
    assert server.ended(created.train_job.name).state == jobs_pb2.TRAIN_JOB_STATE_STOPPED
    assert server.trial(lost.trial.name).state == trials_pb2.TRIAL_STATE_CANCELLED


def test_a_worker_that_comes_back_is_told_again_to_stop(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    created = server.create_job(random_job())
    study = created.studies[0].name
    worker = connect(server, studies=(study,))
    token = worker.assignment().lease.token
    worker.vanish()
    stop(server, created.train_job.name)
    again = connect(server, studies=(study,), lease_tokens=(token,))
    assert again.event("stop").stop.lease_token == token


@pytest.mark.parametrize(
    ("direction", "scores"),
    [(Direction.MAXIMIZE, (0.5, 0.8)), (Direction.MINIMIZE, (0.9, 0.8))],
)
def test_a_job_ends_when_its_goal_is_reached(
    server: RunningServer,
    connect: Connect,
    random_job: BuildJob,
    direction: Direction,
    scores: tuple[float, float],
) -> None:
    spec = StudySpec(knob_config=KNOBS, advisor=RANDOM)
    job = random_job(trials=50, goal_score=0.8, direction=direction, studies=(spec, spec))
    created = server.create_job(job)
    first, second = (study.name for study in created.studies)
    worker = connect(server, studies=(first,))
    bystander = connect(server, worker_id="bystander", studies=(second,))
    other = bystander.assignment()
    for score in scores:
        worker.complete(worker.assignment(), score)
    assert bystander.event("stop").stop.lease_token == other.lease.token
    bystander.report(other, cancelled=advisor_pb2.TrialCancelled())
    ended = server.ended(created.train_job.name)
    assert ended.state == jobs_pb2.TRAIN_JOB_STATE_SUCCEEDED
    assert ended.best_trial == f"{first}/trials/2"
    assert server.study(ended.name).end_reason == studies_pb2.END_REASON_GOAL_REACHED


def test_a_job_ends_when_its_time_is_over(
    server: RunningServer, connect: Connect, clock: OffsetClock, random_job: BuildJob
) -> None:
    created = server.create_job(random_job(budget=Budget(time=timedelta(hours=1))))
    worker = connect(server, studies=(created.studies[0].name,), capacity=2)
    first, second = worker.assignment(), worker.assignment()
    worker.complete(first)
    third = worker.assignment()
    clock.offset += timedelta(hours=1)
    worker.heartbeat(second.lease.token, third.lease.token)
    reasons = {worker.event("stop").stop.reason for _ in range(2)}
    assert reasons == {trials_pb2.STOP_REASON_EARLY_STOPPED}
    worker.complete(second)
    worker.complete(third)
    assert server.ended(created.train_job.name).state == jobs_pb2.TRAIN_JOB_STATE_SUCCEEDED
    study = server.study(created.train_job.name)
    assert study.end_reason == studies_pb2.END_REASON_TIME
    assert study.completed_trials == 3


def test_a_job_says_what_it_waits_for(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    created = server.create_job(random_job(budget=Budget(model_trial_count=5, gpu_count=1)))
    name, study = created.train_job.name, created.studies[0].name
    waiting_for = f"a worker with a GPU or TPU that names {study}"
    assert created.train_job.waiting_for == waiting_for
    plain = connect(server, worker_id="plain", studies=(study,))
    assert plain.has_nothing()
    job = server.job(name)
    assert (job.workers, job.waiting_for) == (0, waiting_for)
    worker = connect(server, worker_id="gpu", studies=(study,), gpus=1)
    assert worker.assignment().gpu_count == 1
    job = server.job(name)
    assert (job.workers, job.waiting_for) == (1, "")


def test_a_job_holds_no_more_accelerators_than_its_budget_says(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    spec = StudySpec(knob_config=KNOBS, advisor=RANDOM)
    job = random_job(budget=Budget(model_trial_count=5, gpu_count=2), studies=(spec, spec))
    created = server.create_job(job)
    name = created.train_job.name
    small = connect(server, worker_id="small", studies=(f"{name}/studies/-",), capacity=4, gpus=1)
    first = small.assignment()
    assert small.has_nothing()
    large = connect(server, worker_id="large", studies=(f"{name}/studies/-",), capacity=4, gpus=4)
    large.assignment()
    assert large.has_nothing()
    small.complete(first)
    small.assignment()
    assert large.has_nothing()


def test_studies_of_a_job_share_its_workers(
    server: RunningServer, connect: Connect, random_job: BuildJob
) -> None:
    spec = StudySpec(knob_config=KNOBS, advisor=RANDOM)
    created = server.create_job(random_job(trials=3, studies=(spec, spec)))
    worker = connect(server, studies=(f"{created.train_job.name}/studies/-",))
    taken = []
    for _ in range(6):
        assignment = worker.assignment()
        taken.append(assignment.trial.name.partition("/trials/")[0])
        worker.complete(assignment)
    assert [taken.count(study.name) for study in created.studies] == [3, 3]
    assert taken[:4].count(created.studies[0].name) == 2
    assert server.ended(created.train_job.name).state == jobs_pb2.TRAIN_JOB_STATE_SUCCEEDED


def test_names_that_do_not_exist_are_not_found(server: RunningServer) -> None:
    job = "trainJobs/00000000"
    study, trial = f"{job}/studies/1", f"{job}/studies/1/trials/1"
    calls: list[tuple[Any, Any]] = [
        (server.jobs.GetTrainJob, jobs_pb2.GetTrainJobRequest(name=job)),
        (server.jobs.StopTrainJob, jobs_pb2.StopTrainJobRequest(name=job)),
        (server.jobs.GetStudy, jobs_pb2.GetStudyRequest(name=study)),
        (server.jobs.ListStudies, jobs_pb2.ListStudiesRequest(parent=job)),
        (server.jobs.ListStudyRounds, jobs_pb2.ListStudyRoundsRequest(parent=study)),
        (server.jobs.GetTrial, jobs_pb2.GetTrialRequest(name=trial)),
        (server.jobs.ListTrials, jobs_pb2.ListTrialsRequest(parent=f"{job}/studies/-")),
        (server.jobs.ListBestTrials, jobs_pb2.ListBestTrialsRequest(parent=study)),
        (server.jobs.ListTrialLogs, jobs_pb2.ListTrialLogsRequest(parent=trial)),
        (server.jobs.ListTrialMetrics, jobs_pb2.ListTrialMetricsRequest(parent=trial)),
        (server.jobs.ListTrialPlots, jobs_pb2.ListTrialPlotsRequest(parent=trial)),
    ]
    for call, request in calls:
        with pytest.raises(grpc.RpcError) as raised:
            call(request, timeout=TIMEOUT_S)
        assert reason(raised.value) == "RESOURCE_NOT_FOUND"
    watch = server.jobs.WatchTrainJob(jobs_pb2.WatchTrainJobRequest(name=job), timeout=TIMEOUT_S)
    with pytest.raises(grpc.RpcError) as raised:
        next(watch)
    assert reason(raised.value) == "RESOURCE_NOT_FOUND"
    with pytest.raises(grpc.RpcError) as raised:
        server.job("jobs/1")
    assert reason(raised.value) == "INVALID_FIELD"
