"""Fixtures of studies without a server."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.server.advisors import fake_study as fakes
from tests.server.advisors.fake_study import COSTS, FakeStudy

from rafiki.model.knobs import (
    ArchKnob,
    FixedKnob,
    Knob,
    KnobConfig,
    KnobValue,
    NodeRef,
    Policy,
    PolicyKnob,
)
from rafiki.resources import AdvisorKind, AdvisorSettings, Direction, EnasOptions, TrialCosts
from rafiki.server.domain.advisor import Advisor, AdvisorConfig

OPTIONS = EnasOptions(candidates_per_batch=4, batches_per_round=3, final_evals=4, hidden_size=8)


def policies() -> dict[str, Knob]:
    """All five policies as knobs."""
    return {policy.lower(): PolicyKnob(policy) for policy in Policy}


def cell_config() -> KnobConfig:
    """Two cells over shared operations, the second after the first, 2 nodes each."""
    operations = [KnobValue(name) for name in ("conv", "pool", "skip")]

    def cell() -> ArchKnob:
        inputs = [[NodeRef(node) for node in range(count)] for count in (2, 2, 3, 3)]
        items = [choices for pair in inputs for choices in (pair, operations)]
        return ArchKnob(items, nodes=[2] * 4 + [3] * 4)

    return {"filters": FixedKnob(16), "normal": cell(), "reduction": cell(), **policies()}


def enas_config(
    *,
    options: EnasOptions = OPTIONS,
    control_fraction: float = 0.0,
    batch_size: int = 4,
    has_probe: bool = True,
    direction: Direction = Direction.MAXIMIZE,
    seed: int = 11,
    time_s: float | None = None,
    model_trial_count: int | None = None,
    knob_config: KnobConfig | None = None,
) -> AdvisorConfig:
    """The config of a small ENAS study."""
    settings = AdvisorSettings(
        kind=AdvisorKind.ENAS, control_fraction=control_fraction, enas=options
    )
    return AdvisorConfig(
        study="trainJobs/0/studies/1",
        knob_config=knob_config or cell_config(),
        settings=settings,
        direction=direction,
        seed=seed,
        batch_size=batch_size,
        has_probe=has_probe,
        time_s=time_s,
        model_trial_count=model_trial_count,
    )


@pytest.fixture
def fake_study() -> type[FakeStudy]:
    """Makes studies."""
    return FakeStudy


@pytest.fixture
def make_enas() -> Callable[..., AdvisorConfig]:
    """Makes configs of small ENAS studies."""
    return enas_config


@pytest.fixture
def small_options() -> EnasOptions:
    """The options of small ENAS studies."""
    return OPTIONS


@pytest.fixture
def single_costs() -> TrialCosts:
    """What the PROBE of a template without candidate batches measures."""
    return replace(COSTS, steps_per_epoch=0)


@pytest.fixture
def reloaded() -> Callable[[Advisor, AdvisorConfig], Advisor]:
    """Makes a fresh advisor from the snapshot of another."""
    return fakes.reloaded


__all__ = ["OPTIONS", "FakeStudy", "cell_config", "enas_config", "policies"]
