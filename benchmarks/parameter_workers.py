"""A server and workers, processes of their own, that push and pull checkpoints when told to.

A worker reads a command per line, JSON, and answers with one. It moves checkpoints with the
client side of the released worker; the leases that it needs are those of trials of an external
study, which the parent takes and completes.
"""

import json
import os
import queue
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypedDict

import grpc
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rafiki.client import Client
from rafiki.model.knobs import IntegerKnob
from rafiki.resources import AdvisorKind, AdvisorSettings, Budget, StudySpec, TrainJob
from rafiki.v1 import advisor_pb2, advisor_pb2_grpc
from rafiki.worker.cache import FileCache, MemoryCache
from rafiki.worker.calls import Caller
from rafiki.worker.parameters import Parameters

TIMEOUT_S = 60
MAX_TRIALS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A checkpoint moved by each of some workers at once: their bytes, and what it took."""

    size_bytes: int
    sent_bytes: int
    wall_s: float
    cpu_s: float


class Command(TypedDict):
    """What a worker is to do: to push the parameters of `seed`, or to pull a checkpoint."""

    push: bool
    study: str
    lease_token: str
    checkpoint: str
    seed: int
    tensors: int
    tensor_bytes: int
    every: int


class Answer(TypedDict):
    """What a worker has done."""

    checkpoint: str
    sent_bytes: int
    wall_s: float
    cpu_s: float


def make_params(seed: int, tensors: int, tensor_bytes: int) -> dict[str, np.ndarray]:
    """Float32 tensors by path that no other seed gives."""
    generator = np.random.default_rng(seed)
    return {
        f"layer-{number:04}/kernel": generator.standard_normal(tensor_bytes // 4, np.float32)
        for number in range(tensors)
    }


def changed(params: Mapping[str, np.ndarray], every: int) -> dict[str, np.ndarray]:
    """The parameters with one tensor in `every` changed."""
    return {
        path: array + np.float32(1) if number % every == 0 else array
        for number, (path, array) in enumerate(params.items())
    }


class ParameterWorkers:
    """Use it as a context manager: the processes run as long as the block."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._most = most
        self._stack = ExitStack()
        self._checkpoints: dict[int, str] = {}

    def push(
        self, count: int, seed: int, tensors: int, tensor_bytes: int, *, every: int = 0
    ) -> Transfer:
        """Has so many workers save parameters at once, each its own."""
        leases = [self._trials.take() for _ in range(count)]
        commands = [
            Command(
                push=True,
                study=self._trials.study,
                lease_token=lease.lease.token,
                checkpoint="",
                seed=seed * self._most + number,
                tensors=tensors,
                tensor_bytes=tensor_bytes,
                every=every,
            )
            for number, lease in enumerate(leases)
        ]
        answers, cpu_s = self._run(commands)
        for number, (lease, answer) in enumerate(zip(leases, answers, strict=True)):
            self._checkpoints[number] = answer["checkpoint"]
            self._trials.complete(lease)
        return _transfer(answers, cpu_s, tensors * tensor_bytes)

    def pull(self, count: int, tensors: int, tensor_bytes: int) -> Transfer:
        """Has so many workers fetch what they saved last, at once."""
        commands = [
            Command(
                push=False,
                study="",
                lease_token="",
                checkpoint=self._checkpoints[number],
                seed=0,
                tensors=tensors,
                tensor_bytes=tensor_bytes,
                every=0,
            )
            for number in range(count)
        ]
        answers, cpu_s = self._run(commands)
        return _transfer(answers, cpu_s, tensors * tensor_bytes)

    def _run(self, commands: Sequence[Command]) -> tuple[list[Answer], float]:
        """The answers, and the CPU time that the server took."""
        workers = self._workers[: len(commands)]
        for worker, command in zip(workers, commands, strict=True):
            worker.tell(command)
        for worker in workers:
            worker.answer()  # ready: the parameters are made
        before_s = _cpu_s(self._server_pid)
        for worker in workers:
            worker.go()
        answers = [worker.answer() for worker in workers]
        return answers, _cpu_s(self._server_pid) - before_s

    def __enter__(self) -> Self:
        self._server_pid, address = self._stack.enter_context(_server(self._folder / "data"))
        self._trials = self._stack.enter_context(_Trials(address, self._most))
        self._workers = [
            self._stack.enter_context(_WorkerProcess(address, self._folder / f"worker-{number}"))
            for number in range(self._most)
        ]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()


def _transfer(answers: Sequence[Answer], server_cpu_s: float, size_bytes: int) -> Transfer:
    return Transfer(
        size_bytes=size_bytes * len(answers),
        sent_bytes=sum(answer["sent_bytes"] for answer in answers),
        wall_s=max(answer["wall_s"] for answer in answers),
        cpu_s=sum(answer["cpu_s"] for answer in answers) + server_cpu_s,
    )


