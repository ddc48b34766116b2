"""Shards merged by a real server, from real blobs."""

import io
import threading
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from tests.server.live import Connect, FakeWorker, RunningServer, StartServer

from rafiki.client import Client
from rafiki.model.knobs import ArchKnob, Policy, PolicyKnob
from rafiki.resources import (
    AdvisorSettings,
    Budget,
    Checkpoint,
    Digest,
    EnasOptions,
    StudySpec,
    TrainJob,
)
from rafiki.server.domain.advisor import Merge
from rafiki.server.domain.names import StudyName
from rafiki.server.service.merging import Merger
from rafiki.v1 import advisor_pb2, params_pb2, params_pb2_grpc
from rafiki.wire.blobs import encode_params, frames, upload_requests
from rafiki.wire.params import checkpoint_to_proto

Connector = Callable[[RunningServer], Client]

BF16 = np.dtype(ml_dtypes.bfloat16)

BASE: dict[str, np.ndarray] = {
    "both": np.array([1.0, 2.0], np.float32),
    "empty": np.zeros((0, 4), np.float32),
    "half": np.array([1.0], BF16),
    "neither": np.array([7.0, 8.0], np.float32),
    "one": np.array([0.1, 0.2], np.float32),
    "optimizer/momentum/both": np.zeros(2, np.float32),
    "optimizer/steps": np.array(2, np.int64),
    "scalar": np.array(1.0, np.float64),
    "unknown": np.array([0.0], np.float32),
}
FIRST = BASE | {
    "both": np.array([2.0, 2.0], np.float32),
    "half": np.array([1.5], BF16),
    "optimizer/momentum/both": np.array([4.0, 0.0], np.float32),
    "optimizer/steps": np.array(4, np.int64),
    "scalar": np.array(2.0),
    "unknown": np.array([1.0], np.float32),
}
SECOND = BASE | {
    "both": np.array([1.0, 6.0], np.float32),
    "half": np.array([3.0], BF16),
    "one": np.array([0.3, 0.4], np.float32),
    "optimizer/momentum/both": np.array([0.0, 8.0], np.float32),
    "optimizer/steps": np.array(3, np.int64),
    "scalar": np.array(5.0),
    "unknown": np.array([2.0], np.float32),
}
# What is not counted weighs 1.
FIRST_UPDATES = {"both": 3, "half": 2, "optimizer/momentum/both": 3}
SECOND_UPDATES = {"both": 1, "optimizer/momentum/both": 1, "scalar": 3, "unknown": 9}
MERGED = BASE | {
    "both": np.array([1.75, 3.0], np.float32),  # 1 + 3/4 * 1, 2 + 1/4 * 4
    "half": np.array([2.0], BF16),  # 1 + (2 * 0.5 + 1 * 2) / 3
    "one": SECOND["one"],
    "optimizer/momentum/both": np.array([3.0, 2.0], np.float32),
    "optimizer/steps": np.array(5, np.int64),  # 2 + 2 + 1
    "scalar": np.array(4.25),  # 1 + (1 * 1 + 3 * 4) / 4
    "unknown": np.array([1.9], np.float32),  # (1 * 1 + 9 * 2) / 10
}
UNTOUCHED = ("empty", "neither")


@pytest.fixture(scope="module")
def dialect() -> str:
    """What these tests ask of the database, other modules ask it on every kind."""
    return "sqlite"


def create_study(client: Client, folder: Path, trials: int = 8) -> str:
    """A small ENAS study of a template whose source nobody reads."""
    policies = {policy.lower(): PolicyKnob(policy) for policy in Policy}
    source = io.BytesIO()
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("merging.py", "class Model: ...")
    model = client.create_model(
        source.getvalue(),
        display_name="merging",
        task="ANY",
        model_class="merging:Model",
        knob_config={"path": ArchKnob([["a", "b"]] * 3), **policies},
        candidate_batches=True,
    )
    data = folder / "data.zip"
    data.write_bytes(b"never read")
    dataset = client.create_dataset(data, task="ANY")
    options = EnasOptions(candidates_per_batch=2, batches_per_round=1, final_evals=2, hidden_size=4)
    job = TrainJob(
        app="merging",
        task="ANY",
        studies=(StudySpec(model=model.name, advisor=AdvisorSettings(enas=options)),),
        budget=Budget(model_trial_count=trials),
        train_dataset=dataset.name,
        validation_dataset=dataset.name,
        seed=1,
    )
    return f"{client.create_train_job(job)[0].name}/studies/1"


def save(
    server: RunningServer,
    worker: FakeWorker,
    assignment: advisor_pb2.TrialAssignment,
    params: Mapping[str, np.ndarray],
    updates: Mapping[str, int],
) -> str:
    """Saves parameters and completes the trial; returns the checkpoint."""
    stub = params_pb2_grpc.ParameterServiceStub(server.channel)
    tensors, blobs = encode_params(params, updates)
    parts = frames((Digest(sha256, len(data)), data) for sha256, data in blobs.items())
    stub.UploadBlobs(upload_requests(parts))
    request = params_pb2.CreateCheckpointRequest(
        parent=assignment.trial.name.rpartition("/trials/")[0],
        checkpoint=checkpoint_to_proto(Checkpoint(tensors=tuple(tensors))),
        lease_token=assignment.lease.token,
    )
    name: str = stub.CreateCheckpoint(request).checkpoint.name
    worker.report(assignment, completed=advisor_pb2.TrialCompleted(checkpoint=name))
    return name


