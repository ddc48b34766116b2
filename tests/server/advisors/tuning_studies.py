"""Configs of studies of full trials, and what to look at in them."""

from collections.abc import Mapping
from typing import Any

from tests.server.advisors.fake_study import FakeStudy

from rafiki.model.knobs import (
    ArchKnob,
    CategoricalKnob,
    FixedKnob,
    FloatKnob,
    IntegerKnob,
    Knob,
    Policy,
    PolicyKnob,
    Scalar,
)
from rafiki.resources import AdvisorKind, AdvisorSettings, Archs, Direction, TrialPhase
from rafiki.server.advisors import resolve_settings
from rafiki.server.domain.advisor import AdvisorConfig, Proposal

# 2 * 3 * 2 points, and 2 * 3 of them architectures.
SMALL: dict[str, Knob] = {
    "kind": CategoricalKnob(["a", "b"]),
    "units": IntegerKnob(1, 3, is_exp=True),
    "bits": IntegerKnob(0, 1),
    "depth": FixedKnob(3),
}
SMALL_ARCH: dict[str, Knob] = {"arch": ArchKnob([[1, 2, 3], [4, 5], [6, 7]]), "depth": FixedKnob(3)}
POINTS = 12

WIDE: dict[str, Knob] = {
    "rate": FloatKnob(1e-4, 1.0, is_exp=True),
    "units": IntegerKnob(2, 200),
    "kind": CategoricalKnob(["a", "b", "c"]),
}
LONG_ARCH: dict[str, Knob] = {"arch": ArchKnob([["a", "b", "c"]] * 8)}
EARLY_STOP: dict[str, Knob] = {"early": PolicyKnob(Policy.EARLY_STOP)}
SHARE_PARAMS: dict[str, Knob] = {"share": PolicyKnob(Policy.SHARE_PARAMS)}


def tuning_config(
    kind: AdvisorKind,
    knob_config: Mapping[str, Knob],
    *,
    settings: Mapping[str, Any] | None = None,
    direction: Direction = Direction.MAXIMIZE,
    seed: int = 5,
    batch_size: int = 1,
    has_probe: bool = False,
    time_s: float | None = None,
    model_trial_count: int | None = None,
) -> AdvisorConfig:
    """The config of a study, its settings resolved."""
    asked = AdvisorSettings(kind=kind, **(settings or {}))
    return AdvisorConfig(
        study="trainJobs/0/studies/1",
        knob_config=knob_config,
        settings=resolve_settings(asked, knob_config, subject="studies/1"),
        direction=direction,
        seed=seed,
        batch_size=batch_size,
        has_probe=has_probe,
        time_s=time_s,
        model_trial_count=model_trial_count,
    )


def points_of(proposal: Proposal) -> list[tuple[object, ...]]:
    """The points of a trial, comparable."""
    return [
        (tuple(proposal.knobs.items()), tuple(archs.items()))
        for archs in proposal.candidates or ({},)
    ]


def tuned_points(study: FakeStudy) -> list[tuple[object, ...]]:
    """The points of all TUNE trials, in the order proposed."""
    return [point for proposal in study.of(TrialPhase.TUNE) for point in points_of(proposal)]


def smooth_score(knobs: Mapping[str, Scalar], archs: Archs) -> float:
    """A score that grows with every number of a setting."""
    numbers = [float(value) for value in knobs.values() if not isinstance(value, str)]
    texts = [float(ord(value[0])) for value in knobs.values() if isinstance(value, str)]
    choices = [float(choice) for knob in archs.values() for choice in knob]
    return sum(value * (1 + place / 7) for place, value in enumerate(numbers + texts + choices))
