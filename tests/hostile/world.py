"""What is on a server before it is attacked: one of each resource, and leases to report on."""

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.hostile.process import ServerProcess
from tests.server.live import FakeWorker

from rafiki.client import Client
from rafiki.model.knobs import (
    ArchKnob,
    CategoricalKnob,
    FixedKnob,
    FloatKnob,
    IntegerKnob,
    KnobConfig,
    KnobValue,
    Policy,
    PolicyKnob,
)
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    StudySpec,
    TrainJob,
)
from rafiki.v1 import advisor_pb2, params_pb2

# Trials that a worker holds at once, to be reported on by whoever names their leases.
LEASES = 60
SOURCE_CLASS = "template:Template"
_CONV = KnobValue("conv")
PLAIN_KNOBS: KnobConfig = {
    "rate": FloatKnob(1e-4, 1.0, is_exp=True),
    "units": IntegerKnob(1, 1000),
    "kind": CategoricalKnob(["a", "b", "c"]),
}
ENAS_KNOBS: KnobConfig = {
    "batch": FixedKnob(32),
    "cell": ArchKnob([[_CONV, KnobValue("pool")], [_CONV, KnobValue("skip")]]),
    **{policy.lower(): PolicyKnob(policy) for policy in Policy},
}
TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The names of what there is; `leases` are pairs of a trial and its token."""

    model: str
    dataset: str
    job: str
    study: str
    checkpoint: str
    blob: params_pb2.Digest
    leases: tuple[tuple[str, str], ...]
    done_trial: tuple[str, str]
    worker: FakeWorker

    @property
    def texts(self) -> list[str]:
        """Names and tokens that the server knows."""
        trial, token = self.leases[0]
        names = [self.model, self.dataset, self.job, self.study, self.checkpoint, *self.done_trial]
        return [*names, trial, token, self.blob.sha256, f"{self.job}/studies/-", "TEST", "hostile"]


def source_archive() -> bytes:
    """A template, of which the server sees an archive."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.writestr(zipfile.ZipInfo("template.py"), "class Template: ...\n")
    return archive.getvalue()


def job_of(knobs: KnobConfig, kind: AdvisorKind, budget: Budget) -> TrainJob:
    """A job of one external study."""
    spec = StudySpec(knob_config=knobs, advisor=AdvisorSettings(kind=kind))
    return TrainJob(app="hostile", task="TEST", studies=(spec,), budget=budget, seed=7)


def settle(server: ServerProcess, folder: Path) -> World:
    """Creates it all."""
    data = folder / "data.bin"
    data.write_bytes(b"some data")
    with Client(server.address) as client:
        model = client.create_model(
            source_archive(),
            display_name="m",
            task="TEST",
            model_class=SOURCE_CLASS,
            knob_config=ENAS_KNOBS,
        )
        dataset = client.create_dataset(data, task="TEST")
        # The server imports jax for the first of these.
        for knobs, kind, count in (
            (ENAS_KNOBS, AdvisorKind.ENAS, 500),
            (PLAIN_KNOBS, AdvisorKind.BAYES_OPT, 500),
        ):
            job = client.create_train_job(job_of(knobs, kind, Budget(model_trial_count=count)))[0]
            client.stop_train_job(job.name)
        forever = Budget(model_trial_count=10**6)
        job = client.create_train_job(job_of(PLAIN_KNOBS, AdvisorKind.RANDOM, forever))[0]
    study = f"{job.name}/studies/1"
    worker = FakeWorker(server, worker_id="settler", studies=(study,), capacity=LEASES)
    assignments = [worker.assignment() for _ in range(LEASES)]
    blob, checkpoint = _checkpoint(server, study, assignments[0].lease.token)
    worker.complete(assignments[0])
    return World(
        model=model.name,
        dataset=dataset.name,
        job=job.name,
        study=study,
        checkpoint=checkpoint,
        blob=blob,
        leases=tuple((x.trial.name, x.lease.token) for x in assignments[1:]),
        done_trial=(assignments[0].trial.name, assignments[0].lease.token),
        worker=worker,
    )


def _checkpoint(server: ServerProcess, study: str, token: str) -> tuple[params_pb2.Digest, str]:
    data = bytes(24)
    digest = params_pb2.Digest(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data))
    frames = [
        params_pb2.UploadBlobsRequest(header=digest),
        params_pb2.UploadBlobsRequest(chunk=data),
    ]
    server.parameters.UploadBlobs(iter(frames), timeout=TIMEOUT_S)
    tensor = params_pb2.Tensor(
        path="w", dtype=params_pb2.DTYPE_FLOAT32, shape=[2, 3], digest=digest
    )
    request = params_pb2.CreateCheckpointRequest(
        parent=study,
        checkpoint=params_pb2.Checkpoint(tensors=[tensor]),
        lease_token=token,
    )
    created = server.parameters.CreateCheckpoint(request, timeout=TIMEOUT_S)
    return digest, created.checkpoint.name


def opening(worker_id: str = "w") -> advisor_pb2.StreamTrialsRequest:
    """The first message of a session."""
    opened = advisor_pb2.OpenSession(
        worker_id=worker_id,
        capacity=1,
        devices=[advisor_pb2.WorkerDevice(platform=advisor_pb2.PLATFORM_CPU, count=1)],
    )
    return advisor_pb2.StreamTrialsRequest(open=opened)
