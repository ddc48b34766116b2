"""ParameterService over a real channel."""

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import grpc
import ml_dtypes
import numpy as np
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, PreconditionFailure
from grpc_status import rpc_status

from rafiki.resources import Digest, Tensor, TrialState
from rafiki.server.domain.clock import Clock
from rafiki.server.domain.names import StudyName, TrialName
from rafiki.server.rpc.parameters import ParameterServicer
from rafiki.server.rpc.streams import Streams
from rafiki.server.service.checkpoints import CheckpointService
from rafiki.server.service.collection import Collector
from rafiki.server.store.blobs import FileBlobs
from rafiki.server.store.database import Database
from rafiki.v1 import params_pb2 as messages
from rafiki.v1.params_pb2_grpc import ParameterServiceStub
from rafiki.wire.blobs import (
    CHUNK_BYTES,
    Buffer,
    decode_params,
    digest_of,
    encode_params,
    frame_from_proto,
    frames,
    read_blobs,
    upload_requests,
)
from rafiki.wire.params import digest_to_proto, tensor_from_proto, tensor_to_proto

Register = Callable[[grpc.aio.Server], None]
Served = Callable[[Register], AbstractContextManager[grpc.Channel]]
AddTrial = Callable[..., TrialName]

TIMEOUT_S = 20


@pytest.fixture
def stub(
    database: Database,
    blobs: FileBlobs,
    collector: Collector,
    clock: Clock,
    served: Served,
) -> Iterator[ParameterServiceStub]:
    streams = Streams(threads=2, idle_timeout_s=5, max_per_peer=3)

    def register(server: grpc.aio.Server) -> None:
        checkpoints = CheckpointService(database, blobs, clock)
        servicer = ParameterServicer(checkpoints, collector, blobs, streams)
        servicer.add_to(server)

    with served(register) as channel:
        yield ParameterServiceStub(channel)
    streams.close()


def upload(stub: ParameterServiceStub, contents: Iterable[Buffer]) -> int:
    requests = upload_requests(frames((digest_of(data), data) for data in contents))
    return stub.UploadBlobs(requests, timeout=TIMEOUT_S).committed_bytes


def download(stub: ParameterServiceStub, digests: list[Digest]) -> list[bytes]:
    request = messages.DownloadBlobsRequest(digests=map(digest_to_proto, digests))
    responses = map(frame_from_proto, stub.DownloadBlobs(request, timeout=TIMEOUT_S))
    return [bytes(data) for _, data in read_blobs(responses, digests)]


def missing(stub: ParameterServiceStub, digests: Iterable[Digest]) -> list[str]:
    request = messages.FindMissingBlobsRequest(digests=map(digest_to_proto, digests))
    answer = stub.FindMissingBlobs(request, timeout=TIMEOUT_S)
    return [digest.sha256 for digest in answer.missing_digests]


def create(
    stub: ParameterServiceStub, study: StudyName, tensors: Iterable[Tensor], lease_token: str
) -> messages.Checkpoint:
    request = messages.CreateCheckpointRequest(
        parent=str(study),
        checkpoint=messages.Checkpoint(tensors=map(tensor_to_proto, tensors)),
        lease_token=lease_token,
    )
    return stub.CreateCheckpoint(request, timeout=TIMEOUT_S).checkpoint


def detail(error: grpc.RpcError, kind: type[Message]) -> Message:
    assert isinstance(error, grpc.Call)
    status = rpc_status.from_call(error)
    assert status is not None
    for packed in status.details:
        message = kind()
        if packed.Unpack(message):
            return message
    raise AssertionError(f"no {kind.__name__} in {status}")


def reason(error: grpc.RpcError) -> str:
    info = detail(error, ErrorInfo)
    assert isinstance(info, ErrorInfo)
    assert info.domain == "rafiki"
    return info.reason.removeprefix("ERROR_REASON_")


