"""Hostile calls of every method: each is answered cleanly, and the server is none the worse."""

import pytest
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from tests.hostile.cases import SEED, Answers, attack, cases, make, table
from tests.hostile.methods import METHODS, OTHER_SERVICES, rafiki_services
from tests.hostile.process import GROWTH_MIB, ServerProcess, bystander
from tests.hostile.samples import samples
from tests.hostile.world import World

FEW = 600
MANY = 10_500


def test_every_service_that_a_server_offers_is_attacked(server: ServerProcess) -> None:
    offered = set(ProtoReflectionDescriptorDatabase(server.channel).get_services())
    health, _ = OTHER_SERVICES
    assert offered | {health} == {*rafiki_services(), *OTHER_SERVICES}


def test_every_method_has_valid_calls_to_tamper_with(world: World) -> None:
    valid = samples(world)
    assert sorted(valid) == sorted(method.path for method in METHODS)
    for method in METHODS:
        assert all(isinstance(x, method.request) for call in valid[method.path] for x in call)


def test_the_valid_calls_reach_what_they_are_for(server: ServerProcess, world: World) -> None:
    valid = samples(world)
    for method in METHODS:
        if not method.path.endswith(("/PauseTrainJob", "/StopTrainJob", "/CompleteTrial")):
            frames = [request.SerializeToString() for request in valid[method.path][0]]
            assert make(server.channel, method, frames), method.path


def test_a_few_hundred_hostile_calls_are_answered_cleanly(
    server: ServerProcess, world: World
) -> None:
    answers = attack(server.channel, cases(world, FEW))
    _assert_clean(server, answers, FEW)


@pytest.mark.slow
def test_ten_thousand_hostile_calls_leave_the_server_as_it_was(
    server: ServerProcess, world: World
) -> None:
    attack(server.channel, cases(world, 1000, first=MANY))
    before_mib = server.rss_mib()
    with bystander(server, world.job):
        answers = attack(server.channel, cases(world, MANY))
    grown_mib = server.rss_mib() - before_mib
    print(f"memory: {before_mib:.0f} MiB, grown by {grown_mib:.1f}, peak {server.peak_mib():.0f}")
    _assert_clean(server, answers, MANY)
    assert grown_mib < GROWTH_MIB


def _assert_clean(server: ServerProcess, answers: Answers, count: int) -> None:
    print(f"seed {SEED} (RAFIKI_HOSTILE_SEED): {table(answers.codes)}")
    assert not answers.unclean, "\n".join([f"{len(answers.unclean)} calls", *answers.unclean[:20]])
    assert answers.codes.total() == count
    assert set(answers.by_method) == {method.path for method in METHODS}
    server.assert_unharmed()
