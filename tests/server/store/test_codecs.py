import json

import pytest

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
from rafiki.server.store.codecs import Json, settings_from_json, settings_to_json


def stored(settings: AdvisorSettings) -> AdvisorSettings:
    """What is read of what was written, with the text of the column between."""
    return settings_from_json(json.loads(json.dumps(settings_to_json(settings))))


@pytest.mark.parametrize(
    "settings",
    [
        AdvisorSettings(),
        AdvisorSettings(kind=AdvisorKind.FIXED, final_trains=0),
        AdvisorSettings(
            kind=AdvisorKind.RANDOM,
            early_stopping=EarlyStopping(rule=EarlyStoppingRule.ASHA, min_steps=3),
            final_trains=2,
        ),
        AdvisorSettings(
            kind=AdvisorKind.BAYES_OPT,
            control_fraction=0.25,
            bayes_opt=BayesOptOptions(initial_trials=7),
        ),
        AdvisorSettings(
            kind=AdvisorKind.ENAS,
            enas=enas_preset(EnasPreset.PAPER_MACRO, train_shards=3, rank_trains=5),
        ),
        AdvisorSettings(
            kind=AdvisorKind.EVOLUTION,
            evolution=EvolutionOptions(population_size=9, sample_size=2),
        ),
        AdvisorSettings(kind=AdvisorKind.REINFORCE, reinforce=ReinforceOptions(batch_size=4)),
    ],
)
def test_settings_are_read_as_they_were_written(settings: AdvisorSettings) -> None:
    read = stored(settings)
    assert read == settings
    # JSON has no enums: a text would be equal to one, and yet have no name.
    assert read.kind is settings.kind
    if read.enas is not None:
        assert isinstance(read.enas.preset, EnasPreset)
    if read.early_stopping is not None:
        assert isinstance(read.early_stopping.rule, EarlyStoppingRule)


# As the first release wrote it, in full.
FIRST_RELEASE: Json = {
    "kind": "ENAS",
    "control_fraction": 0.1,
    "enas": {
        "candidates_per_batch": 10,
        "batches_per_round": 30,
        "final_evals": 10,
        "final_trains": 1,
        "final_controls": 1,
        "controller_learning_rate": 0.0035,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "entropy_weight": 1e-4,
        "baseline_decay": 0.95,
        "hidden_size": 64,
        "tanh_constant": 2.5,
        "temperature": 5.0,
    },
}


def test_settings_of_the_first_release_are_read_as_it_meant_them() -> None:
    read = settings_from_json(FIRST_RELEASE)
    # It had one shard and knew of no other.
    assert read == AdvisorSettings(
        kind=AdvisorKind.ENAS,
        control_fraction=0.1,
        enas=EnasOptions(final_controls=1, train_shards=1),
    )


@pytest.mark.parametrize("kind", [None, "RANDOM", "FIXED"])
def test_settings_without_options_of_the_first_release_are_read(kind: str | None) -> None:
    read = settings_from_json({"kind": kind, "control_fraction": 0.0, "enas": None})
    assert read == AdvisorSettings(kind=AdvisorKind(kind) if kind else None)
