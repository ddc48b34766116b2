"""What follows from the settings of a study: batches and PROBE."""

import pytest

from rafiki.model.knobs import ArchKnob, FloatKnob, KnobConfig
from rafiki.resources import AdvisorKind, AdvisorSettings, EnasOptions, ReinforceOptions
from rafiki.server.domain.studies import batch_size, has_probe

ARCH: KnobConfig = {"arch": ArchKnob([[1, 2]])}
ENAS = AdvisorSettings(kind=AdvisorKind.ENAS, enas=EnasOptions(candidates_per_batch=10))
REINFORCE = AdvisorSettings(kind=AdvisorKind.REINFORCE, reinforce=ReinforceOptions(batch_size=10))
RANDOM = AdvisorSettings(kind=AdvisorKind.RANDOM)
EVOLUTION = AdvisorSettings(kind=AdvisorKind.EVOLUTION)
BAYES_OPT = AdvisorSettings(kind=AdvisorKind.BAYES_OPT)


@pytest.mark.parametrize(
    ("settings", "taken", "size"),
    [
        (RANDOM, 7, 7),
        (RANDOM, 50, 50),
        (RANDOM, 0, 1),
        (REINFORCE, 7, 7),
        (REINFORCE, 50, 10),
        (ENAS, 7, 7),
        (ENAS, 50, 10),
        (EVOLUTION, 50, 1),
        (BAYES_OPT, 50, 1),
    ],
)
def test_an_external_study_gets_what_both_it_and_the_scheme_take(
    settings: AdvisorSettings, taken: int, size: int
) -> None:
    assert batch_size(ARCH, settings, takes_batches=False, candidate_batch_size=taken) == size


@pytest.mark.parametrize(
    ("settings", "takes_batches", "size"),
    [(ENAS, True, 10), (ENAS, False, 1), (RANDOM, True, 1), (REINFORCE, True, 1)],
)
def test_a_template_gets_batches_only_on_shared_weights(
    settings: AdvisorSettings, takes_batches: bool, size: int
) -> None:
    given = batch_size(ARCH, settings, takes_batches=takes_batches, candidate_batch_size=None)
    assert given == size


def test_without_arch_knobs_there_are_no_batches() -> None:
    knobs: KnobConfig = {"rate": FloatKnob(0.1, 0.9)}
    assert batch_size(knobs, RANDOM, takes_batches=True, candidate_batch_size=9) == 1


def test_all_but_fixed_and_external_studies_measure_their_costs_first() -> None:
    assert all(
        has_probe(AdvisorSettings(kind=kind), is_external=False) == (kind is not AdvisorKind.FIXED)
        for kind in AdvisorKind
    )
    assert not has_probe(ENAS, is_external=True)
