"""A whole server in this process, and a worker that is nothing but its messages."""

import asyncio
import queue
import threading
import urllib.request
from collections.abc import Coroutine, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status
from prometheus_client.parser import text_string_to_metric_families

from rafiki.resources import TrainJob
from rafiki.server.app import Server
from rafiki.server.config import ServerConfig
from rafiki.server.domain.clock import Clock
from rafiki.v1 import (
    advisor_pb2,
    advisor_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    studies_pb2,
    trials_pb2,
)
from rafiki.wire.jobs import train_job_to_proto

TIMEOUT_S = 20.0

_Result = TypeVar("_Result")


class OffsetClock:
    """The time, and as much later as a test says."""

    def __init__(self) -> None:
        self.offset = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.offset


class RunningServer:
    """A server on an event loop of its own, and stubs to it."""

    def __init__(self, config: ServerConfig, clock: Clock) -> None:
        self.lease = config.lease
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._server = self._run(self._create(config, clock))
        self.address = f"127.0.0.1:{self._server.port}"
        self.metrics_port = self._server.metrics_port
        self.channel = grpc.insecure_channel(self.address)
        self.jobs = jobs_pb2_grpc.JobServiceStub(self.channel)
        self.advisor = advisor_pb2_grpc.AdvisorServiceStub(self.channel)

    def create_job(self, job: TrainJob, **fields: Any) -> jobs_pb2.CreateTrainJobResponse:
        """Creates a job; `fields` are those of the request."""
        request = jobs_pb2.CreateTrainJobRequest(train_job=train_job_to_proto(job))
        for name, value in fields.items():
            setattr(request, name, value)
        response: jobs_pb2.CreateTrainJobResponse = self.jobs.CreateTrainJob(
            request, timeout=TIMEOUT_S
        )
        return response

    def job(self, name: str) -> jobs_pb2.TrainJob:
        """The job as it is now."""
        response = self.jobs.GetTrainJob(jobs_pb2.GetTrainJobRequest(name=name), timeout=TIMEOUT_S)
        return response.train_job

    def study(self, job: str) -> studies_pb2.Study:
        """The first study of the job, as it is now."""
        request = jobs_pb2.GetStudyRequest(name=f"{job}/studies/1")
        return self.jobs.GetStudy(request, timeout=TIMEOUT_S).study

    def trial(self, name: str) -> trials_pb2.Trial:
        """The trial as it is now."""
        return self.jobs.GetTrial(jobs_pb2.GetTrialRequest(name=name), timeout=TIMEOUT_S).trial

    def await_trial(self, name: str, state: str) -> trials_pb2.Trial:
        """The trial once it is in a state."""
        job = name.partition("/studies/")[0]
        request = jobs_pb2.WatchTrainJobRequest(name=job)
        call = self.jobs.WatchTrainJob(request, timeout=TIMEOUT_S)
        try:
            for _ in call:
                trial = self.trial(name)
                if trials_pb2.TrialState.Name(trial.state) == f"TRIAL_STATE_{state}":
                    return trial
        finally:
            call.cancel()
        raise AssertionError(f"the job ended, and {name} was never {state}")

    def ended(self, name: str) -> jobs_pb2.TrainJob:
        """The job once it has ended."""
        request = jobs_pb2.WatchTrainJobRequest(name=name)
        last = None
        for response in self.jobs.WatchTrainJob(request, timeout=TIMEOUT_S):
            if response.HasField("train_job"):
                last = response.train_job
        assert last is not None
        return last

    def metrics_page(self) -> str:
        """The page for Prometheus, of a server with `metrics_listen`."""
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.metrics_port}/metrics", timeout=TIMEOUT_S
        ) as response:
            text: str = response.read().decode()
            return text

    def metrics(self) -> dict[str, float]:
        """Every sample of that page by its name with its labels' values."""
        return {
            " ".join([sample.name, *sample.labels.values()]): sample.value
            for family in text_string_to_metric_families(self.metrics_page())
            for sample in family.samples
        }

    def stop(self) -> None:
        """Stops the server."""
        self._run(self._server.stop())
        self.channel.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _create(self, config: ServerConfig, clock: Clock) -> Server:
        server = Server(config, clock)
        await server.start()
        return server

    def _run(self, work: Coroutine[object, object, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(TIMEOUT_S)


class HasAdvisor(Protocol):
    """A server to open sessions with."""

    advisor: advisor_pb2_grpc.AdvisorServiceStub


class FakeWorker:
    """A worker's session, message by message."""

    def __init__(
        self,
        server: HasAdvisor,
        *,
        worker_id: str = "worker-1",
        studies: tuple[str, ...] = (),
        capacity: int = 1,
        prefetch: int = 0,
        lease_tokens: tuple[str, ...] = (),
        gpus: int = 0,
        opens: bool = True,
    ) -> None:
        self._stub = server.advisor
        self._requests: queue.Queue[advisor_pb2.StreamTrialsRequest | None] = queue.Queue()
        self._events: queue.Queue[advisor_pb2.StreamTrialsResponse | grpc.RpcError | None]
        self._events = queue.Queue()
        self._call = self._stub.StreamTrials(iter(self._requests.get, None))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if opens:
            devices = [advisor_pb2.WorkerDevice(platform=advisor_pb2.PLATFORM_CPU, count=1)]
            if gpus:
                devices.append(
                    advisor_pb2.WorkerDevice(platform=advisor_pb2.PLATFORM_GPU, count=gpus)
                )
            self.send(
                open=advisor_pb2.OpenSession(
                    worker_id=worker_id,
                    studies=studies,
                    capacity=capacity,
                    prefetch=prefetch,
                    lease_tokens=lease_tokens,
                    devices=devices,
                )
            )
            self.opened = self.event("opened").opened

    def send(self, **event: Any) -> None:
        """Sends one message."""
        self._requests.put(advisor_pb2.StreamTrialsRequest(**event))

    def event(self, kind: str = "") -> advisor_pb2.StreamTrialsResponse:
        """The next message, or the next of one kind; raises what ended the stream."""
        while True:
            event = self._events.get(timeout=TIMEOUT_S)
            if isinstance(event, grpc.RpcError):
                raise event
            if event is None:
                raise EOFError("the stream has ended")
            if not kind or event.WhichOneof("event") == kind:
                return event

    def assignment(self) -> advisor_pb2.TrialAssignment:
        """The next trial."""
        return self.event("assignment").assignment

    def has_nothing(self) -> bool:
        """Whether a heartbeat is answered before any trial comes."""
        self.send(heartbeat=advisor_pb2.Heartbeat())
        return self.event().WhichOneof("event") == "renewed"

    def heartbeat(self, *tokens: str) -> advisor_pb2.LeasesRenewed:
        """Sends a heartbeat and waits for its answer."""
        self.send(heartbeat=advisor_pb2.Heartbeat(lease_tokens=tokens))
        return self.event("renewed").renewed

    def complete(
        self, assignment: advisor_pb2.TrialAssignment, score: float = 0.5
    ) -> advisor_pb2.CompleteTrialResponse:
        """Reports a score."""
        return self.report(assignment, completed=advisor_pb2.TrialCompleted(score=score))

    def report(
        self, assignment: advisor_pb2.TrialAssignment, **outcome: Any
    ) -> advisor_pb2.CompleteTrialResponse:
        """Reports an outcome."""
        request = advisor_pb2.CompleteTrialRequest(
            name=assignment.trial.name,
            lease_token=assignment.lease.token,
            **outcome,
        )
        response: advisor_pb2.CompleteTrialResponse = self._stub.CompleteTrial(
            request, timeout=TIMEOUT_S
        )
        return response

    def close(self) -> None:
        """Closes the session as a worker does that goes away."""
        self.send(close=advisor_pb2.CloseSession())
        self._requests.put(None)
        self._reader.join(TIMEOUT_S)

    def vanish(self) -> None:
        """Breaks the stream, as the death of a worker does."""
        self._call.cancel()
        self._requests.put(None)
        self._reader.join(TIMEOUT_S)

    def _read(self) -> None:
        try:
            for event in self._call:
                self._events.put(event)
            self._events.put(None)
        except grpc.RpcError as error:
            self._events.put(error)


class Connect(Protocol):
    """Opens sessions, which end with the test; keywords are those of `FakeWorker`."""

    def __call__(self, server: RunningServer, **settings: Any) -> FakeWorker: ...


class BuildJob(Protocol):
    """A job of one external RANDOM study; keywords replace fields of the job."""

    def __call__(self, trials: int = 3, **fields: Any) -> TrainJob: ...


class StartServer(Protocol):
    """Starts a server on the test's data folder; keywords are those of `ServerConfig`."""

    def __call__(self, **settings: Any) -> AbstractContextManager[RunningServer]: ...


@contextmanager
def started(folder: Path, clock: Clock, **settings: Any) -> Iterator[RunningServer]:
    """A running server on a data folder."""
    config = ServerConfig(
        data_dir=folder,
        listen="127.0.0.1:0",
        shutdown_grace_s=0.2,
        **settings,
    )
    server = RunningServer(config, clock)
    try:
        yield server
    finally:
        server.stop()


def reason(error: grpc.RpcError) -> str:
    """The reason of a status, as the API calls it."""
    assert isinstance(error, grpc.Call)
    status = rpc_status.from_call(error)
    assert isinstance(status, status_pb2.Status)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info.reason.removeprefix("ERROR_REASON_")


def code(error: grpc.RpcError) -> grpc.StatusCode:
    """The code of a status."""
    assert isinstance(error, grpc.Call)
    return error.code()


def message(error: grpc.RpcError) -> str:
    """The text of a status."""
    assert isinstance(error, grpc.Call)
    return str(error.details())
