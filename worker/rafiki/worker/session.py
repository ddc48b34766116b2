"""The worker's session: the stream on which trials come and leases are kept alive.

Threads: one reads the stream and opens another when it breaks, for as long as it takes; one
sends heartbeats. Neither ever waits for a trial or for a unary call.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from rafiki.resources import Digest, DrainReason, StopReason
from rafiki.v1 import advisor_pb2, advisor_pb2_grpc, params_pb2
from rafiki.wire.enums import enum_from_proto, enum_to_proto
from rafiki.wire.fields import in_range
from rafiki.wire.knobs import knob_config_from_proto
from rafiki.wire.params import digest_from_proto
from rafiki.wire.structs import struct_from_proto
from rafiki.wire.times import seconds_from_proto
from rafiki.wire.trials import trial_from_proto
from rafiki.worker.assignment import Assignment, HeldTrial, StudyInfo, Wakeup
from rafiki.worker.backoff import Backoff
from rafiki.worker.calls import refused
from rafiki.worker.devices import Device
from rafiki.worker.heartbeat import Heartbeat

logger = logging.getLogger(__name__)

# How long the server may take to open a session; a silent one is given up.
OPEN_TIMEOUT_S = 15.0

# How long to wait for the server to end the stream after CloseSession.
CLOSE_TIMEOUT_S = 2.0

# Whatever a server says: more often is of no use to it, more seldom none to anybody.
_INTERVAL_S = (0.05, 3600.0)
# Larger chunks no server takes.
_MAX_CHUNK_BYTES = 1 << 20
_MAX_GPUS = 1024

# A stream is given up when this many heartbeats with leases had no answer.
UNANSWERED_HEARTBEATS = 4

# Another attempt would end the same way.
_FATAL = (
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.UNIMPLEMENTED,
)

_Request = advisor_pb2.StreamTrialsRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who the worker is and what it can run; see the message OpenSession."""

    worker_id: str
    worker_version: str
    studies: tuple[str, ...]
    devices: tuple[Device, ...]
    prefetch: int = 0


