"""The short form of the storm; `make chaos` runs the long one."""

from pathlib import Path

import pytest
from tests.chaos.faults import FaultKind
from tests.chaos.storm import run_storm

pytestmark = pytest.mark.slow

SEED = 1


@pytest.mark.timeout(600)
def test_a_storm_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    # One fault of every kind; what is to be known of a failure lies in the folder.
    outcome = run_storm(seed=SEED, faults=len(FaultKind), folder=tmp_path / "storm", scale=0.2)
    assert not outcome.complaints, f"{outcome}\nmore in {tmp_path / 'storm'}"
    assert set(outcome.struck) == set(FaultKind)