def begin_second_round(
    server: RunningServer, connect: Connect
) -> tuple[str, list[tuple[FakeWorker, advisor_pb2.TrialAssignment]]]:
    """The PROBE, a first round that gives BASE, and the shards of the next, each assigned.

    Returns:
        The checkpoint of the first round; per shard its worker and trial.
    """
    first = connect(server, worker_id="first")
    costs = advisor_pb2.TrialCosts(steps_per_epoch=3)
    first.report(first.assignment(), completed=advisor_pb2.TrialCompleted(costs=costs))
    base = save(server, first, first.assignment(), BASE, {})
    evaluation = first.assignment()
    second = connect(server, worker_id="second")
    scores = advisor_pb2.TrialCompleted(candidate_scores=[0.1, 0.2])
    first.report(evaluation, completed=scores)
    shards = [(worker, worker.assignment()) for worker in (first, second)]
    return base, sorted(shards, key=lambda shard: shard[1].trial.shard.index)


def finish_shards(
    server: RunningServer,
    shards: list[tuple[FakeWorker, advisor_pb2.TrialAssignment]],
    last: Mapping[str, np.ndarray] = FIRST,
) -> list[str]:
    """Saves SECOND, then FIRST or another, whose worker is the only one left."""
    (first, first_trial), (second, second_trial) = shards
    saved = save(server, second, second_trial, SECOND, SECOND_UPDATES)
    second.close()
    return [save(server, first, first_trial, last, FIRST_UPDATES), saved]


def check_merged(params: Mapping[str, np.ndarray]) -> None:
    """Raises unless these are the parameters computed by hand."""
    assert params.keys() == MERGED.keys()
    for path, expected in MERGED.items():
        assert (params[path].dtype, params[path].shape) == (expected.dtype, expected.shape)
        np.testing.assert_array_equal(params[path], expected, err_msg=path)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Connector]:
    """Connects clients."""
    clients: list[Client] = []

    def connect_client(server: RunningServer) -> Client:
        clients.append(Client(server.address))
        return clients[-1]

    yield connect_client
    for one in clients:
        one.close()


def test_two_shards_give_the_average_computed_by_hand(
    start_server: StartServer, connect: Connect, client: Connector, tmp_path: Path
) -> None:
    with start_server() as server:
        api = client(server)
        create_study(api, tmp_path)
        base, shards = begin_second_round(server, connect)
        assert [len(trial.trial.candidates) for _, trial in shards] == [2, 1]
        saved = finish_shards(server, shards)
        evaluation = shards[0][0].assignment().trial
        merged = api.get_checkpoint(evaluation.start_checkpoint)
        check_merged(api.download_checkpoint(merged.name))
        origin = {tensor.path: tensor for tensor in api.get_checkpoint(base).tensors}

    # Of attempt 0 of the last shard that ended, and of no trial.
    assert merged.name == saved[0].removesuffix("-1") + "-0"
    assert (merged.trial, merged.attempt, merged.shard) == ("", 0, None)
    assert merged.parents == tuple(saved)
    assert evaluation.round == 2
    tensors = {tensor.path: tensor for tensor in merged.tensors}
    for path in UNTOUCHED:
        assert (tensors[path].digest, tensors[path].updates) == (origin[path].digest, 0)
    assert tensors["both"].updates == 4
    assert tensors["unknown"].updates == 0


def test_a_server_that_dies_before_the_merge_is_stored_merges_again_to_the_same_bytes(
    start_server: StartServer,
    connect: Connect,
    client: Connector,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    merges: list[Checkpoint] = []
    is_dead = threading.Event()
    merge = Merger.merge

    def die(self: Merger, study: StudyName, order: Merge) -> Checkpoint:
        merges.append(merge(self, study, order))
        is_dead.set()
        raise RuntimeError("the blobs are stored, the checkpoint is not")

    with start_server() as server:
        create_study(client(server), tmp_path)
        _, shards = begin_second_round(server, connect)
        monkeypatch.setattr(Merger, "merge", die)
        finish_shards(server, shards)
        assert is_dead.wait(20)
    monkeypatch.setattr(Merger, "merge", merge)
    blobs = sorted((tmp_path / "blobs").rglob("*"))
    with start_server() as server:
        evaluation = connect(server, worker_id="third").assignment().trial
        api = client(server)
        merged = api.get_checkpoint(evaluation.start_checkpoint)
        check_merged(api.download_checkpoint(merged.name))
    assert merged.tensors == merges[0].tensors
    assert sorted((tmp_path / "blobs").rglob("*")) == blobs


def test_shards_that_cannot_be_merged_are_trained_again(
    start_server: StartServer, connect: Connect, client: Connector, tmp_path: Path
) -> None:
    with start_server() as server:
        study = create_study(client(server), tmp_path, trials=10)
        _, shards = begin_second_round(server, connect)
        finish_shards(server, shards, {path: BASE[path] for path in BASE if path != "one"})
        first = shards[0][0]
        again = first.assignment()
        assert (again.trial.round, again.trial.shard.index) == (2, 0)
        save(server, first, again, FIRST, FIRST_UPDATES)
        save(server, first, first.assignment(), SECOND, SECOND_UPDATES)
        evaluation = first.assignment().trial
        check_merged(client(server).download_checkpoint(evaluation.start_checkpoint))
        checkpoints = list_checkpoints(server, study)
    assert len(checkpoints) == len(set(checkpoints)) == 1 + 4 + 1
    assert evaluation.start_checkpoint in checkpoints


def list_checkpoints(server: RunningServer, study: str) -> list[str]:
    """The names of all checkpoints of a study."""
    stub = params_pb2_grpc.ParameterServiceStub(server.channel)
    response = stub.ListCheckpoints(params_pb2.ListCheckpointsRequest(parent=study))
    return [checkpoint.name for checkpoint in response.checkpoints]
