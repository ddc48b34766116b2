"""DatasetService over a real channel."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from rafiki.server.domain.blobs import read_blob
from rafiki.server.domain.clock import Clock
from rafiki.server.rpc.datasets import DatasetServicer
from rafiki.server.rpc.streams import Streams
from rafiki.server.service.datasets import DatasetService
from rafiki.server.store.blobs import FileBlobs
from rafiki.server.store.database import Database
from rafiki.v1 import datasets_pb2 as messages
from rafiki.v1.datasets_pb2_grpc import DatasetServiceStub, add_DatasetServiceServicer_to_server
from rafiki.wire.blobs import chunks, digest_of
from rafiki.wire.params import digest_to_proto

Register = Callable[[grpc.aio.Server], None]
Served = Callable[[Register], AbstractContextManager[grpc.Channel]]

TIMEOUT_S = 20
CONTENT = bytes(range(256)) * 10_000


@pytest.fixture(scope="module")
def dialect() -> str:
    """What these tests ask of the database, other modules ask it on every kind."""
    return "sqlite"


@pytest.fixture
def stub(
    database: Database, blobs: FileBlobs, clock: Clock, served: Served
) -> Iterator[DatasetServiceStub]:
    streams = Streams(threads=2, idle_timeout_s=5)

    def register(server: grpc.aio.Server) -> None:
        servicer = DatasetServicer(DatasetService(database, blobs, clock), blobs, streams)
        add_DatasetServiceServicer_to_server(servicer, server)

    with served(register) as channel:
        yield DatasetServiceStub(channel)
    streams.close()


def dataset(content: bytes = CONTENT, task: str = "IMAGE_CLASSIFICATION") -> messages.Dataset:
    return messages.Dataset(
        display_name="Digits", task=task, digest=digest_to_proto(digest_of(content))
    )


def create(
    stub: DatasetServiceStub,
    description: messages.Dataset,
    content: bytes = b"",
    request_id: str = "",
) -> messages.Dataset:
    def parts() -> Iterator[messages.CreateDatasetRequest]:
        metadata = messages.CreateDatasetMetadata(dataset=description, request_id=request_id)
        yield messages.CreateDatasetRequest(metadata=metadata)
        for chunk in chunks(content):
            yield messages.CreateDatasetRequest(chunk=bytes(chunk))

    return stub.CreateDataset(parts(), timeout=TIMEOUT_S).dataset


def reason(error: grpc.RpcError) -> str:
    assert isinstance(error, grpc.Call)
    status = rpc_status.from_call(error)
    assert status is not None
    info = ErrorInfo()
    status.details[0].Unpack(info)
    return info.reason.removeprefix("ERROR_REASON_")


def test_a_data_set_is_stored_with_its_bytes(stub: DatasetServiceStub, blobs: FileBlobs) -> None:
    created = create(stub, dataset(), CONTENT)
    expected = dataset()
    expected.name = created.name
    expected.owner = "users/local"
    expected.create_time.CopyFrom(created.create_time)
    assert created == expected
    request = messages.GetDatasetRequest(name=created.name)
    assert stub.GetDataset(request, timeout=TIMEOUT_S).dataset == expected
    assert read_blob(blobs, digest_of(CONTENT)) == CONTENT


def test_stored_bytes_need_not_be_sent_again(stub: DatasetServiceStub) -> None:
    first = create(stub, dataset(), CONTENT)
    assert create(stub, dataset()).name != first.name


def test_repeating_a_request_creates_nothing_new(stub: DatasetServiceStub) -> None:
    request_id = str(uuid.uuid4())
    first = create(stub, dataset(), CONTENT, request_id)
    assert create(stub, dataset(), CONTENT, request_id) == first
    with pytest.raises(grpc.RpcError) as caught:
        create(stub, dataset(task="OTHER"), CONTENT, request_id)
    assert reason(caught.value) == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    ("description", "content", "expected"),
    [
        (dataset(), b"", "BLOBS_MISSING"),
        (dataset(b""), b"", "INVALID_FIELD"),
        (dataset(), CONTENT[:-1] + b"?", "DIGEST_MISMATCH"),
        (dataset(), CONTENT[:-1], "PROTOCOL_VIOLATION"),
        (dataset(), CONTENT + b"?", "PROTOCOL_VIOLATION"),
        (dataset(task=""), CONTENT, "INVALID_FIELD"),
        (messages.Dataset(display_name="d", task="T"), CONTENT, "INVALID_FIELD"),
    ],
    ids=[
        "nothing sent",
        "empty",
        "other bytes",
        "too few bytes",
        "too many bytes",
        "no task",
        "no digest",
    ],
)
def test_a_wrong_data_set_is_refused_and_nothing_kept(
    stub: DatasetServiceStub,
    blobs: FileBlobs,
    description: messages.Dataset,
    content: bytes,
    expected: str,
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        create(stub, description, content)
    assert reason(caught.value) == expected
    listed = stub.ListDatasets(messages.ListDatasetsRequest(), timeout=TIMEOUT_S)
    assert list(listed.datasets) == []
    assert not blobs.has(digest_of(CONTENT))


def test_an_unknown_data_set_is_not_found(stub: DatasetServiceStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetDataset(messages.GetDatasetRequest(name="datasets/00000000"), timeout=TIMEOUT_S)
    assert reason(caught.value) == "RESOURCE_NOT_FOUND"
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetDataset(messages.GetDatasetRequest(name="models/00000000"), timeout=TIMEOUT_S)
    assert reason(caught.value) == "INVALID_FIELD"


def test_data_sets_are_listed_newest_first_by_task_in_pages(stub: DatasetServiceStub) -> None:
    tasks = ["A", "B", "A", "A"]
    names = [create(stub, dataset(task=task), CONTENT).name for task in tasks]
    request = messages.ListDatasetsRequest(task="A", page_size=2)
    first = stub.ListDatasets(request, timeout=TIMEOUT_S)
    request.page_token = first.next_page_token
    second = stub.ListDatasets(request, timeout=TIMEOUT_S)
    listed = [dataset.name for dataset in (*first.datasets, *second.datasets)]
    assert listed == [names[3], names[2], names[0]]
    assert second.next_page_token == ""
