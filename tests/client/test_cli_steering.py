"""`rafiki job pause`, `resume` and `plan`, and the client behind them, with a real server."""

import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from rafiki.client import Client, InvalidState
from rafiki.client.cli.app import app
from rafiki.client.local import LocalPlatform, PlatformConfig
from rafiki.model.image_classification import write_images
from rafiki.model.knobs import FloatKnob
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    StudySpec,
    TrainJob,
    TrainJobState,
)

TUNED = str(Path(__file__).parents[1] / "e2e" / "templates" / "tuned.py")

Rafiki = Callable[..., Result]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = PlatformConfig(
        data_dir=tmp_path_factory.mktemp("server"), listen="127.0.0.1:0", workers=0
    )
    with LocalPlatform(config, print) as platform:
        yield platform.address


@pytest.fixture(scope="module")
def client(address: str) -> Iterator[Client]:
    with Client(address) as client:
        yield client


@pytest.fixture(scope="module")
def rafiki(address: str) -> Rafiki:
    """Runs a command; asserts its exit status."""

    def run(*arguments: str, status: int = 0) -> Result:
        result = CliRunner(env={"RAFIKI_SERVER": address}).invoke(app, arguments)
        assert result.exit_code == status, result.output
        return result

    return run


@pytest.fixture
def job(client: Client) -> str:
    spec = StudySpec(
        knob_config={"rate": FloatKnob(0.0, 1.0)},
        advisor=AdvisorSettings(kind=AdvisorKind.RANDOM),
    )
    budget = Budget(time=timedelta(minutes=10), model_trial_count=7)
    created, _ = client.create_train_job(
        TrainJob(app="test", task="ANY", studies=(spec,), budget=budget)
    )
    return created.name.removeprefix("trainJobs/")


def test_a_job_is_paused_and_resumed(rafiki: Rafiki, client: Client, job: str) -> None:
    paused = rafiki("job", "pause", job).stdout
    assert paused == f"job {job} is paused; `rafiki job resume {job}` goes on with it\n"
    assert client.get_train_job(f"trainJobs/{job}").state is TrainJobState.PAUSED
    assert "waiting for somebody to resume it" in rafiki("job", "show", job).stdout
    assert job in rafiki("job", "list", "--state", "paused").stdout
    assert rafiki("job", "resume", job).stdout == f"job {job} is running\n"


def test_a_job_that_has_ended_cannot_be_paused(rafiki: Rafiki, client: Client, job: str) -> None:
    rafiki("job", "stop", job)
    told = rafiki("job", "pause", job, status=1).stderr
    assert "STOPPED" in told
    with pytest.raises(InvalidState):
        client.resume_train_job(f"trainJobs/{job}")


def test_the_plan_of_a_job_is_shown_with_what_is_left_of_its_budget(
    rafiki: Rafiki, job: str
) -> None:
    shown = rafiki("job", "plan", job).stdout
    assert "7 trials" in shown
    assert "0 used, 7 left" in shown
    assert "10:00 min left" in shown
    assert "assumed, not yet measured" in shown


def test_the_plan_is_also_there_for_programs(rafiki: Rafiki, job: str) -> None:
    costs = json.loads(rafiki("job", "plan", job, "--json").stdout)
    assert costs["time_left_s"] == 600
    (study,) = costs["studies"]
    assert study["study"]["plan"]["trials"] == 7
    assert (study["trials_used"], study["trials_left"], study["costs"]) == (0, 7, [])


@pytest.fixture(scope="module")
def create(rafiki: Rafiki, tmp_path_factory: pytest.TempPathFactory) -> Rafiki:
    """Runs `job create` for a template that offers EARLY_STOP, with these options."""
    images = tmp_path_factory.mktemp("data") / "images.zip"
    write_images(images, np.zeros((4, 8, 8, 1), np.uint8), np.arange(4) % 2)
    model = json.loads(rafiki("model", "create", TUNED, "--skip-test", "--json").stdout)["name"]
    data = ["--train", str(images), "--validation", str(images)]

    def run(*options: str, status: int = 0) -> Result:
        return rafiki("job", "create", "--model", model, *data, *options, status=status)

    return run


SCHEMES = pytest.mark.parametrize("kind", ["bayes_opt", "random", "evolution"])


@SCHEMES
def test_the_plan_is_shown_before_a_job_is_created(create: Rafiki, kind: str) -> None:
    told = create("--advisor", kind, "--trials", "9", "--dry-run").stdout
    assert "plan: 8 trials, then 1 final training" in told
    told = create("--advisor", kind, "--time-hours", "1", "--dry-run").stdout
    assert "plan: trials until the time is over, then 1 final training" in told


@SCHEMES
def test_a_budget_that_holds_no_plan_is_refused_with_the_smallest_that_does(
    create: Rafiki, kind: str
) -> None:
    told = create("--advisor", kind, "--trials", "1", "--dry-run", status=1).stderr
    assert "a model_trial_count of 1 is too little" in told
    assert "at least a model_trial_count of 2" in told
