"""Advisor settings: how a study is searched, with the defaults of every option."""

from dataclasses import dataclass, replace
from typing import Any

from rafiki.resources.enums import AdvisorKind, EarlyStoppingRule, EnasPreset


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyStopping:
    """When a running trial is behind; see the message of the same name."""

    rule: EarlyStoppingRule = EarlyStoppingRule.MEDIAN
    min_steps: int = 1
    min_trials: int = 5
    reduction_factor: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BayesOptOptions:
    """Settings of both BAYES_OPT kinds with their defaults."""

    initial_trials: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class EvolutionOptions:
    """Settings of EVOLUTION with their defaults."""

    population_size: int = 50
    sample_size: int = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ReinforceOptions:
    """Settings of REINFORCE with their defaults."""

    batch_size: int = 10
    controller_learning_rate: float = 0.0035
    entropy_weight: float = 1e-4
    baseline_decay: float = 0.95
    tanh_constant: float = 2.5
    temperature: float = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class EnasOptions:
    """Settings of ENAS with the defaults of the preset DEFAULT.

    `preset` only says where the constants came from; `enas_preset` makes those of another.
    """

    preset: EnasPreset = EnasPreset.DEFAULT
    candidates_per_batch: int = 10
    batches_per_round: int = 30
    train_shards: int = 0
    final_evals: int = 10
    final_trains: int = 1
    final_controls: int = 0
    rank_trains: int = 0
    controller_learning_rate: float = 0.0035
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    entropy_weight: float = 1e-4
    baseline_decay: float = 0.95
    baseline_from_zero: bool = False
    hidden_size: int = 64
    tanh_constant: float = 2.5
    temperature: float = 5.0
    op_logit_scale: float = 1.0
    skip_target: float = 0.4
    skip_weight: float = 0.0


# The authors' settings by their published scripts: micro and macro of their CIFAR code, RNN of
# enas_lm. What is not listed is that of DEFAULT.
_PRESETS: dict[EnasPreset, EnasOptions] = {
    EnasPreset.DEFAULT: EnasOptions(),
    EnasPreset.PAPER_MICRO: EnasOptions(
        preset=EnasPreset.PAPER_MICRO,
        adam_beta1=0.0,
        adam_epsilon=1e-3,
        temperature=1.0,
        tanh_constant=1.1,
        op_logit_scale=0.4,
        baseline_decay=0.99,
        baseline_from_zero=True,
    ),
    EnasPreset.PAPER_MACRO: EnasOptions(
        preset=EnasPreset.PAPER_MACRO,
        candidates_per_batch=20,
        batches_per_round=50,
        controller_learning_rate=0.001,
        adam_beta1=0.0,
        adam_epsilon=1e-3,
        temperature=1.0,
        tanh_constant=1.5,
        baseline_decay=0.99,
        baseline_from_zero=True,
        skip_target=0.4,
        skip_weight=0.8,
    ),
    EnasPreset.PAPER_RNN: EnasOptions(
        preset=EnasPreset.PAPER_RNN,
        batches_per_round=25,
        controller_learning_rate=5e-5,
        tanh_constant=2.25,
        entropy_weight=1e-5,
        baseline_decay=0.999,
        baseline_from_zero=True,
    ),
}


def enas_preset(preset: EnasPreset, **overrides: Any) -> EnasOptions:
    """The options of a preset, single ones overridden."""
    return replace(_PRESETS[preset], **overrides)


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvisorSettings:
    """How to search. `kind` None asks for the first scheme that fits the knobs.

    Of the options, only those of the kind may be set; resolved settings have them set where
    the kind has any. `final_trains` None asks for the default: 1 where EARLY_STOP is offered.
    """

    kind: AdvisorKind | None = None
    control_fraction: float = 0.0
    early_stopping: EarlyStopping | None = None
    final_trains: int | None = None
    bayes_opt: BayesOptOptions | None = None
    enas: EnasOptions | None = None
    evolution: EvolutionOptions | None = None
    reinforce: ReinforceOptions | None = None