PARAMS: dict[str, np.ndarray] = {
    "bf16": np.array([[1.5, -0.0], [np.inf, np.nan]]).astype(ml_dtypes.bfloat16),
    "bool": np.array([True, False, True]),
    "double": np.array([np.pi, np.nan, -np.inf]),
    "empty": np.zeros((0, 3), np.float32),
    "f8": np.array([0.5, -448.0]).astype(ml_dtypes.float8_e4m3fn),
    "float": np.arange(12, dtype=np.float32).reshape(3, 4) / 7,
    "int8": np.array([-128, 127], np.int8),
    "large": np.arange(700_000, dtype=np.float32),
    "optimizer/step": np.array(3, np.int64),
    "scalar": np.array(0.1, np.float32),
    "u64": np.array([2**64 - 1], np.uint64),
}


def test_parameters_survive_bit_for_bit(
    stub: ParameterServiceStub, study: StudyName, add_trial: AddTrial
) -> None:
    add_trial(1, "lease-1")
    tensors, contents = encode_params(PARAMS, {"float": 7})
    upload(stub, contents.values())
    name = create(stub, study, tensors, "lease-1").name

    request = messages.GetCheckpointRequest(name=name)
    manifest = stub.GetCheckpoint(request, timeout=TIMEOUT_S).checkpoint
    read = [tensor_from_proto(tensor) for tensor in manifest.tensors]
    digests = list({tensor.digest.sha256: tensor.digest for tensor in read}.values())
    held = dict(zip((digest.sha256 for digest in digests), download(stub, digests), strict=True))
    params = decode_params(read, held)

    assert read == tensors
    assert list(params) == list(PARAMS)
    for path, array in PARAMS.items():
        assert params[path].dtype == array.dtype
        assert params[path].shape == array.shape
        assert params[path].tobytes() == array.tobytes()


def test_a_second_push_of_the_same_sends_no_tensor_bytes(
    stub: ParameterServiceStub, study: StudyName, add_trial: AddTrial
) -> None:
    tensors, contents = encode_params(PARAMS)
    digests = [tensor.digest for tensor in tensors]
    assert set(missing(stub, digests)) == set(contents)
    upload(stub, contents.values())
    assert missing(stub, digests) == []

    add_trial(1, "lease-1")
    add_trial(2, "lease-2")
    first = create(stub, study, tensors, "lease-1")
    second = create(stub, study, tensors, "lease-2")
    assert first.tensors == second.tensors
    assert first.name != second.name


def test_only_the_tensor_that_changed_is_missing(stub: ParameterServiceStub) -> None:
    _, contents = encode_params(PARAMS)
    upload(stub, contents.values())
    changed = dict(PARAMS, int8=np.array([-128, 126], np.int8))
    tensors, _ = encode_params(changed)
    by_path = {tensor.path: tensor.digest for tensor in tensors}
    assert missing(stub, by_path.values()) == [by_path["int8"].sha256]


def test_large_blobs_come_in_chunks_of_a_mebibyte(stub: ParameterServiceStub) -> None:
    data = bytes(2 * CHUNK_BYTES + 5)
    upload(stub, [data])
    request = messages.DownloadBlobsRequest(digests=[digest_to_proto(digest_of(data))])
    sizes = [
        len(response.chunk)
        for response in stub.DownloadBlobs(request, timeout=TIMEOUT_S)
        if response.WhichOneof("frame") == "chunk"
    ]
    assert sizes == [CHUNK_BYTES, CHUNK_BYTES, 5]


def test_an_upload_says_how_much_it_stored(stub: ParameterServiceStub) -> None:
    assert upload(stub, [b"", b"12", b"345"]) == 5
    assert upload(stub, [b"12"]) == 2
    assert upload(stub, []) == 0


def test_a_download_resumes_at_an_offset(stub: ParameterServiceStub) -> None:
    upload(stub, [b"0123456789", b"abc"])
    request = messages.DownloadBlobsRequest(
        digests=[digest_to_proto(digest_of(data)) for data in (b"0123456789", b"abc")],
        offset_bytes=4,
    )
    chunks = [response.chunk for response in stub.DownloadBlobs(request, timeout=TIMEOUT_S)]
    assert chunks == [b"", b"456789", b"", b"abc"]