class _WorkerProcess:
    """A worker, seen from the parent."""

    def __init__(self, address: str, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, address, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, command: Command) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def go(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def answer(self) -> Answer:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("a worker has died")
        answer: Answer = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(TIMEOUT_S)


class _Trials:
    """Trials of an external study, taken by one session and completed by it."""

    def __init__(self, address: str, capacity: int) -> None:
        self._channel = grpc.insecure_channel(address)
        self._stub = advisor_pb2_grpc.AdvisorServiceStub(self._channel)
        with Client(address) as client:
            spec = StudySpec(
                knob_config={"number": IntegerKnob(0, 1_000_000)},
                advisor=AdvisorSettings(kind=AdvisorKind.RANDOM),
            )
            budget = Budget(model_trial_count=MAX_TRIALS)
            job = TrainJob(app="benchmark", task="NONE", studies=(spec,), budget=budget)
            _, (study,) = client.create_train_job(job)
        self.study = study.name
        self._requests: queue.SimpleQueue[advisor_pb2.StreamTrialsRequest | None]
        self._requests = queue.SimpleQueue()
        self._assignments: queue.Queue[advisor_pb2.TrialAssignment] = queue.Queue()
        self._held: set[str] = set()
        self._ended = threading.Event()
        opening = advisor_pb2.OpenSession(
            worker_id="benchmark",
            studies=[study.name],
            capacity=capacity,
            devices=[advisor_pb2.WorkerDevice(platform=advisor_pb2.PLATFORM_CPU, count=1)],
        )
        self._requests.put(advisor_pb2.StreamTrialsRequest(open=opening))
        self._threads = [threading.Thread(target=work) for work in (self._read, self._beat)]

    def take(self) -> advisor_pb2.TrialAssignment:
        """The next trial."""
        assignment = self._assignments.get(timeout=TIMEOUT_S)
        return assignment

    def complete(self, assignment: advisor_pb2.TrialAssignment) -> None:
        """Reports a score, so that the next trial comes."""
        request = advisor_pb2.CompleteTrialRequest(
            name=assignment.trial.name,
            lease_token=assignment.lease.token,
            completed=advisor_pb2.TrialCompleted(score=0.0),
        )
        self._stub.CompleteTrial(request, timeout=TIMEOUT_S)
        self._held.discard(assignment.lease.token)

    def _read(self) -> None:
        for response in self._stub.StreamTrials(iter(self._requests.get, None)):
            if response.WhichOneof("event") == "assignment":
                self._held.add(response.assignment.lease.token)
                self._assignments.put(response.assignment)

    def _beat(self) -> None:
        while not self._ended.wait(1.0):
            beat = advisor_pb2.Heartbeat(lease_tokens=tuple(self._held))
            self._requests.put(advisor_pb2.StreamTrialsRequest(heartbeat=beat))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        closing = advisor_pb2.CloseSession()
        self._requests.put(advisor_pb2.StreamTrialsRequest(close=closing))
        self._requests.put(None)
        for thread in self._threads:
            thread.join(TIMEOUT_S)
        self._channel.close()


@contextmanager
def _server(folder: Path) -> Iterator[tuple[int, str]]:
    """The process id and the address of a server that runs as long as the block."""
    command = [
        *(sys.executable, "-m", "rafiki.server", "--data-dir", str(folder)),
        *("--listen", "127.0.0.1:0", "--log-level", "WARNING"),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], TIMEOUT_S)
            line = process.stdout.readline() if ready else ""
            match = re.search(r"listening on (\S+)", line)
            if match is None:
                raise RuntimeError("the server did not start")
            yield process.pid, match.group(1)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _cpu_s(pid: int) -> float:
    """User and system time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def work(address: str, folder: Path) -> None:
    """Does what standard input says until it ends."""
    with grpc.insecure_channel(address) as channel:
        # Nothing is kept in memory: every tensor pulled comes from the server.
        caller = Caller(threading.Event())
        for line in sys.stdin:
            command: Command = json.loads(line)
            parameters = Parameters(channel, caller, FileCache(folder, 0), MemoryCache(0))
            params = {}
            if command["push"]:
                params = make_params(command["seed"], command["tensors"], command["tensor_bytes"])
                params = changed(params, command["every"]) if command["every"] else params
            print("{}", flush=True)
            sys.stdin.readline()
            start, cpu = time.perf_counter(), time.process_time()
            name = command["checkpoint"]
            if command["push"]:
                name = parameters.save_checkpoint(
                    command["study"], command["lease_token"], params, {}
                )
            else:
                parameters.fetch_checkpoint(name)
            answer = Answer(
                checkpoint=name,
                sent_bytes=parameters.sent_bytes,
                wall_s=time.perf_counter() - start,
                cpu_s=time.process_time() - cpu,
            )
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]))
