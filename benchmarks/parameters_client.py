"""A worker that pushes and pulls checkpoints when told to, a process of its own.

Started by benchmarks/parameter_workers.py. It moves checkpoints with the client side of the
released worker; its argument is the JSON of an address and a folder. It says "ready", then reads
a command per line, JSON, says "ready" once it has what it needs, waits for a line to begin, and
answers with one.
"""

import json
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TypedDict

import grpc
import numpy as np

from rafiki.worker.cache import FileCache, MemoryCache
from rafiki.worker.calls import Caller
from rafiki.worker.parameters import Parameters


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


def work(address: str, folder: Path) -> None:
    """Does what standard input says until it ends."""
    with grpc.insecure_channel(address) as channel:
        # Nothing is kept in memory: every tensor pulled comes from the server.
        caller = Caller(threading.Event())
        print("ready", flush=True)
        for line in sys.stdin:
            command: Command = json.loads(line)
            parameters = Parameters(channel, caller, FileCache(folder, 0), MemoryCache(0))
            params = {}
            if command["push"]:
                params = make_params(command["seed"], command["tensors"], command["tensor_bytes"])
                params = changed(params, command["every"]) if command["every"] else params
            print("ready", flush=True)
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
    task = json.loads(sys.argv[1])
    work(task["address"], Path(task["folder"]))
