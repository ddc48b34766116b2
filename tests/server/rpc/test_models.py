"""ModelService over a real channel."""

import io
import uuid
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from rafiki.model.knobs import ArchKnob, CategoricalKnob, FixedKnob, KnobValue, NodeRef, PolicyKnob
from rafiki.resources import Model
from rafiki.server.domain.blobs import read_blob
from rafiki.server.domain.clock import Clock
from rafiki.server.rpc.models import ModelServicer
from rafiki.server.rpc.streams import Streams
from rafiki.server.service.models import ModelService
from rafiki.server.store.blobs import FileBlobs
from rafiki.server.store.database import Database
from rafiki.v1 import models_pb2 as messages
from rafiki.v1.models_pb2_grpc import ModelServiceStub, add_ModelServiceServicer_to_server
from rafiki.wire.blobs import digest_of
from rafiki.wire.jobs import model_to_proto

Register = Callable[[grpc.aio.Server], None]
Served = Callable[[Register], AbstractContextManager[grpc.Channel]]

TIMEOUT_S = 20
SHARED = KnobValue(3)


@pytest.fixture(scope="module")
def dialect() -> str:
    """What these tests ask of the database, other modules ask it on every kind."""
    return "sqlite"


def packed(contents: dict[str, str], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in contents.items():
            file.writestr(name, content)
    return buffer.getvalue()


SOURCE = packed({"digits.py": "class Digits: ..."})


def model(source: bytes = SOURCE, **changes: object) -> messages.Model:
    message = model_to_proto(
        Model(
            display_name="Digits",
            task="IMAGE_CLASSIFICATION",
            model_class="digits:Digits",
            source=digest_of(source),
            knob_config={
                "cell": ArchKnob([[SHARED, NodeRef(0)], [KnobValue(3), SHARED]], nodes=[2, 2]),
                "epochs": FixedKnob(3),
                "rate": CategoricalKnob([0.1, 0.2]),
                "share": PolicyKnob("SHARE_PARAMS"),
            },
            dependencies={"optax": "0.2.8"},
            candidate_batches=True,
        )
    )
    for field, value in changes.items():
        setattr(message, field, value)
    return message


@pytest.fixture
def stub(
    database: Database, blobs: FileBlobs, clock: Clock, served: Served
) -> Iterator[ModelServiceStub]:
    streams = Streams(threads=2, idle_timeout_s=5)

    def register(server: grpc.aio.Server) -> None:
        servicer = ModelServicer(ModelService(database, blobs, clock), blobs, streams)
        add_ModelServiceServicer_to_server(servicer, server)

    with served(register) as channel:
        yield ModelServiceStub(channel)
    streams.close()


def parts(
    message: messages.Model, *chunks: bytes, request_id: str = ""
) -> Iterator[messages.CreateModelRequest]:
    metadata = messages.CreateModelMetadata(model=message, request_id=request_id)
    yield messages.CreateModelRequest(metadata=metadata)
    for chunk in chunks:
        yield messages.CreateModelRequest(chunk=chunk)


def create(
    stub: ModelServiceStub, message: messages.Model, *chunks: bytes, request_id: str = ""
) -> messages.Model:
    requests = parts(message, *chunks, request_id=request_id)
    return stub.CreateModel(requests, timeout=TIMEOUT_S).model


def refusal(stub: ModelServiceStub, requests: Iterator[messages.CreateModelRequest]) -> ErrorInfo:
    """Why CreateModel fails; there is no model afterwards."""
    with pytest.raises(grpc.RpcError) as caught:
        stub.CreateModel(requests, timeout=TIMEOUT_S)
    listed = stub.ListModels(messages.ListModelsRequest(), timeout=TIMEOUT_S)
    assert list(listed.models) == []
    info = ErrorInfo()
    status_of(caught.value).details[0].Unpack(info)
    return info


def status_of(error: grpc.RpcError) -> Status:
    assert isinstance(error, grpc.Call)
    status = rpc_status.from_call(error)
    assert status is not None
    return status


def test_a_model_is_read_as_it_was_created(stub: ModelServiceStub, blobs: FileBlobs) -> None:
    created = create(stub, model(), SOURCE[:10], SOURCE[10:])
    assert created.name.startswith("models/")
    assert created.owner == "users/local"
    assert created.create_time.seconds > 0

    expected = model()
    expected.name = created.name
    expected.owner = created.owner
    expected.create_time.CopyFrom(created.create_time)
    assert created == expected
    read = stub.GetModel(messages.GetModelRequest(name=created.name), timeout=TIMEOUT_S).model
    assert read == expected
    assert read_blob(blobs, digest_of(SOURCE)) == SOURCE


def test_a_stored_source_need_not_be_sent_again(stub: ModelServiceStub) -> None:
    first = create(stub, model(), SOURCE)
    second = create(stub, model(display_name="Digits 2"))
    assert first.name != second.name
    assert first.source == second.source


def test_neither_chunks_nor_blob_is_refused(stub: ModelServiceStub) -> None:
    assert refusal(stub, parts(model())).reason == "ERROR_REASON_BLOBS_MISSING"


def test_repeating_a_request_creates_nothing_new(stub: ModelServiceStub) -> None:
    request_id = str(uuid.uuid4())
    first = create(stub, model(), SOURCE, request_id=request_id)
    assert create(stub, model(), SOURCE, request_id=request_id) == first
    assert create(stub, model(), request_id=request_id) == first
    listed = stub.ListModels(messages.ListModelsRequest(), timeout=TIMEOUT_S)
    assert list(listed.models) == [first]


def test_a_request_id_is_for_one_request(stub: ModelServiceStub) -> None:
    request_id = str(uuid.uuid4())
    create(stub, model(), SOURCE, request_id=request_id)
    with pytest.raises(grpc.RpcError) as caught:
        create(stub, model(display_name="Another"), SOURCE, request_id=request_id)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS


EVIL = packed({"digits.py": "x", "../evil.py": "x"})
LINK = io.BytesIO()
with zipfile.ZipFile(LINK, "w") as file:
    entry = zipfile.ZipInfo("digits.py")
    entry.external_attr = 0o120777 << 16
    file.writestr(entry, "/etc/passwd")


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        (b"print('not a zip')", "no whole zip archive"),
        (SOURCE[:-30], "no whole zip archive"),
        (SOURCE.replace(b"digits.py", b"digits.px"), "no digits.py"),
        (SOURCE.replace(b"PK\x03\x04", b"PK\x03\x05"), "'digits.py' in the source is damaged"),
        (packed({"digits.py": "x", "digits.px": "x"}).replace(b".px", b".py"), "two files called"),
        (packed({"other.py": "x"}), "no digits.py"),
        (EVIL, "outside its folder: '../evil.py'"),
        (packed({"digits.py": "x", "/etc/evil.py": "x"}), "outside its folder"),
        (packed({"digits.py": "x", "a\\..\\b.py": "x"}), "outside its folder"),
        (packed({"digits.py": "x", "c:evil.py": "x"}), "outside its folder"),
        (packed({"digits.py": " " * (65 << 20)}), "unpacks to"),
        (packed({f"f{number}.py": "" for number in range(2001)}), "2001 files"),
        (LINK.getvalue(), "link"),
        (packed({"digits.py": " " * 9999}, zipfile.ZIP_BZIP2), "not packed by deflate"),
        (packed({"digits.py": " " * 9999}, zipfile.ZIP_LZMA), "not packed by deflate"),
        (b"PK\x01\x02" * 200_000, "200000 files"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_source_that_is_no_safe_archive_is_rejected_and_not_kept(
    stub: ModelServiceStub, tmp_path: Path, source: bytes, cause: str
) -> None:
    info = refusal(stub, parts(model(source), source))
    assert info.reason == "ERROR_REASON_MODEL_REJECTED"
    assert cause in info.metadata["cause"]
    assert [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()] == []


def test_a_module_may_be_a_package(stub: ModelServiceStub) -> None:
    source = packed({"nets/digits/__init__.py": "x"})
    assert create(stub, model(source, model_class="nets.digits:Digits"), source).name


def test_a_source_beyond_the_limit_is_rejected_before_it_is_sent(stub: ModelServiceStub) -> None:
    message = model()
    message.source.size_bytes = (16 << 20) + 1
    info = refusal(stub, parts(message))
    assert info.reason == "ERROR_REASON_MODEL_REJECTED"


def test_other_bytes_than_declared_are_refused(stub: ModelServiceStub) -> None:
    other = SOURCE[:-1] + b"\x01"
    assert refusal(stub, parts(model(), other)).reason == "ERROR_REASON_DIGEST_MISMATCH"


@pytest.mark.parametrize(
    "chunks",
    [[SOURCE, b"more"], [SOURCE[:-1]], [b"", SOURCE], [bytes((1 << 20) + 1)]],
    ids=["too many bytes", "too few bytes", "empty chunk", "large chunk"],
)
def test_chunks_out_of_turn_are_refused(stub: ModelServiceStub, chunks: list[bytes]) -> None:
    reason = refusal(stub, parts(model(), *chunks)).reason
    assert reason == "ERROR_REASON_PROTOCOL_VIOLATION"


def test_the_first_message_must_be_metadata(stub: ModelServiceStub) -> None:
    requests = iter([messages.CreateModelRequest(chunk=b"x")])
    assert refusal(stub, requests).reason == "ERROR_REASON_PROTOCOL_VIOLATION"
    assert refusal(stub, iter([])).reason == "ERROR_REASON_PROTOCOL_VIOLATION"


def test_metadata_comes_once(stub: ModelServiceStub) -> None:
    requests = iter([*parts(model()), *parts(model())])
    assert refusal(stub, requests).reason == "ERROR_REASON_PROTOCOL_VIOLATION"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("display_name", ""),
        ("display_name", "x" * 129),
        ("task", "image classification"),
        ("model_class", "digits"),
        ("model_class", "../digits:Digits"),
    ],
)
def test_a_malformed_field_is_refused_by_its_path(
    stub: ModelServiceStub, field: str, value: str
) -> None:
    message = model()
    setattr(message, field, value)
    with pytest.raises(grpc.RpcError) as caught:
        create(stub, message, SOURCE)
    request = BadRequest()
    assert status_of(caught.value).details[1].Unpack(request)
    assert [violation.field for violation in request.field_violations] == [f"model.{field}"]


