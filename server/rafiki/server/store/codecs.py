"""Structures as the plain JSON values that lie in `JsonText` columns, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rafiki.model.knobs import Scalar
from rafiki.model.serial import config_from_json, config_to_json
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Archs,
    BayesOptOptions,
    Candidate,
    ControlArm,
    EarlyStopping,
    EarlyStoppingRule,
    EnasOptions,
    EnasPreset,
    EvolutionOptions,
    ReinforceOptions,
    ScoreStats,
    StudyPlan,
    StudySpec,
    TrialCosts,
)

# What `json.loads` gives: the columns are written by this module only.
Json = Any


def settings_to_json(settings: AdvisorSettings) -> Json:
    """Advisor settings, resolved or as asked for."""
    return asdict(settings)


def settings_from_json(data: Json) -> AdvisorSettings:
    """The reverse of `settings_to_json`."""
    return AdvisorSettings(
        kind=AdvisorKind(data["kind"]) if data["kind"] else None,
        control_fraction=data["control_fraction"],
        # What follows the first release is missing in rows of that release.
        early_stopping=_early_stopping(data.get("early_stopping")),
        final_trains=data.get("final_trains"),
        bayes_opt=BayesOptOptions(**data["bayes_opt"]) if data.get("bayes_opt") else None,
        enas=_enas(data["enas"]),
        evolution=EvolutionOptions(**data["evolution"]) if data.get("evolution") else None,
        reinforce=ReinforceOptions(**data["reinforce"]) if data.get("reinforce") else None,
    )


def _early_stopping(data: Json) -> EarlyStopping | None:
    if not data:
        return None
    return EarlyStopping(**data | {"rule": EarlyStoppingRule(data["rule"])})


def _enas(data: Json) -> EnasOptions | None:
    if not data:
        return None
    # In the first release all had this preset, and one shard.
    preset = EnasPreset(data.get("preset", EnasPreset.DEFAULT))
    return EnasOptions(**{"train_shards": 1} | data | {"preset": preset})


def spec_to_json(spec: StudySpec) -> Json:
    """A study spec; an inline knob config is in the column of the study's knob config."""
    return {
        "model": spec.model,
        "candidate_batch_size": spec.candidate_batch_size,
        "advisor": settings_to_json(spec.advisor),
    }


def spec_from_json(data: Json, knob_config: Json, settings: Json) -> StudySpec:
    """The spec with its resolved settings in place of those asked for."""
    return StudySpec(
        model=data["model"],
        knob_config=None if data["model"] else config_from_json(knob_config),
        candidate_batch_size=data["candidate_batch_size"],
        advisor=settings_from_json(settings),
    )


def plan_to_json(plan: StudyPlan) -> Json:
    """A plan."""
    return asdict(plan)


def plan_from_json(data: Json) -> StudyPlan:
    """The reverse of `plan_to_json`."""
    return StudyPlan(**data) if data else StudyPlan()


def stats_from_json(data: Json) -> ScoreStats | None:
    """Score statistics, if there are any."""
    return ScoreStats(**data) if data else None


def control_arm_to_json(arm: ControlArm | None) -> Json:
    """A control arm, if there is one."""
    return asdict(arm) if arm else None


def control_arm_from_json(data: Json) -> ControlArm | None:
    """The reverse of `control_arm_to_json`."""
    if not data:
        return None
    search, control = ScoreStats(**data["search"]), ScoreStats(**data["control"])
    return ControlArm(**data | {"search": search, "control": control})


def archs_to_json(archs: Archs) -> Json:
    """One architecture."""
    return {name: list(choices) for name, choices in archs.items()}


def archs_from_json(data: Json) -> Archs:
    """The reverse of `archs_to_json`."""
    return {name: tuple(choices) for name, choices in data.items()}


def candidate_to_json(candidate: Candidate | None) -> Json:
    """A candidate with its score, if there is one."""
    if candidate is None:
        return None
    return {"archs": archs_to_json(candidate.archs), "score": candidate.score}


def candidate_from_json(data: Json) -> Candidate | None:
    """The reverse of `candidate_to_json`."""
    if not data:
        return None
    return Candidate(archs=archs_from_json(data["archs"]), score=data["score"])


def scores_to_json(candidates: Sequence[Candidate]) -> Json:
    """The scores of the candidates of a trial; None if none has one."""
    scores = [candidate.score for candidate in candidates]
    return scores if any(score is not None for score in scores) else None


def candidates_from_json(archs: Json, scores: Json) -> tuple[Candidate, ...]:
    """Candidates from their architectures and, once there are any, their scores."""
    scores = scores or [None] * len(archs)
    return tuple(
        Candidate(archs=archs_from_json(item), score=score)
        for item, score in zip(archs, scores, strict=True)
    )


def costs_from_json(data: Json) -> TrialCosts | None:
    """What a PROBE measured, if this is one."""
    return TrialCosts(**data) if data else None


def knobs_to_json(knobs: Mapping[str, Scalar]) -> Json:
    """Values of knobs; JSON keeps 1, 1.0 and true apart."""
    return dict(knobs)


__all__ = [
    "Json",
    "archs_from_json",
    "archs_to_json",
    "candidate_from_json",
    "candidate_to_json",
    "candidates_from_json",
    "config_from_json",
    "config_to_json",
    "control_arm_from_json",
    "control_arm_to_json",
    "costs_from_json",
    "knobs_to_json",
    "plan_from_json",
    "plan_to_json",
    "scores_to_json",
    "settings_from_json",
    "settings_to_json",
    "spec_from_json",
    "spec_to_json",
    "stats_from_json",
]
