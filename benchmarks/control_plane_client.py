"""A client of the control plane's benchmark, as a process of its own.

It is given what to do as JSON, prints "ready", reads one line of JSON that says how long, works
on one trial after another, and prints when each was in hand, ended and was handed in. Times are
those of `time.monotonic`, which all processes of a machine share.
"""

import json
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import grpc
from grpc_health.v1 import health_pb2

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.external import ExternalWorker

from rafiki.v1 import advisor_pb2, trials_pb2

# Names of knobs.
RATE, CELL = "rate", "cell"

# Trials that were taken: each a function that hands it in and returns once it is stored.
Trials = Generator[Callable[[], object], None, None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a client does.

    Attributes:
        kind: One of `CLIENTS`.
        address: The server's.
        study: The study whose trials it works on; the empty string where there is none.
        number: Which of the clients it is.
        trial_s: How long it sleeps in every trial.
        prefetch: How many trials may wait at the client for their turn.
        in_background: Whether it takes the next trial before the last one is stored.
    """

    kind: str
    address: str
    study: str = ""
    number: int = 0
    trial_s: float = 0.0
    prefetch: int = 0
    in_background: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """When a client stops: after so many trials, or with one that it took after a time.

    Two at least in the second case, so that there is one that came after another.
    """

    until: float
    trials: int


@dataclass(slots=True)
class Marks:
    """When a client opened its channel, and when each trial was in hand, ended and was handed in.

    It is handed in when the server has stored it, or, in the background, once that is asked for.
    """

    opened: float
    taken: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)
    handed_in: list[float] = field(default_factory=list)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """What a client has printed."""
        return cls(**json.loads(line))

    def cycles(self) -> Iterator[tuple[float, float]]:
        """When each trial but the last ended, and when the next was in hand."""
        return zip(self.ended, self.taken[1:], strict=False)


def work(load: Load, limit: Limit, trials: Trials) -> Marks:
    """Works on trials until the limit. `trials` opens the channel when it is first asked."""
    marks = Marks(time.monotonic())
    for hand_in in trials:
        marks.taken.append(time.monotonic())
        if load.trial_s:
            time.sleep(load.trial_s)
        marks.ended.append(time.monotonic())
        hand_in()
        marks.handed_in.append(time.monotonic())
        count = len(marks.handed_in)
        if count >= limit.trials or (count > 1 and marks.taken[-1] >= limit.until):
            break
    return marks


def rafiki_trials(load: Load) -> Trials:
    """Trials of a study of ours."""
    with (
        grpc.insecure_channel(load.address) as channel,
        ExternalWorker(
            channel,
            worker_id=f"client-{load.number}",
            study=load.study,
            prefetch=load.prefetch,
        ) as worker,
    ):
        complete = worker.complete_in_background if load.in_background else worker.complete
        try:
            while (assignment := worker.take()) is not None:
                yield partial(complete, assignment, outcome(assignment.trial))
        finally:
            worker.settle()


def outcome(trial: trials_pb2.Trial) -> advisor_pb2.TrialCompleted:
    """Scores one of the knobs, or a position of every candidate."""
    if len(trial.candidates) > 1:
        scores = [candidate.archs[CELL].choices[0] / 5 for candidate in trial.candidates]
        return advisor_pb2.TrialCompleted(candidate_scores=scores)
    return advisor_pb2.TrialCompleted(score=trial.knobs[RATE].float_value)


def health_checks(load: Load) -> Trials:
    """Empty unary calls to a server of ours."""
    with grpc.insecure_channel(load.address) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        while True:
            yield partial(check, health_pb2.HealthCheckRequest())


def peer_trials(load: Load) -> Trials:
    """Trials of Optuna's proxy."""
    from benchmarks.control_plane_optuna import optuna_trials

    return optuna_trials(load.address, seed=load.number)


CLIENTS: dict[str, Callable[[Load], Trials]] = {
    "rafiki": rafiki_trials,
    "health": health_checks,
    "optuna": peer_trials,
}


def main() -> None:
    """Runs the client."""
    load = Load(**json.loads(sys.argv[1]))
    # Whatever has to be imported is, before any time is taken.
    with closing(CLIENTS[load.kind](load)) as trials:
        print("ready", flush=True)
        limit = Limit(**json.loads(sys.stdin.readline()))
        marks = work(load, limit, trials)
    print(json.dumps(asdict(marks)), flush=True)


if __name__ == "__main__":
    main()
