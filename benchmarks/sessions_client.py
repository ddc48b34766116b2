"""Many sessions in one process, for the benchmark of sessions.

It is given what to do as JSON, opens all its sessions, each on a connection of its own, prints
"ready", works until it reads a line, and prints what they have come to by then.
Times are those of `time.monotonic`, which all processes of a machine share.
"""

import asyncio
import json
import random
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rafiki.v1 import advisor_pb2, advisor_pb2_grpc
from rafiki.wire.times import seconds_from_proto

CALL_TIMEOUT_S = 60.0

_Request = advisor_pb2.StreamTrialsRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """What a process does.

    Attributes:
        address: The server's.
        name: What the names of its workers begin with.
        count: How many sessions it opens.
        study: The study that they work on; empty for workers of models, of which there are none.
        trial_s: How long a trial takes, give or take a half.
    """

    address: str
    name: str
    count: int
    study: str = ""
    trial_s: float = 0.0


@dataclass(slots=True)
class Came:
    """What the sessions of a process came to.

    Attributes:
        renewals: How many heartbeats were answered.
        lost: What sessions ended of, before they were to.
        cycles: When a trial was in hand, and how long after the end of the one before.
    """

    renewals: int = 0
    lost: list[str] = field(default_factory=list)
    cycles: list[tuple[float, float]] = field(default_factory=list)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """What a process has printed."""
        return cls(**json.loads(line))


class CrowdSession:
    """One session of many, with heartbeats, which works on what it is given."""

    def __init__(self, crowd: Crowd, number: int, came: Came) -> None:
        # Without an own pool, channels to the same address share a connection.
        own = [("grpc.use_local_subchannel_pool", 1)]
        self._channel = grpc.aio.insecure_channel(crowd.address, options=own)
        self._stub = advisor_pb2_grpc.AdvisorServiceStub(self._channel)
        self._crowd = crowd
        self._name = f"{crowd.name}-{number}"
        self._came = came
        self._held: set[str] = set()
        self._ended_at: float | None = None
        self.opened = asyncio.Event()

    async def run(self) -> None:
        """Works until it is cancelled; then hands back what it holds."""
        opening = advisor_pb2.OpenSession(
            worker_id=self._name,
            worker_version="benchmark",
            studies=[self._crowd.study] if self._crowd.study else [],
            capacity=1,
            devices=[advisor_pb2.WorkerDevice(platform=advisor_pb2.PLATFORM_CPU, count=1)],
        )
        async with self._channel:
            call = self._stub.StreamTrials()
            await call.write(_Request(open=opening))
            try:
                async with asyncio.TaskGroup() as tasks:
                    await self._read(call, tasks)
            except* (grpc.RpcError, ConnectionError) as errors:
                self._came.lost += [str(error) for error in errors.exceptions]
            finally:
                self.opened.set()

    async def _read(self, call: "Call", tasks: asyncio.TaskGroup) -> None:
        async for response in call:
            match response.WhichOneof("event"):
                case "opened":
                    interval_s = seconds_from_proto(response.opened.heartbeat_interval)
                    tasks.create_task(self._beat(call, interval_s))
                    self.opened.set()
                case "assignment":
                    tasks.create_task(self._work(response.assignment))
                case "renewed":
                    self._came.renewals += 1
        raise ConnectionError("the stream has ended")

    async def _beat(self, call: "Call", interval_s: float) -> None:
        await asyncio.sleep(random.uniform(0, interval_s))
        while True:
            heartbeat = advisor_pb2.Heartbeat(lease_tokens=list(self._held))
            await call.write(_Request(heartbeat=heartbeat))
            await asyncio.sleep(interval_s)

    async def _work(self, assignment: advisor_pb2.TrialAssignment) -> None:
        taken_at = time.monotonic()
        if self._ended_at is not None:
            self._came.cycles.append((taken_at, taken_at - self._ended_at))
        token = assignment.lease.token
        self._held.add(token)
        # Not all at once, though all were opened at once.
        await asyncio.sleep(self._crowd.trial_s * random.uniform(0.5, 1.5))
        self._ended_at = time.monotonic()
        request = advisor_pb2.CompleteTrialRequest(
            name=assignment.trial.name,
            lease_token=token,
            completed=advisor_pb2.TrialCompleted(score=0.5),
        )
        await self._stub.CompleteTrial(request, timeout=CALL_TIMEOUT_S)
        self._held.discard(token)


Call = grpc.aio.StreamStreamCall[advisor_pb2.StreamTrialsRequest, advisor_pb2.StreamTrialsResponse]


async def run(crowd: Crowd) -> Came:
    """Opens all sessions and keeps them until it reads a line."""
    came = Came()
    sessions = [CrowdSession(crowd, number, came) for number in range(crowd.count)]
    tasks = [asyncio.create_task(session.run()) for session in sessions]
    for session in sessions:
        await session.opened.wait()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    answer = Came(came.renewals, list(came.lost), list(came.cycles))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return answer


def main() -> None:
    """Runs the process."""
    came = asyncio.run(run(Crowd(**json.loads(sys.argv[1]))))
    print(json.dumps(asdict(came)), flush=True)


if __name__ == "__main__":
    main()
