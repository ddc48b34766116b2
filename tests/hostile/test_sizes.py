"""Messages at the limits and above: refused in a line, and never kept."""

import threading
from collections.abc import Iterator

import grpc
import pytest
from tests.e2e.processes import wait_until
from tests.hostile.cases import CLEAN, make
from tests.hostile.methods import METHODS, Method
from tests.hostile.process import GROWTH_MIB, ServerProcess, bystander
from tests.hostile.world import TIMEOUT_S, World, opening
from tests.server.live import code, message, reason

from rafiki.model.knobs import CategoricalKnob, KnobConfig
from rafiki.resources import AdvisorKind, AdvisorSettings, Budget, StudySpec, TrainJob
from rafiki.server.app import MAX_MESSAGE_BYTES
from rafiki.v1 import advisor_pb2, jobs_pb2, params_pb2
from rafiki.wire.blobs import digest_of
from rafiki.wire.jobs import train_job_to_proto
from rafiki.wire.params import digest_to_proto

# Just under the megabyte that a knob config may take.
LARGE_KNOBS: KnobConfig = {
    f"k{number}": CategoricalKnob([f"{value}{'x' * 900}" for value in range(250)])
    for number in range(4)
}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.path)
def test_a_message_above_the_limit_is_refused_unread(server: ServerProcess, method: Method) -> None:
    # A field of that many bytes, of a number that no message has.
    data = b"\xfa\xff\xff\xff\x0f" + b"\x81\x80\x80\x02" + bytes(MAX_MESSAGE_BYTES + 1)
    with pytest.raises(grpc.RpcError) as caught:
        make(server.channel, method, [data])
    assert code(caught.value) is grpc.StatusCode.RESOURCE_EXHAUSTED, message(caught.value)
    server.assert_unharmed()


def test_a_message_above_the_limit_ends_an_upload_in_between(server: ServerProcess) -> None:
    uploads = (x for x in METHODS if x.takes_stream and not x.gives_stream)
    for method in uploads:
        for begun in (b"", b"\x12\x01a", b"\x0a\x00"):
            with pytest.raises(grpc.RpcError) as caught:
                make(server.channel, method, [begun, bytes(MAX_MESSAGE_BYTES + 1)])
            assert code(caught.value) in CLEAN
    header = params_pb2.UploadBlobsRequest(header=digest_to_proto(digest_of(b"whole")))
    whole = params_pb2.UploadBlobsRequest(chunk=b"whole")
    large = params_pb2.UploadBlobsRequest(chunk=bytes(MAX_MESSAGE_BYTES + 1))
    with pytest.raises(grpc.RpcError) as caught:
        server.parameters.UploadBlobs(iter([header, whole, large]), timeout=TIMEOUT_S)
    assert code(caught.value) is grpc.StatusCode.RESOURCE_EXHAUSTED
    server.assert_unharmed()


def test_a_job_too_large_to_be_told_of_is_refused_and_not_kept(
    server: ServerProcess, world: World
) -> None:
    spec = StudySpec(knob_config=LARGE_KNOBS, advisor=AdvisorSettings(kind=AdvisorKind.RANDOM))
    job = TrainJob(
        app="large", task="TEST", studies=(spec,) * 3, budget=Budget(model_trial_count=1)
    )
    request = jobs_pb2.CreateTrainJobRequest(train_job=train_job_to_proto(job))
    assert request.ByteSize() < MAX_MESSAGE_BYTES
    with pytest.raises(grpc.RpcError) as caught:
        server.jobs.CreateTrainJob(request, timeout=TIMEOUT_S)
    assert reason(caught.value) == "INVALID_FIELD", message(caught.value)
    assert "smaller knob configs" in message(caught.value)
    listed = server.jobs.ListTrainJobs(jobs_pb2.ListTrainJobsRequest(app="large"))
    assert not listed.train_jobs
    server.assert_unharmed()


def test_a_heartbeat_names_as_many_leases_as_a_worker_can_hold(server: ServerProcess) -> None:
    for tokens in (["x"] * 10_001, ["x" * 600_000]):
        heartbeat = advisor_pb2.Heartbeat(lease_tokens=tokens)
        requests = [opening("w"), advisor_pb2.StreamTrialsRequest(heartbeat=heartbeat)]
        with pytest.raises(grpc.RpcError) as caught:
            list(server.advisor.StreamTrials(iter(requests), timeout=TIMEOUT_S))
        assert reason(caught.value) == "INVALID_FIELD"
        assert "heartbeat.lease_tokens" in message(caught.value)


def test_a_worker_that_reads_nothing_is_cut_off(server: ServerProcess, world: World) -> None:
    heartbeat = advisor_pb2.StreamTrialsRequest(
        heartbeat=advisor_pb2.Heartbeat(lease_tokens=["x" * 50] * 10_000)
    )
    over = threading.Event()

    def flood() -> Iterator[advisor_pb2.StreamTrialsRequest]:
        yield opening("deaf")
        for _ in range(2000):
            if over.is_set():
                return
            yield heartbeat

    before_mib = server.rss_mib()
    with bystander(server, world.job):
        call = server.advisor.StreamTrials(flood(), timeout=TIMEOUT_S)
        wait_until(lambda: "session closed worker=deaf" in server.log(), "the session ends")
        over.set()
    # Only now are the answers read that were underway.
    with pytest.raises(grpc.RpcError) as caught:
        list(call)
    assert reason(caught.value) == "PROTOCOL_VIOLATION", message(caught.value)
    assert "must be read" in message(caught.value)
    assert server.rss_mib() - before_mib < GROWTH_MIB
    server.assert_unharmed()
