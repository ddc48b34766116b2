"""A worker of an external study: any program that speaks AdvisorService can be one."""

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import grpc

from rafiki.v1 import advisor_pb2, advisor_pb2_grpc, trials_pb2
from rafiki.wire.times import seconds_from_proto

CALL_TIMEOUT_S = 30.0

_Request = advisor_pb2.StreamTrialsRequest


class ExternalWorker:
    """Takes trials of one study, one at a time, and hands in what came of them.

    A thread reads the stream, another sends heartbeats; they keep the session and the leases
    however long a trial takes. A lost connection ends the worker: a program that is to outlive
    its server opens another session and names the leases that it still holds.

    Used as a context: leaving it hands back what has not been handed in.
    """

    def __init__(
        self, channel: grpc.Channel, *, worker_id: str, study: str, prefetch: int = 0
    ) -> None:
        """`prefetch` trials more than the one that runs may wait here for their turn."""
        self._stub = advisor_pb2_grpc.AdvisorServiceStub(channel)
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._waiting: queue.SimpleQueue[advisor_pb2.TrialAssignment | None] = queue.SimpleQueue()
        self._held: set[str] = set()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._failure: grpc.RpcError | None = None
        self._under_way: grpc.Future[advisor_pb2.CompleteTrialResponse] | None = None
        opening = advisor_pb2.OpenSession(
            worker_id=worker_id,
            worker_version="benchmark",
            studies=[study],
            capacity=1,
            prefetch=prefetch,
            devices=[advisor_pb2.WorkerDevice(platform=advisor_pb2.PLATFORM_CPU, count=1)],
        )
        self._requests.put(_Request(open=opening))
        self._reader = threading.Thread(target=self._read, name="session")
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._requests.put(_Request(close=advisor_pb2.CloseSession()))
        self._requests.put(None)
        self._reader.join(CALL_TIMEOUT_S)

    def take(self) -> advisor_pb2.TrialAssignment | None:
        """The next trial; waits for it. None once the study has no more.

        Raises:
            grpc.RpcError: The server refused the session, or cannot be reached.
        """
        assignment = self._waiting.get()
        if assignment is None and self._failure is not None:
            raise self._failure
        return assignment

    def complete(
        self, assignment: advisor_pb2.TrialAssignment, outcome: advisor_pb2.TrialCompleted
    ) -> None:
        """Hands in a trial; returns once it is stored.

        Raises:
            grpc.RpcError: The server refused it, or cannot be reached.
        """
        self._stub.CompleteTrial(_completion(assignment, outcome), timeout=CALL_TIMEOUT_S)
        self._drop(assignment.lease.token)

    def complete_in_background(
        self, assignment: advisor_pb2.TrialAssignment, outcome: advisor_pb2.TrialCompleted
    ) -> None:
        """Begins to hand in a trial, after the one before has been stored.

        Raises:
            grpc.RpcError: The one before was refused, or the server cannot be reached.
        """
        self.settle()
        request = _completion(assignment, outcome)
        self._under_way = self._stub.CompleteTrial.future(request, timeout=CALL_TIMEOUT_S)
        self._under_way.add_done_callback(lambda _: self._drop(assignment.lease.token))

    def settle(self) -> None:
        """Waits until all that was handed in is stored; raises as `complete_in_background`."""
        if self._under_way is not None:
            self._under_way.result()

    def run(self, score: Callable[[trials_pb2.Trial], float]) -> int:
        """Scores trials until the study has none left; returns how many.

        Raises:
            grpc.RpcError: The server refused something, or cannot be reached.
        """
        count = 0
        with self:
            while (assignment := self.take()) is not None:
                value = score(assignment.trial)
                self.complete(assignment, advisor_pb2.TrialCompleted(score=value))
                count += 1
        return count

    def _drop(self, token: str) -> None:
        with self._lock:
            self._held.discard(token)

    def _read(self) -> None:
        try:
            for response in self._stub.StreamTrials(iter(self._requests.get, None)):
                match response.WhichOneof("event"):
                    case "opened":
                        interval_s = seconds_from_proto(response.opened.heartbeat_interval)
                        threading.Thread(target=self._beat, args=[interval_s]).start()
                    case "assignment":
                        with self._lock:
                            self._held.add(response.assignment.lease.token)
                        self._waiting.put(response.assignment)
                    case "drain":
                        self._waiting.put(None)
        except grpc.RpcError as error:
            self._failure = error
        finally:
            self._ended.set()
            self._requests.put(None)
            self._waiting.put(None)

    def _beat(self, interval_s: float) -> None:
        while not self._ended.wait(interval_s):
            with self._lock:
                heartbeat = advisor_pb2.Heartbeat(lease_tokens=list(self._held))
            self._requests.put(_Request(heartbeat=heartbeat))


def _completion(
    assignment: advisor_pb2.TrialAssignment, outcome: advisor_pb2.TrialCompleted
) -> advisor_pb2.CompleteTrialRequest:
    return advisor_pb2.CompleteTrialRequest(
        name=assignment.trial.name, lease_token=assignment.lease.token, completed=outcome
    )
