"""The client against a real server without workers."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rafiki.client import Client, InvalidField, ResourceNotFound
from rafiki.client.local import LocalPlatform, PlatformConfig
from rafiki.model.knobs import FixedKnob
from rafiki.model.loading import pack_source
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    StudySpec,
    TrainJob,
    TrainJobState,
)

TINY = Path(__file__).parent / "templates" / "tiny.py"
MIB = 1 << 20


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    config = PlatformConfig(
        data_dir=tmp_path_factory.mktemp("server"), listen="127.0.0.1:0", workers=0
    )
    with LocalPlatform(config, print) as platform, Client(platform.address) as client:
        yield client


def external_job(**changes: object) -> TrainJob:
    spec = StudySpec(
        knob_config={"depth": FixedKnob(2)}, advisor=AdvisorSettings(kind=AdvisorKind.FIXED)
    )
    fields: dict[str, object] = {
        "app": "digits",
        "task": "IMAGE_CLASSIFICATION",
        "studies": (spec,),
        "budget": Budget(model_trial_count=1),
        **changes,
    }
    return TrainJob(**fields)  # type: ignore[arg-type]  # fields of TrainJob


def test_a_data_set_goes_in_chunks_of_a_mebibyte_and_only_once(
    client: Client, tmp_path: Path
) -> None:
    path = tmp_path / "data.bin"
    path.write_bytes(os.urandom(2 * MIB + 10))
    sent: list[tuple[int, int]] = []
    note = lambda done, total: sent.append((done, total))  # noqa: E731
    first = client.create_dataset(path, task="OTHER", on_progress=note)
    assert sent == [(n, 2 * MIB + 10) for n in (MIB, 2 * MIB, 2 * MIB + 10)]
    second = client.create_dataset(path, task="OTHER", on_progress=note)
    assert len(sent) == 3
    assert (first.digest, first.display_name) == (second.digest, "data.bin")
    assert first.name != second.name
    assert [d.name for d in client.list_datasets("OTHER")] == [second.name, first.name]


def test_a_model_is_created_from_bytes_or_a_file(client: Client, tmp_path: Path) -> None:
    source = pack_source(TINY)
    archive = tmp_path / "tiny.zip"
    archive.write_bytes(source)
    made = [
        client.create_model(
            given,
            display_name="Tiny",
            task="IMAGE_CLASSIFICATION",
            model_class="tiny:Tiny",
            knob_config={"depth": FixedKnob(2)},
        )
        for given in (source, archive, str(archive))
    ]
    assert len({model.source for model in made}) == 1
    assert client.get_model(made[0].name) == made[0]
    assert len(list(client.list_models())) >= 3


def test_a_job_is_created_watched_and_stopped(client: Client) -> None:
    job, (study,) = client.create_train_job(external_job())
    events = client.watch_train_job(job.name)
    assert isinstance(next(events), TrainJob)
    assert client.get_train_job(job.name).app_version == 1
    assert [s.name for s in client.list_studies(job.name)] == [study.name]
    assert client.get_study(study.name).knob_config == {"depth": FixedKnob(2)}
    client.stop_train_job(job.name)
    last = [event for event in events if isinstance(event, TrainJob)][-1]
    assert last.state is TrainJobState.STOPPED
    assert list(client.list_trials(job.name)) == list(client.list_best_trials(study.name)) == []
    assert list(client.list_study_rounds(study.name)) == []


def test_a_job_may_only_be_planned(client: Client) -> None:
    before = [job.name for job in client.list_train_jobs()]
    planned, studies = client.create_train_job(external_job(app="planned"), validate_only=True)
    assert planned.name == ""
    assert studies[0].plan.trials == 1
    assert [job.name for job in client.list_train_jobs()] == before


def test_a_refused_job_names_the_field(client: Client) -> None:
    with pytest.raises(InvalidField) as raised:
        client.create_train_job(external_job(app="No Such Name"))
    assert [violation.field for violation in raised.value.violations] == ["train_job.app"]


def test_what_does_not_exist_is_not_found(client: Client) -> None:
    job = "trainJobs/00000000"
    trial = f"{job}/studies/1/trials/1"
    reads: list[Callable[[], object]] = [
        lambda: client.get_model("models/00000000"),
        lambda: client.get_dataset("datasets/00000000"),
        lambda: client.get_trial(trial),
        lambda: client.get_checkpoint(f"{job}/studies/1/checkpoints/1-1"),
        lambda: client.stop_train_job(job),
        lambda: list(client.list_trials(job)),
        lambda: list(client.list_trial_logs(trial)),
        lambda: list(client.list_trial_metrics(trial)),
        lambda: list(client.list_trial_plots(trial)),
        lambda: list(client.watch_train_job(job)),
    ]
    for read in reads:
        with pytest.raises(ResourceNotFound):
            read()
