"""Which worker may run what, and what a job waits for."""

import pytest

from rafiki.model.knobs import ArchKnob, FloatKnob, KnobConfig
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Digest,
    Direction,
    EnasOptions,
    Model,
    Platform,
)
from rafiki.server.domain.names import JobName, StudyName
from rafiki.server.domain.studies import StudyFacts, batch_size, has_probe
from rafiki.server.domain.waiting import may_run, waiting_for
from rafiki.server.domain.workers import Worker, WorkerDevice

STUDY = StudyName("0123abcd", 1)
CPU = WorkerDevice(platform=Platform.CPU, count=2)
GPU = WorkerDevice(platform=Platform.GPU, count=2)
KNOBS: KnobConfig = {"rate": FloatKnob(0.1, 0.9)}
RANDOM = AdvisorSettings(kind=AdvisorKind.RANDOM)
MODEL = Model(
    display_name="m",
    task="ANY",
    model_class="m:M",
    source=Digest("0" * 64, 1),
    knob_config=KNOBS,
)

ANY = Worker(worker_id="any", capacity=1, devices=(CPU,))
NAMING = Worker(worker_id="naming", capacity=1, devices=(CPU,), studies=(STUDY,))
OF_JOB = Worker(worker_id="job", capacity=1, devices=(CPU,), studies=(JobName(STUDY.job),))
OTHER = Worker(worker_id="other", capacity=1, devices=(CPU,), studies=(StudyName(STUDY.job, 2),))
WITH_GPU = Worker(worker_id="gpu", capacity=1, devices=(CPU, GPU))


def facts(model: Model | None = MODEL, gpu_count: int = 0) -> StudyFacts:
    return StudyFacts(
        name=STUDY,
        knob_config=KNOBS,
        settings=RANDOM,
        direction=Direction.MAXIMIZE,
        seed=1,
        batch_size=1,
        has_probe=model is not None,
        model=model,
        gpu_count=gpu_count,
    )


@pytest.mark.parametrize(
    ("worker", "study", "expected"),
    [
        (ANY, facts(), True),
        (NAMING, facts(), True),
        (OF_JOB, facts(), True),
        (OTHER, facts(), False),
        (ANY, facts(model=None), False),
        (NAMING, facts(model=None), True),
        (OF_JOB, facts(model=None), True),
        (ANY, facts(gpu_count=1), False),
        (WITH_GPU, facts(gpu_count=1), True),
        (WITH_GPU, facts(), True),
    ],
)
def test_a_worker_gets_what_it_named_and_has_the_devices_for(
    worker: Worker, study: StudyFacts, expected: bool
) -> None:
    assert may_run(worker, study) is expected


@pytest.mark.parametrize(
    ("study", "workers", "running", "expected"),
    [
        (facts(), [], 0, "a worker"),
        (facts(), [], 1, ""),
        (facts(), [ANY], 0, "a free worker"),
        (facts(), [OTHER], 0, f"a worker that takes any study or names {STUDY}"),
        (facts(model=None), [ANY], 0, f"a worker that names {STUDY}"),
        (facts(gpu_count=1), [], 0, "a worker with a GPU or TPU"),
        (
            facts(gpu_count=1),
            [ANY, NAMING],
            0,
            "a worker with a GPU or TPU: none of the 2 connected has one",
        ),
    ],
)
def test_a_job_says_what_it_waits_for(
    study: StudyFacts, workers: list[Worker], running: int, expected: str
) -> None:
    assert waiting_for([study], workers, running) == expected


def test_a_job_whose_studies_have_ended_waits_for_nothing() -> None:
    assert waiting_for([], [], 0) == ""


ARCHS: KnobConfig = {"cell": ArchKnob([["a", "b"]])}
ENAS = AdvisorSettings(kind=AdvisorKind.ENAS, enas=EnasOptions(candidates_per_batch=10))


@pytest.mark.parametrize(
    ("knobs", "advisor", "takes_batches", "external", "expected"),
    [
        (ARCHS, ENAS, True, None, 10),
        (ARCHS, ENAS, False, None, 1),
        (ARCHS, ENAS, False, 4, 4),
        (ARCHS, ENAS, False, 40, 10),
        (ARCHS, ENAS, False, 0, 1),
        (ARCHS, RANDOM, True, None, 1),
        (ARCHS, RANDOM, False, 40, 40),
        (KNOBS, RANDOM, False, 40, 1),
    ],
)
def test_a_trial_holds_what_both_the_worker_and_the_scheme_take(
    knobs: KnobConfig,
    advisor: AdvisorSettings,
    takes_batches: bool,
    external: int | None,
    expected: int,
) -> None:
    size = batch_size(knobs, advisor, takes_batches=takes_batches, candidate_batch_size=external)
    assert size == expected


def test_only_models_that_are_searched_for_are_probed() -> None:
    fixed = AdvisorSettings(kind=AdvisorKind.FIXED)
    assert has_probe(RANDOM, is_external=False)
    assert not has_probe(RANDOM, is_external=True)
    assert not has_probe(fixed, is_external=False)
