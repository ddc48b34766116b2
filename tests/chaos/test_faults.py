"""The schedule of a storm."""

from itertools import islice

from tests.chaos.faults import FaultKind, draw_faults


def test_the_same_seed_draws_the_same_faults() -> None:
    first = list(islice(draw_faults(7, lease_s=1.0), 100))
    assert first == list(islice(draw_faults(7, lease_s=1.0), 100))
    assert first != list(islice(draw_faults(8, lease_s=1.0), 100))


def test_the_first_faults_are_of_every_kind() -> None:
    first = list(islice(draw_faults(7, lease_s=1.0), len(FaultKind)))
    assert {fault.kind for fault in first} == set(FaultKind)


def test_what_is_frozen_is_frozen_for_longer_than_a_lease() -> None:
    frozen = {FaultKind.FREEZE_SERVER, FaultKind.FREEZE_WORKER}
    durations = [f.duration_s for f in islice(draw_faults(7, lease_s=2.0), 300) if f.kind in frozen]
    assert durations
    assert min(durations) > 2.0