class Session:
    """The session of a worker that runs one trial at a time. Thread-safe."""

    def __init__(
        self,
        channel: grpc.Channel,
        identity: Identity,
        wakeup: Wakeup,
        closing: threading.Event,
        on_opened: Callable[[int], None],
    ) -> None:
        """`on_opened` learns the size of chunks in bytes, each time a session was opened."""
        self._stub = advisor_pb2_grpc.AdvisorServiceStub(channel)
        self._identity = identity
        self._wakeup = wakeup
        self._closing = closing
        self._on_opened = on_opened
        self._lock = threading.Lock()
        self._held: dict[str, HeldTrial] = {}
        self._requests: queue.SimpleQueue[_Request | None] | None = None
        self._studies: dict[str, StudyInfo] = {}
        self._assignments: queue.SimpleQueue[HeldTrial | None] = queue.SimpleQueue()
        self._ended = threading.Event()
        # Heartbeats since the last answer; counted by the heartbeat, reset by the reader.
        self._unanswered = 0
        self._has_no_work = False
        self.failure = ""

    def start(self) -> None:
        """Opens the session, and again whenever it breaks."""
        threading.Thread(target=self._run, name="session", daemon=True).start()

    def take(self) -> HeldTrial | None:
        """The next trial to run; waits for it. None: there will be none, or the worker ends."""
        return self._assignments.get()

    def wake(self) -> None:
        """Has `take` return None. Safe in a signal handler."""
        self._assignments.put(None)

    def release(self, held: HeldTrial) -> None:
        """The outcome of a trial is stored, or nobody wants it: its lease is not kept alive."""
        with self._lock:
            self._held.pop(held.assignment.lease_token, None)
            if self._has_no_work and not self._held:
                self._end_stream()

    def close(self) -> None:
        """Hands back what is held and ends the session. `closing` is set by then."""
        with self._lock:
            self._end_stream()
        self._ended.wait(CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        try:
            self._keep_open()
        finally:
            self._ended.set()
            self._assignments.put(None)

    def _keep_open(self) -> None:
        """Opens one stream after another, until the worker ends or is of no use."""
        backoff = Backoff()
        was_away = False
        while not self._closing.is_set():
            opened_at = time.monotonic()
            try:
                drained = self._stream()
                was_away = True
                if drained is DrainReason.NO_WORK:
                    return
                logger.info("session ended by the server worker=%s", self._identity.worker_id)
            except grpc.RpcError as error:
                if self._closing.is_set():
                    return
                refusal = refused(error)
                if refusal.reason == "SESSION_SUPERSEDED":
                    name = self._identity.worker_id
                    self._fail(f"another worker calls itself {name!r}: {refusal}")
                    return
                if refusal.code in _FATAL:
                    self._fail(f"the server refuses this worker: {refusal}")
                    return
                log = logger.debug if was_away else logger.warning
                log("server cannot be reached, trying again: %s", refusal)
                was_away = True
            except ValueError as error:
                # A message this release cannot read; the server is newer, or broken.
                logger.warning("session broken off: %s", error)
            if time.monotonic() - opened_at > OPEN_TIMEOUT_S:
                backoff.reset()
            if not backoff.wait(self._closing):
                return

    def _fail(self, message: str) -> None:
        """Ends the worker, the trial it runs included."""
        self.failure = message
        self._closing.set()
        self._wakeup.set()

    def _stream(self) -> DrainReason | None:
        """Serves one stream to its end; returns why it was drained, if it was."""
        requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        with self._lock:
            tokens = list(self._held)
        requests.put(_Request(open=self._open_request(tokens)))
        call = self._stub.StreamTrials(iter(requests.get, None))
        guard = threading.Timer(OPEN_TIMEOUT_S, call.cancel)
        guard.daemon = True
        guard.start()
        heartbeat: Heartbeat | None = None
        drained: DrainReason | None = None
        try:
            for response in call:
                match response.WhichOneof("event"):
                    case "opened":
                        if heartbeat is not None:
                            raise ValueError("the server opened the session twice")
                        guard.cancel()
                        heartbeat = self._opened(response.opened, requests, call.cancel)
                    case "study":
                        study = _study_info(response.study)
                        self._studies[study.name] = study
                    case "assignment":
                        self._assign(response.assignment)
                    case "renewed":
                        self._renewed(response.renewed)
                    case "stop":
                        self._stop(response.stop)
                    case "drain":
                        drained = enum_from_proto(DrainReason, response.drain.reason)
                        logger.info("session drained reason=%s", drained)
                        self._drain(drained, requests)
                    case "quarantined":
                        logger.warning(
                            "the server gives this worker no trials until %s: %s",
                            response.quarantined.until.ToJsonString(),
                            response.quarantined.reason,
                        )
        finally:
            guard.cancel()
            if heartbeat is not None:
                heartbeat.stop()
            with self._lock:
                self._requests = None
            requests.put(None)  # Ends the thread of gRPC that takes them.
            call.cancel()
        return drained

    def _open_request(self, tokens: list[str]) -> advisor_pb2.OpenSession:
        identity = self._identity
        return advisor_pb2.OpenSession(
            worker_id=identity.worker_id,
            worker_version=identity.worker_version,
            studies=identity.studies,
            capacity=1,
            prefetch=identity.prefetch,
            lease_tokens=tokens,
            devices=[
                advisor_pb2.WorkerDevice(
                    platform=enum_to_proto(device.platform),
                    model=device.model,
                    count=device.count,
                    memory_bytes=device.memory_bytes,
                )
                for device in identity.devices
            ],
        )

    def _opened(
        self,
        opened: advisor_pb2.SessionOpened,
        requests: "queue.SimpleQueue[_Request | None]",
        cancel: Callable[[], bool],
    ) -> Heartbeat:
        self._renewed(opened.leases)
        with self._lock:
            self._requests = requests
            self._unanswered = 0
            # Closing may have come while there was nothing to say it to.
            if self._closing.is_set():
                self._end_stream()
        if opened.chunk_bytes > 0:
            self._on_opened(min(opened.chunk_bytes, _MAX_CHUNK_BYTES))
        logger.info(
            "session opened worker=%s server_version=%s leases=%d",
            self._identity.worker_id,
            opened.server_version,
            len(opened.leases.leases),
        )

        def beat() -> None:
            with self._lock:
                tokens = list(self._held)
                self._unanswered = self._unanswered + 1 if tokens else 0
                is_silent = self._unanswered > UNANSWERED_HEARTBEATS
            if is_silent:
                cancel()
                return
            requests.put(_Request(heartbeat=advisor_pb2.Heartbeat(lease_tokens=tokens)))

        shortest_s, longest_s = _INTERVAL_S
        interval_s = seconds_from_proto(opened.heartbeat_interval) or 5.0
        return Heartbeat(beat, min(max(interval_s, shortest_s), longest_s))

    def _assign(self, message: advisor_pb2.TrialAssignment) -> None:
        trial = trial_from_proto(message.trial)
        study_name = trial.name.rpartition("/trials/")[0]
        study = self._studies.get(study_name)
        if study is None:
            raise ValueError(f"a trial came before its study: {trial.name}")
        assignment = Assignment(
            trial=trial,
            study=study,
            lease_token=message.lease.token,
            gpu_count=in_range(message.gpu_count, 0, _MAX_GPUS, "gpu_count"),
            evaluate=message.evaluate,
            save=message.save,
        )
        held = HeldTrial(assignment, self._wakeup)
        with self._lock:
            if assignment.lease_token in self._held:
                return
            self._held[assignment.lease_token] = held
        logger.info(
            "trial assigned trial=%s phase=%s attempt=%d", trial.name, trial.phase, trial.attempt
        )
        self._assignments.put(held)

    def _renewed(self, message: advisor_pb2.LeasesRenewed) -> None:
        with self._lock:
            self._unanswered = 0
            lost = [self._held.pop(token, None) for token in message.lost_lease_tokens]
        for held in lost:
            if held is not None:
                logger.info("lease lost trial=%s", held.assignment.trial.name)
                held.lose()

    def _stop(self, message: advisor_pb2.StopTrial) -> None:
        reason = enum_from_proto(StopReason, message.reason)
        with self._lock:
            held = self._held.get(message.lease_token)
        if held is not None and reason is not None:
            logger.info("trial stopped trial=%s reason=%s", held.assignment.trial.name, reason)
            held.stop(reason)

    def _drain(
        self, reason: DrainReason | None, requests: "queue.SimpleQueue[_Request | None]"
    ) -> None:
        if reason is not DrainReason.NO_WORK:
            # Leases outlive the stream: the next session names them.
            requests.put(None)
            return
        with self._lock:
            self._has_no_work = True
            if not self._held:
                self._end_stream()

    def _end_stream(self) -> None:
        """Says goodbye on the open stream, if there is one. The lock is held."""
        if self._requests is not None:
            self._requests.put(_Request(close=advisor_pb2.CloseSession()))
            self._requests.put(None)


def _study_info(message: advisor_pb2.StudyInfo) -> StudyInfo:
    return StudyInfo(
        name=message.name,
        knob_config=knob_config_from_proto(message.knob_config),
        model_class=message.model.model_class,
        source=_digest(message.model.source),
        dependencies=dict(message.model.dependencies),
        train_dataset=_digest(message.train_dataset),
        validation_dataset=_digest(message.validation_dataset),
        test_dataset=_digest(message.test_dataset),
        train_args=struct_from_proto(message.train_args),
    )


def _digest(message: params_pb2.Digest) -> Digest | None:
    return digest_from_proto(message) if message.sha256 else None
