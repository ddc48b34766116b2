"""Cases: one hostile call each, made from a seed and a number, and how it is answered."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

import grpc
from tests.hostile.forge import Forge
from tests.hostile.methods import METHODS, Method
from tests.hostile.samples import Requests, samples
from tests.hostile.world import World

SEED = int(os.environ.get("RAFIKI_HOSTILE_SEED", "1"))

_Ask: TypeAlias = "grpc.UnaryUnaryMultiCallable[bytes, bytes]"
_Follow: TypeAlias = "grpc.UnaryStreamMultiCallable[bytes, bytes]"
_TakeStream: TypeAlias = "grpc.StreamUnaryMultiCallable[bytes, bytes]"
_Converse: TypeAlias = "grpc.StreamStreamMultiCallable[bytes, bytes]"

# What a server answers that knows what it does. The rest is for gRPC and for failures.
CLEAN = frozenset(
    {
        grpc.StatusCode.OK,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
CALL_S = 60.0
CALLERS = 6
_MOST_RESPONSES = 5


@dataclass(frozen=True, slots=True)
class Case:
    """One call; the same seed and number give the same case, in the same world."""

    number: int
    method: Method
    frames: tuple[bytes, ...]

    def __str__(self) -> str:
        shown = ", ".join(f"{len(x)} bytes {x[:300]!r}" for x in self.frames[:6])
        return f"case {self.number} of seed {SEED}: {self.method.path}({shown})"


@dataclass(slots=True)
class Answers:
    """How the calls ended: by code, and those that ended as none may."""

    codes: Counter[grpc.StatusCode] = field(default_factory=Counter)
    by_method: Counter[str] = field(default_factory=Counter)
    unclean: list[str] = field(default_factory=list)


def cases(world: World, count: int, first: int = 0) -> Iterator[Case]:
    """So many cases, each method as often as any other."""
    valid = samples(world)
    for number in range(first, first + count):
        method = METHODS[number % len(METHODS)]
        random = Random(f"{SEED}-{number}")
        forge = Forge(random, world.texts)
        yield Case(number, method, tuple(_frames(forge, random, method, valid[method.path])))


def _frames(
    forge: Forge, random: Random, method: Method, valid: Sequence[Requests]
) -> Iterator[bytes]:
    requests = list(random.choice(valid))
    if method.takes_stream:
        match random.random():
            case chance if chance < 0.1:
                random.shuffle(requests)
            case chance if chance < 0.2:
                requests = requests[: random.randrange(len(requests) + 1)]
            case chance if chance < 0.3:
                requests = [*requests, *requests]
    hit = random.randrange(len(requests)) if requests else 0
    for number, request in enumerate(requests):
        chance = random.random()
        if number != hit or (method.takes_stream and chance < 0.1):
            yield request.SerializeToString()
        elif chance < 0.65:
            yield forge.tampered(request).SerializeToString()
        elif chance < 0.75:
            yield forge.invented(method.request).SerializeToString()
        else:
            yield forge.mangled(request.SerializeToString())


def attack(channel: grpc.Channel, attacks: Iterator[Case]) -> Answers:
    """Makes all the calls, several at a time."""
    answers = Answers()
    with ThreadPoolExecutor(CALLERS) as pool:
        for case, code, details in pool.map(lambda case: _made(channel, case), attacks):
            answers.codes[code] += 1
            answers.by_method[case.method.path] += 1
            if code not in CLEAN:
                answers.unclean.append(f"{code.name} {details[:300]!r} for {case}")
    return answers


def _made(channel: grpc.Channel, case: Case) -> tuple[Case, grpc.StatusCode, str]:
    try:
        make(channel, case.method, case.frames)
    except grpc.RpcError as error:
        assert isinstance(error, grpc.Call)
        return case, error.code(), str(error.details())
    return case, grpc.StatusCode.OK, ""


def make(channel: grpc.Channel, method: Method, frames: Sequence[bytes]) -> list[bytes]:
    """Makes one call of any kind with bytes; returns the first responses.

    A stream without an end is left after some responses, a silent one with OK.

    Raises:
        grpc.RpcError: As the call ended.
    """
    first = frames[0] if frames else b""
    # Without a serializer, what goes in and what comes out are bytes.
    if method.takes_stream:
        if not method.gives_stream:
            take: _TakeStream = channel.stream_unary(method.path)
            return [take(iter(frames), timeout=CALL_S)]
        converse: _Converse = channel.stream_stream(method.path)
        responses = converse(iter(frames), timeout=CALL_S)
    else:
        if not method.gives_stream:
            ask: _Ask = channel.unary_unary(method.path)
            return [ask(first, timeout=CALL_S)]
        follow: _Follow = channel.unary_stream(method.path)
        responses = follow(first, timeout=CALL_S)
    received: list[bytes] = []
    for response in responses:
        received.append(response)
        if len(received) == _MOST_RESPONSES or not method.takes_stream:
            responses.cancel()
            break
    return received


def table(codes: Mapping[grpc.StatusCode, int]) -> str:
    """The codes by how often they came."""
    ordered = sorted(codes.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{code.name} {count}" for code, count in ordered)
