"""A worker of an external study: any program that speaks AdvisorService can be one."""

import queue
import threading
from collections.abc import Callable

import grpc

from rafiki.resources import Trial
from rafiki.v1 import advisor_pb2, advisor_pb2_grpc
from rafiki.wire.times import seconds_from_proto
from rafiki.wire.trials import trial_from_proto

CALL_TIMEOUT_S = 30.0


class ExternalWorker:
    """Takes trials of one study and reports scores, one at a time.

    A thread sends heartbeats, which keep the session and the trial that runs. A lost
    connection ends the worker: a program that is to outlive its server opens another
    session and names the leases that it still holds.
    """

    def __init__(self, channel: grpc.Channel, *, worker_id: str, study: str) -> None:
        self._stub = advisor_pb2_grpc.AdvisorServiceStub(channel)
        self._worker_id = worker_id
        self._study = study
        self._requests: queue.SimpleQueue[advisor_pb2.StreamTrialsRequest | None]
        self._requests = queue.SimpleQueue()
        self._ended = threading.Event()
        self._lease = ""

    def run(self, score: Callable[[Trial], float]) -> int:
        """Scores trials until the study has none left; returns how many.

        Raises:
            grpc.RpcError: The server refused something, or cannot be reached.
        """
        opening = advisor_pb2.OpenSession(
            worker_id=self._worker_id,
            worker_version="benchmark",
            studies=[self._study],
            capacity=1,
            devices=[advisor_pb2.WorkerDevice(platform=advisor_pb2.PLATFORM_CPU, count=1)],
        )
        self._requests.put(advisor_pb2.StreamTrialsRequest(open=opening))
        count = 0
        try:
            for response in self._stub.StreamTrials(iter(self._requests.get, None)):
                match response.WhichOneof("event"):
                    case "opened":
                        interval_s = seconds_from_proto(response.opened.heartbeat_interval)
                        beating = threading.Thread(target=self._beat, args=[interval_s])
                        beating.start()
                    case "assignment":
                        self._complete(response.assignment, score)
                        count += 1
                    case "drain":
                        closing = advisor_pb2.CloseSession()
                        self._requests.put(advisor_pb2.StreamTrialsRequest(close=closing))
        finally:
            self._ended.set()
            self._requests.put(None)
        return count

    def _complete(
        self, assignment: advisor_pb2.TrialAssignment, score: Callable[[Trial], float]
    ) -> None:
        self._lease = assignment.lease.token
        value = score(trial_from_proto(assignment.trial))
        request = advisor_pb2.CompleteTrialRequest(
            name=assignment.trial.name,
            lease_token=assignment.lease.token,
            completed=advisor_pb2.TrialCompleted(score=value),
        )
        self._stub.CompleteTrial(request, timeout=CALL_TIMEOUT_S)
        self._lease = ""

    def _beat(self, interval_s: float) -> None:
        while not self._ended.wait(interval_s):
            lease = self._lease
            heartbeat = advisor_pb2.Heartbeat(lease_tokens=[lease] if lease else [])
            self._requests.put(advisor_pb2.StreamTrialsRequest(heartbeat=heartbeat))
