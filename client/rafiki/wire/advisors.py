"""Advisor settings: how a study is searched."""

import dataclasses
from typing import Any

from google.protobuf.message import Message

from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    BayesOptOptions,
    EarlyStopping,
    EarlyStoppingRule,
    EnasOptions,
    EnasPreset,
    EvolutionOptions,
    ReinforceOptions,
    enas_preset,
)
from rafiki.v1 import studies_pb2
from rafiki.wire.enums import enum_to_proto
from rafiki.wire.fields import InvalidField, at, enum_value, finite, fraction, in_range

# Candidates of one trial, and of one round: what still fits a message and a server's memory.
MAX_BATCH = 1000
MAX_BATCHES = 10_000
MAX_HIDDEN_SIZE = 1024
MAX_SHARDS = 64
MAX_FINAL_TRAINS = 1000
MAX_STEPS = 1_000_000_000
MAX_REDUCTION_FACTOR = 100.0
MIN_RANK_TRAINS = 3

_MAX_POPULATION = 10_000
_OPTIONS = ("bayes_opt", "enas", "evolution", "reinforce")


def advisor_settings_to_proto(settings: AdvisorSettings) -> studies_pb2.AdvisorSettings:
    """The message with every default set.

    Raises ValueError if there are options of more than one kind: a message holds one.
    """
    s = settings
    given = [name for name in _OPTIONS if getattr(s, name) is not None]
    if len(given) > 1:
        raise ValueError(f"options of one kind only, not of {' and '.join(given)}")
    return studies_pb2.AdvisorSettings(
        kind=enum_to_proto(s.kind),
        control_fraction=s.control_fraction,
        early_stopping=None if s.early_stopping is None else _stopping_to_proto(s.early_stopping),
        final_trains=s.final_trains,
        bayes_opt=None if s.bayes_opt is None else bayes_opt_options_to_proto(s.bayes_opt),
        enas=None if s.enas is None else enas_options_to_proto(s.enas),
        evolution=None if s.evolution is None else evolution_options_to_proto(s.evolution),
        reinforce=None if s.reinforce is None else reinforce_options_to_proto(s.reinforce),
    )


def advisor_settings_from_proto(
    message: studies_pb2.AdvisorSettings, path: str = ""
) -> AdvisorSettings:
    """The settings; options that are given have the defaults of what they leave unset."""
    has = message.HasField
    final_trains = None
    if has("final_trains"):
        final_trains = in_range(message.final_trains, 0, MAX_FINAL_TRAINS, at(path, "final_trains"))
    return AdvisorSettings(
        kind=enum_value(AdvisorKind, message.kind, at(path, "kind")),
        control_fraction=fraction(message.control_fraction, 0.5, at(path, "control_fraction")),
        early_stopping=(
            _stopping_from_proto(message.early_stopping, at(path, "early_stopping"))
            if has("early_stopping")
            else None
        ),
        final_trains=final_trains,
        bayes_opt=(
            bayes_opt_options_from_proto(message.bayes_opt, at(path, "bayes_opt"))
            if has("bayes_opt")
            else None
        ),
        enas=enas_options_from_proto(message.enas, at(path, "enas")) if has("enas") else None,
        evolution=(
            evolution_options_from_proto(message.evolution, at(path, "evolution"))
            if has("evolution")
            else None
        ),
        reinforce=(
            reinforce_options_from_proto(message.reinforce, at(path, "reinforce"))
            if has("reinforce")
            else None
        ),
    )


def bayes_opt_options_to_proto(options: BayesOptOptions) -> studies_pb2.BayesOptOptions:
    """The message with every option set."""
    return studies_pb2.BayesOptOptions(initial_trials=options.initial_trials)


def bayes_opt_options_from_proto(
    message: studies_pb2.BayesOptOptions, path: str = ""
) -> BayesOptOptions:
    """The options, those unset with their defaults."""
    options = dataclasses.replace(BayesOptOptions(), **_given(message))
    in_range(options.initial_trials, 1, MAX_BATCH, at(path, "initial_trials"))
    return options


def evolution_options_to_proto(options: EvolutionOptions) -> studies_pb2.EvolutionOptions:
    """The message with every option set."""
    return studies_pb2.EvolutionOptions(
        population_size=options.population_size, sample_size=options.sample_size
    )


def evolution_options_from_proto(
    message: studies_pb2.EvolutionOptions, path: str = ""
) -> EvolutionOptions:
    """The options, those unset with their defaults."""
    given = _given(message)
    options = dataclasses.replace(EvolutionOptions(), **given)
    if "sample_size" not in given:
        size = min(options.sample_size, max(1, options.population_size))
        options = dataclasses.replace(options, sample_size=size)
    in_range(options.population_size, 2, _MAX_POPULATION, at(path, "population_size"))
    in_range(options.sample_size, 1, options.population_size, at(path, "sample_size"))
    return options


def reinforce_options_to_proto(options: ReinforceOptions) -> studies_pb2.ReinforceOptions:
    """The message with every option set."""
    return studies_pb2.ReinforceOptions(
        batch_size=options.batch_size,
        controller_learning_rate=options.controller_learning_rate,
        entropy_weight=options.entropy_weight,
        baseline_decay=options.baseline_decay,
        tanh_constant=options.tanh_constant,
        temperature=options.temperature,
    )