def test_a_malformed_knob_config_is_refused_by_the_knob(stub: ModelServiceStub) -> None:
    message = model()
    message.knob_config.knobs[1].name = "Epochs"
    info = refusal(stub, parts(message, SOURCE))
    assert info.reason == "ERROR_REASON_INVALID_KNOB_CONFIG"
    assert info.metadata["knob"] == "Epochs"


def test_a_request_id_that_is_no_uuid_is_refused(stub: ModelServiceStub) -> None:
    requests = parts(model(), SOURCE, request_id="again")
    assert refusal(stub, requests).reason == "ERROR_REASON_INVALID_FIELD"


def test_an_unknown_model_is_not_found(stub: ModelServiceStub) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetModel(messages.GetModelRequest(name="models/00000000"), timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_models_are_listed_newest_first_by_task_in_pages(stub: ModelServiceStub) -> None:
    tasks = ["A", "B", "A", "A", "B", "A"]
    names = [create(stub, model(task=task), SOURCE).name for task in tasks]
    wanted = [name for name, task in zip(names, tasks, strict=True) if task == "A"][::-1]
    request = messages.ListModelsRequest(task="A", page_size=3)
    first = stub.ListModels(request, timeout=TIMEOUT_S)
    request.page_token = first.next_page_token
    second = stub.ListModels(request, timeout=TIMEOUT_S)
    assert [model.name for model in (*first.models, *second.models)] == wanted
    assert (len(first.models), second.next_page_token) == (3, "")
    everything = stub.ListModels(messages.ListModelsRequest(), timeout=TIMEOUT_S)
    assert [model.name for model in everything.models] == names[::-1]


def test_a_page_stays_below_the_size_of_a_message(stub: ModelServiceStub) -> None:
    values = [f"{number:03}" + "x" * 897 for number in range(1000)]
    large = model()
    knob = large.knob_config.knobs.add(name="wide").spec.categorical_knob
    for value in values:
        knob.values.add(string_value=value)
    for _ in range(6):
        create(stub, large, SOURCE)
    request = messages.ListModelsRequest()
    counts: list[int] = []
    while not counts or request.page_token:
        page = stub.ListModels(request, timeout=TIMEOUT_S)
        counts.append(len(page.models))
        request.page_token = page.next_page_token
    assert counts == [3, 3]


def test_a_page_token_of_another_list_is_refused(stub: ModelServiceStub) -> None:
    for _ in range(2):
        create(stub, model(), SOURCE)
    request = messages.ListModelsRequest(page_size=1)
    request.page_token = stub.ListModels(request, timeout=TIMEOUT_S).next_page_token
    request.task = "OTHER"
    with pytest.raises(grpc.RpcError) as caught:
        stub.ListModels(request, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_the_digest_of_a_model_is_checked_for_form(stub: ModelServiceStub) -> None:
    message = model()
    message.source.sha256 = "../../etc/passwd"
    assert refusal(stub, parts(message, SOURCE)).reason == "ERROR_REASON_INVALID_FIELD"
