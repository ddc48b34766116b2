"""A server and workers, processes of their own, that push and pull checkpoints when told to.

The leases that the workers need are those of trials of an external study, which the parent
takes and completes.
"""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc
from benchmarks.client_processes import client_processes
from benchmarks.external import ExternalWorker
from benchmarks.parameters_client import Answer, Command
from benchmarks.server_process import rafiki_server

from rafiki.client import Client
from rafiki.model.knobs import IntegerKnob
from rafiki.resources import AdvisorKind, AdvisorSettings, Budget, StudySpec, TrainJob
from rafiki.v1 import advisor_pb2

PROGRAM = Path(__file__).with_name("parameters_client.py")
MAX_TRIALS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A checkpoint moved by each of some workers at once: their bytes, and what it took."""

    size_bytes: int
    sent_bytes: int
    wall_s: float
    cpu_s: float


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
        leases = [_taken(trials) for trials in self._trials[:count]]
        commands = [
            Command(
                push=True,
                study=self._study,
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
            self._trials[number].complete(lease, advisor_pb2.TrialCompleted(score=0.0))
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
            worker.begin(**command)
        for worker in workers:
            worker.wait_ready()
        before_s = self._server.cpu_s()
        for worker in workers:
            worker.begin()
        answers: list[Answer] = [json.loads(worker.answer()) for worker in workers]
        return answers, self._server.cpu_s() - before_s

    def __enter__(self) -> Self:
        enter = self._stack.enter_context
        self._server = enter(rafiki_server(self._folder / "data"))
        address = self._server.address
        self._study = _external_study(address)
        channel = enter(grpc.insecure_channel(address))
        names = [f"worker-{number}" for number in range(self._most)]
        self._trials = [
            enter(ExternalWorker(channel, worker_id=name, study=self._study)) for name in names
        ]
        tasks = [{"address": address, "folder": str(self._folder / name)} for name in names]
        self._workers = enter(client_processes(PROGRAM, tasks))
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


def _external_study(address: str) -> str:
    """The name of a new study whose trials anybody may take."""
    spec = StudySpec(
        knob_config={"number": IntegerKnob(0, 1_000_000)},
        advisor=AdvisorSettings(kind=AdvisorKind.RANDOM),
    )
    budget = Budget(model_trial_count=MAX_TRIALS)
    job = TrainJob(app="benchmark", task="NONE", studies=(spec,), budget=budget)
    with Client(address) as client:
        _, (study,) = client.create_train_job(job)
    return study.name


def _taken(trials: ExternalWorker) -> advisor_pb2.TrialAssignment:
    assignment = trials.take()
    if assignment is None:
        raise SystemExit("the study has no trials left")
    return assignment