def test_a_digest_mismatch_is_refused_and_the_blobs_before_it_are_kept(
    stub: ParameterServiceStub,
) -> None:
    good, evil = digest_of(b"good"), digest_of(b"evil")
    requests = upload_requests([good, b"good", Digest(evil.sha256, 4), b"good"])
    with pytest.raises(grpc.RpcError) as caught:
        stub.UploadBlobs(requests, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(caught.value) == "DIGEST_MISMATCH"
    info = detail(caught.value, ErrorInfo)
    assert isinstance(info, ErrorInfo)
    assert info.metadata == {"expected": evil.sha256, "actual": good.sha256}
    assert missing(stub, [good, evil]) == [evil.sha256]


HEADER = Digest(digest_of(b"four").sha256, 4)


@pytest.mark.parametrize(
    "parts",
    [
        [b"four"],
        [HEADER, HEADER],
        [HEADER, b"fo"],
        [HEADER, b"fourfour"],
        [HEADER, b"four", b"more"],
        [HEADER, b""],
        [Digest("0" * 64, 2 * CHUNK_BYTES), bytes(CHUNK_BYTES + 1)],
    ],
    ids=[
        "chunk first",
        "two headers",
        "too few bytes",
        "too many bytes",
        "chunk after the end",
        "empty chunk",
        "large chunk",
    ],
)
def test_frames_out_of_turn_are_refused(
    stub: ParameterServiceStub, parts: list[Digest | bytes]
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.UploadBlobs(upload_requests(parts), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert reason(caught.value) == "PROTOCOL_VIOLATION"


def test_a_frame_that_is_neither_is_refused(stub: ParameterServiceStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.UploadBlobs(iter([messages.UploadBlobsRequest()]), timeout=TIMEOUT_S)
    assert reason(caught.value) == "INVALID_FIELD"


@pytest.mark.parametrize("sha256", ["", "../../../etc/passwd", "A" * 64, "0" * 63])
def test_a_malformed_digest_is_refused_everywhere(stub: ParameterServiceStub, sha256: str) -> None:
    digest = messages.Digest(sha256=sha256, size_bytes=4)
    upload_request = messages.UploadBlobsRequest(header=digest)
    calls: list[Callable[[], object]] = [
        lambda: stub.UploadBlobs(iter([upload_request]), timeout=TIMEOUT_S),
        lambda: list(
            stub.DownloadBlobs(messages.DownloadBlobsRequest(digests=[digest]), timeout=TIMEOUT_S)
        ),
        lambda: stub.FindMissingBlobs(
            messages.FindMissingBlobsRequest(digests=[digest]), timeout=TIMEOUT_S
        ),
    ]
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        fields = detail(caught.value, BadRequest)
        assert isinstance(fields, BadRequest)
        assert fields.field_violations[0].field.endswith("sha256")


def test_a_silent_upload_ends_after_the_idle_timeout(
    database: Database,
    blobs: FileBlobs,
    collector: Collector,
    clock: Clock,
    served: Served,
) -> None:
    streams = Streams(threads=1, idle_timeout_s=0.2)
    answered = threading.Event()

    def register(server: grpc.aio.Server) -> None:
        checkpoints = CheckpointService(database, blobs, clock)
        servicer = ParameterServicer(checkpoints, collector, blobs, streams)
        servicer.add_to(server)

    def silent() -> Iterator[messages.UploadBlobsRequest]:
        yield from upload_requests([digest_of(b"kept"), b"kept"])
        answered.wait(TIMEOUT_S)

    with served(register) as channel:
        stub = ParameterServiceStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.UploadBlobs(silent(), timeout=TIMEOUT_S)
        answered.set()
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert "nothing was received" in str(caught.value.details())
        assert missing(stub, [digest_of(b"kept")]) == []
    streams.close()


def test_unknown_blobs_are_not_found_before_the_first_frame(stub: ParameterServiceStub) -> None:
    upload(stub, [b"here"])
    digests = [digest_of(b"here"), digest_of(b"gone")]
    request = messages.DownloadBlobsRequest(digests=map(digest_to_proto, digests))
    responses = stub.DownloadBlobs(request, timeout=TIMEOUT_S)
    with pytest.raises(grpc.RpcError) as caught:
        next(responses)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason(caught.value) == "RESOURCE_NOT_FOUND"


def test_a_damaged_blob_is_data_loss_and_missing_from_then_on(
    stub: ParameterServiceStub, tmp_path: Path
) -> None:
    upload(stub, [b"good"])
    digest = digest_of(b"good")
    (tmp_path / "blobs" / digest.sha256[:2] / digest.sha256).write_bytes(b"evil")
    with pytest.raises(grpc.RpcError) as caught:
        download(stub, [digest])
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS
    assert reason(caught.value) == "BLOB_CORRUPT"
    assert missing(stub, [digest]) == [digest.sha256]


@pytest.mark.parametrize("offset_bytes", [-1, 5])
def test_an_offset_outside_the_blob_is_refused(
    stub: ParameterServiceStub, offset_bytes: int
) -> None:
    upload(stub, [b"here"])
    request = messages.DownloadBlobsRequest(
        digests=[digest_to_proto(digest_of(b"here"))], offset_bytes=offset_bytes
    )
    with pytest.raises(grpc.RpcError) as caught:
        next(stub.DownloadBlobs(request, timeout=TIMEOUT_S))
    assert reason(caught.value) == "INVALID_FIELD"


def test_a_checkpoint_says_where_it_comes_from(
    stub: ParameterServiceStub, study: StudyName, add_trial: AddTrial
) -> None:
    start = f"{study}/checkpoints/1-1"
    add_trial(4, "lease-4", attempt=2, start_checkpoint=start, shard_index=1, shard_count=3)
    tensors, contents = encode_params({"w": np.ones(2, np.float32)})
    upload(stub, contents.values())
    created = create(stub, study, tensors, "lease-4")
    assert created.name == f"{study}/checkpoints/4-2"
    assert created.provenance == messages.Provenance(
        trial=f"{study}/trials/4",
        attempt=2,
        parents=[start],
        shard=messages.Shard(index=1, count=3),
    )
    assert created.size_bytes == 8
    read = stub.GetCheckpoint(
        messages.GetCheckpointRequest(name=created.name), timeout=TIMEOUT_S
    ).checkpoint
    assert read == created


def test_a_checkpoint_is_created_once(
    stub: ParameterServiceStub, study: StudyName, add_trial: AddTrial
) -> None:
    add_trial(1, "lease-1")
    tensors, contents = encode_params({"w": np.ones(2)})
    others, more = encode_params({"w": np.zeros(2)})
    upload(stub, [*contents.values(), *more.values()])
    assert create(stub, study, tensors, "lease-1") == create(stub, study, tensors, "lease-1")
    with pytest.raises(grpc.RpcError) as caught:
        create(stub, study, others, "lease-1")
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert reason(caught.value) == "RESOURCE_ALREADY_EXISTS"


def test_a_checkpoint_needs_its_blobs(
    stub: ParameterServiceStub, study: StudyName, add_trial: AddTrial
) -> None:
    add_trial(1, "lease-1")
    params = {f"layer-{number:04}": np.full(3, number) for number in range(200)}
    tensors, contents = encode_params(params)
    with pytest.raises(grpc.RpcError) as caught:
        create(stub, study, tensors, "lease-1")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason(caught.value) == "BLOBS_MISSING"
    failure = detail(caught.value, PreconditionFailure)
    assert isinstance(failure, PreconditionFailure)
    assert len(failure.violations) > 40
    assert {violation.type for violation in failure.violations} == {"MISSING"}
    assert {violation.subject for violation in failure.violations} < set(contents)
    listed = stub.ListCheckpoints(
        messages.ListCheckpointsRequest(parent=str(study)), timeout=TIMEOUT_S
    )
    assert list(listed.checkpoints) == []


@pytest.mark.parametrize(
    "columns",
    [
        {"state": TrialState.COMPLETED},
        {"state": TrialState.ERRORED},
        {"state": TrialState.CANCELLED},
        {"state": TrialState.PENDING, "error_kind": "CRASHED"},
        {"lease_token": "lease-2"},
    ],
    ids=["completed", "errored", "cancelled", "failed attempt", "assigned again"],
)
def test_a_lost_lease_saves_nothing(
    stub: ParameterServiceStub, study: StudyName, add_trial: AddTrial, columns: dict[str, object]
) -> None:
    add_trial(1, **({"lease_token": "lease-1"} | columns))
    with pytest.raises(grpc.RpcError) as caught:
        create(stub, study, [], "lease-1")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert reason(caught.value) == "LEASE_LOST"


def test_a_late_checkpoint_is_taken_until_the_trial_is_assigned_again(
    stub: ParameterServiceStub, study: StudyName, add_trial: AddTrial
) -> None:
    add_trial(1, "lease-1", state=TrialState.PENDING)
    assert create(stub, study, [], "lease-1").name == f"{study}/checkpoints/1-1"


@pytest.mark.parametrize(
    ("parent", "lease_token", "expected"),
    [
        ("trainJobs/0123abcd/studies/2", "lease-1", "RESOURCE_NOT_FOUND"),
        ("trainJobs/0123abcd", "lease-1", "INVALID_FIELD"),
        ("trainJobs/0123abcd/studies/1", "", "INVALID_FIELD"),
        ("trainJobs/0123abcd/studies/1", "no-such-lease", "LEASE_LOST"),
    ],
)
def test_a_checkpoint_needs_a_study_and_a_lease(
    stub: ParameterServiceStub,
    study: StudyName,
    add_trial: AddTrial,
    parent: str,
    lease_token: str,
    expected: str,
) -> None:
    add_trial(1, "lease-1")
    request = messages.CreateCheckpointRequest(parent=parent, lease_token=lease_token)
    with pytest.raises(grpc.RpcError) as caught:
        stub.CreateCheckpoint(request, timeout=TIMEOUT_S)
    assert reason(caught.value) == expected


def test_tensors_out_of_order_are_refused(
    stub: ParameterServiceStub, study: StudyName, add_trial: AddTrial
) -> None:
    add_trial(1, "lease-1")
    tensors, contents = encode_params({"a": np.ones(2), "b": np.ones(3)})
    upload(stub, contents.values())
    with pytest.raises(grpc.RpcError) as caught:
        create(stub, study, reversed(tensors), "lease-1")
    assert reason(caught.value) == "INVALID_FIELD"


@pytest.mark.parametrize("name", ["", "trainJobs/0123abcd/studies/1/checkpoints/x"])
def test_a_malformed_name_is_refused(stub: ParameterServiceStub, name: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetCheckpoint(messages.GetCheckpointRequest(name=name), timeout=TIMEOUT_S)
    assert reason(caught.value) == "INVALID_FIELD"


def test_an_unknown_checkpoint_is_not_found(stub: ParameterServiceStub, study: StudyName) -> None:
    request = messages.GetCheckpointRequest(name=f"{study}/checkpoints/9-9")
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetCheckpoint(request, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert reason(caught.value) == "RESOURCE_NOT_FOUND"


def test_checkpoints_are_listed_newest_first_in_pages_without_tensors(
    stub: ParameterServiceStub, study: StudyName, add_trial: AddTrial
) -> None:
    tensors, contents = encode_params({"w": np.ones(2)})
    upload(stub, contents.values())
    for number in range(1, 6):
        add_trial(number, f"lease-{number}")
        create(stub, study, tensors, f"lease-{number}")
    names: list[str] = []
    request = messages.ListCheckpointsRequest(parent=str(study), page_size=2)
    for expected in (2, 2, 1):
        page = stub.ListCheckpoints(request, timeout=TIMEOUT_S)
        assert len(page.checkpoints) == expected
        assert not any(checkpoint.tensors for checkpoint in page.checkpoints)
        names += [checkpoint.name for checkpoint in page.checkpoints]
        request.page_token = page.next_page_token
    assert request.page_token == ""
    assert names == [f"{study}/checkpoints/{number}-1" for number in (5, 4, 3, 2, 1)]


def test_an_oversized_message_is_refused_cleanly(stub: ParameterServiceStub) -> None:
    parts: list[Digest | bytes] = [Digest("0" * 64, 5 << 20), bytes(5 << 20)]
    with pytest.raises(grpc.RpcError) as caught:
        stub.UploadBlobs(upload_requests(parts), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert upload(stub, [b"still here"]) == 10