def reinforce_options_from_proto(
    message: studies_pb2.ReinforceOptions, path: str = ""
) -> ReinforceOptions:
    """The options, those unset with their defaults."""
    options = dataclasses.replace(ReinforceOptions(), **_given(message))
    in_range(options.batch_size, 1, MAX_BATCH, at(path, "batch_size"))
    _check_controller(options, path)
    return options


def enas_options_to_proto(options: EnasOptions) -> studies_pb2.EnasOptions:
    """The message with every option set."""
    return studies_pb2.EnasOptions(
        preset=enum_to_proto(options.preset),
        candidates_per_batch=options.candidates_per_batch,
        batches_per_round=options.batches_per_round,
        train_shards=options.train_shards,
        final_evals=options.final_evals,
        final_trains=options.final_trains,
        final_controls=options.final_controls,
        rank_trains=options.rank_trains,
        controller_learning_rate=options.controller_learning_rate,
        adam_beta1=options.adam_beta1,
        adam_beta2=options.adam_beta2,
        adam_epsilon=options.adam_epsilon,
        entropy_weight=options.entropy_weight,
        baseline_decay=options.baseline_decay,
        baseline_from_zero=options.baseline_from_zero,
        hidden_size=options.hidden_size,
        tanh_constant=options.tanh_constant,
        temperature=options.temperature,
        op_logit_scale=options.op_logit_scale,
        skip_target=options.skip_target,
        skip_weight=options.skip_weight,
    )


def enas_options_from_proto(message: studies_pb2.EnasOptions, path: str = "") -> EnasOptions:
    """The options, those unset with the values of the preset."""
    given = _given(message)
    given.pop("preset", None)
    preset = enum_value(EnasPreset, message.preset, at(path, "preset"))
    options = enas_preset(preset or EnasPreset.DEFAULT, **given)
    for name, low, high in (
        ("candidates_per_batch", 1, MAX_BATCH),
        ("batches_per_round", 1, MAX_BATCHES),
        ("train_shards", 0, MAX_SHARDS),
        ("final_evals", 1, MAX_BATCH),
        ("final_trains", 1, options.final_evals),
        ("final_controls", 0, options.final_evals),
        ("rank_trains", 0, 2 * options.final_evals),
        ("hidden_size", 1, MAX_HIDDEN_SIZE),
    ):
        in_range(getattr(options, name), low, high, at(path, name))
    if 0 < options.rank_trains < MIN_RANK_TRAINS:
        rule = f"must be 0, or at least {MIN_RANK_TRAINS}"
        raise InvalidField(at(path, "rank_trains"), rule)
    _check_controller(options, path)
    for name in ("adam_epsilon", "op_logit_scale"):
        if finite(getattr(options, name), at(path, name)) <= 0:
            raise InvalidField(at(path, name), "must be above 0")
    for name in ("adam_beta1", "adam_beta2"):
        if not 0 <= getattr(options, name) < 1:
            raise InvalidField(at(path, name), "must be in [0, 1)")
    if not 0 < options.skip_target < 1:
        raise InvalidField(at(path, "skip_target"), "must be in (0, 1)")
    if finite(options.skip_weight, at(path, "skip_weight")) < 0:
        raise InvalidField(at(path, "skip_weight"), "must be at least 0")
    return options


def _check_controller(options: EnasOptions | ReinforceOptions, path: str) -> None:
    for name in ("controller_learning_rate", "tanh_constant", "temperature"):
        if finite(getattr(options, name), at(path, name)) <= 0:
            raise InvalidField(at(path, name), "must be above 0")
    if not 0 <= options.baseline_decay < 1:
        raise InvalidField(at(path, "baseline_decay"), "must be in [0, 1)")
    if finite(options.entropy_weight, at(path, "entropy_weight")) < 0:
        raise InvalidField(at(path, "entropy_weight"), "must be at least 0")


def _stopping_to_proto(stopping: EarlyStopping) -> studies_pb2.EarlyStopping:
    return studies_pb2.EarlyStopping(
        rule=enum_to_proto(stopping.rule),
        min_steps=stopping.min_steps,
        min_trials=stopping.min_trials,
        reduction_factor=stopping.reduction_factor,
    )


def _stopping_from_proto(message: studies_pb2.EarlyStopping, path: str) -> EarlyStopping:
    given = _given(message)
    given.pop("rule", None)
    rule = enum_value(EarlyStoppingRule, message.rule, at(path, "rule"))
    stopping = EarlyStopping(rule=rule or EarlyStoppingRule.MEDIAN, **given)
    in_range(stopping.min_steps, 1, MAX_STEPS, at(path, "min_steps"))
    in_range(stopping.min_trials, 1, MAX_BATCH, at(path, "min_trials"))
    if not 1 < stopping.reduction_factor <= MAX_REDUCTION_FACTOR:
        rule_text = f"must be above 1 and at most {MAX_REDUCTION_FACTOR:g}"
        raise InvalidField(at(path, "reduction_factor"), rule_text)
    return stopping


def _given(message: Message) -> dict[str, Any]:
    """The fields that are set, by name."""
    return {field.name: value for field, value in message.ListFields()}
