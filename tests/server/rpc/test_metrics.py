"""The page for Prometheus, read while a server works."""

import asyncio
import re
from pathlib import Path

import grpc
import pytest
from tests.server.live import (
    TIMEOUT_S,
    BuildJob,
    Connect,
    OffsetClock,
    StartServer,
    reason,
)

from rafiki.server.app import CannotListen, Server
from rafiki.server.config import ServerConfig
from rafiki.v1 import jobs_pb2

LOCAL = "127.0.0.1:0"
DOCS = Path(__file__).parents[3] / "docs" / "running-a-server.md"


async def start_and_stop(config: ServerConfig) -> None:
    server = Server(config)
    try:
        await server.start()
    finally:
        await server.stop()


def test_it_tells_what_trials_leases_and_workers_do(
    start_server: StartServer, connect: Connect, random_job: BuildJob
) -> None:
    with start_server(metrics_listen=LOCAL) as server:
        study = server.create_job(random_job(3)).studies[0].name
        worker = connect(server, studies=(study,), capacity=2)
        first, second = worker.assignment(), worker.assignment()
        worker.complete(first)
        third = worker.assignment()
        seen = server.metrics()
        worker.complete(second)
        worker.complete(third)
        server.ended(study.partition("/studies/")[0])
        last = server.metrics()

    assert seen["rafiki_trials COMPLETED"] == 1
    assert seen["rafiki_trials RUNNING"] == seen["rafiki_leases"] == 2
    assert seen["rafiki_sessions"] == 1
    assert seen["rafiki_worker_slots"] == 2
    assert seen["rafiki_studies RUNNING"] == 1
    assert seen["rafiki_proposals_total RANDOM"] == seen["rafiki_assignments_total TUNE"] == 3
    assert seen["rafiki_assign_seconds_count"] == 3
    assert seen["rafiki_completions_total COMPLETED"] == seen["rafiki_complete_seconds_count"] == 1
    complete = "rafiki.v1.AdvisorService/CompleteTrial"
    assert seen[f"rafiki_calls_total OK {complete}"] == 1
    assert seen[f"rafiki_call_seconds_count {complete}"] == 1
    assert seen[f"rafiki_received_bytes_total {complete}"] > 50
    assert seen[f"rafiki_sent_bytes_total {complete}"] > 50
    assert seen["rafiki_open_calls rafiki.v1.AdvisorService/StreamTrials"] == 1
    assert seen["rafiki_database_write_seconds_count"] >= 4
    assert seen["process_resident_memory_bytes"] > 1e7
    assert seen["rafiki_queue_length unary_calls"] == 0
    assert last["rafiki_trials COMPLETED"] == 3
    assert last["rafiki_studies SUCCEEDED"] == 1
    assert last["rafiki_leases"] == 0


def test_it_tells_lost_leases_from_those_handed_back(
    start_server: StartServer, connect: Connect, random_job: BuildJob, clock: OffsetClock
) -> None:
    with start_server(metrics_listen=LOCAL) as server:
        study = server.create_job(random_job(1)).studies[0].name
        leaver = connect(server, studies=(study,), worker_id="leaver")
        leaver.assignment()
        leaver.close()
        taker = connect(server, studies=(study,), worker_id="taker")
        name = taker.assignment().trial.name
        taker.vanish()
        clock.offset += 2 * server.lease
        server.await_trial(name, "PENDING")
        seen = server.metrics()

    assert seen["rafiki_leases_lost_total handed_back"] == 1
    assert seen["rafiki_leases_lost_total lost"] == 1
    assert seen["rafiki_assignments_total TUNE"] == 2
    assert seen["rafiki_proposals_total RANDOM"] == 1


def test_refused_calls_are_counted_by_their_code_and_unknown_methods_are_not(
    start_server: StartServer,
) -> None:
    with start_server(metrics_listen=LOCAL) as server:
        with pytest.raises(grpc.RpcError) as refused:
            server.job("trainJobs/0123abcd")
        unknown: grpc.UnaryUnaryMultiCallable[bytes, bytes]
        unknown = server.channel.unary_unary("/rafiki.v1.JobService/MadeUp")
        with pytest.raises(grpc.RpcError):
            unknown(b"", timeout=TIMEOUT_S)
        seen = server.metrics()

    assert reason(refused.value) == "RESOURCE_NOT_FOUND"
    assert seen["rafiki_calls_total NOT_FOUND rafiki.v1.JobService/GetTrainJob"] == 1
    assert not any("MadeUp" in name for name in seen)


def test_a_stream_of_changes_is_counted_until_it_is_left(
    start_server: StartServer, random_job: BuildJob
) -> None:
    with start_server(metrics_listen=LOCAL) as server:
        job = server.create_job(random_job(1)).train_job.name
        watching = server.jobs.WatchTrainJob(jobs_pb2.WatchTrainJobRequest(name=job))
        next(watching)
        seen = server.metrics()
        watching.cancel()

    method = "rafiki.v1.JobService/WatchTrainJob"
    assert seen[f"rafiki_open_calls {method}"] == 1
    assert seen[f"rafiki_sent_bytes_total {method}"] > 0


def test_the_port_is_free_again_once_the_server_has_stopped(start_server: StartServer) -> None:
    with start_server(metrics_listen=LOCAL) as server:
        port = server.metrics_port
    with start_server(metrics_listen=f"127.0.0.1:{port}") as server:
        assert server.metrics()["rafiki_trials COMPLETED"] == 0


def test_an_address_in_use_is_told(start_server: StartServer, tmp_path: Path) -> None:
    with start_server(metrics_listen=LOCAL) as server:
        listen = f"127.0.0.1:{server.metrics_port}"
        config = ServerConfig(data_dir=tmp_path / "other", listen=LOCAL, metrics_listen=listen)
        with pytest.raises(CannotListen, match=f"cannot serve metrics on {listen}"):
            asyncio.run(start_and_stop(config))


def test_without_an_address_there_is_no_page(start_server: StartServer) -> None:
    with start_server() as server:
        assert server.metrics_port == 0


def test_every_metric_is_documented(start_server: StartServer) -> None:
    with start_server(metrics_listen=LOCAL) as server:
        names = set(re.findall(r"^# TYPE (rafiki_\w+)", server.metrics_page(), re.MULTILINE))
    told = set(re.findall(r"^\| `(rafiki_\w+)", DOCS.read_text("utf-8"), re.MULTILINE))
    assert {name for name in names if not name.endswith("_created")} == told
