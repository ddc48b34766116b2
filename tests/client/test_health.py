"""`rafiki job health` against a real server, and how it is printed."""

import io
import json
from collections.abc import Iterator

import pytest
from rich.console import Console, Group
from tests.client.health import studies
from typer.testing import CliRunner

from rafiki.client import Client
from rafiki.client.cli.app import app
from rafiki.client.cli.health import health_parts
from rafiki.client.health import Level, read_health
from rafiki.client.local import LocalPlatform, PlatformConfig
from rafiki.model.knobs import FloatKnob
from rafiki.resources import AdvisorKind, AdvisorSettings, Budget, StudySpec, TrainJob


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = PlatformConfig(
        data_dir=tmp_path_factory.mktemp("server"), listen="127.0.0.1:0", workers=0
    )
    with LocalPlatform(config, print) as platform:
        yield platform.address


@pytest.fixture(scope="module")
def job(address: str) -> str:
    """An external job over two spaces that nobody works on."""
    spec = StudySpec(
        knob_config={"rate": FloatKnob(0.0, 1.0)},
        advisor=AdvisorSettings(kind=AdvisorKind.RANDOM),
    )
    with Client(address) as client:
        made, _ = client.create_train_job(
            TrainJob(
                app="external",
                task="T",
                studies=(spec, spec),
                budget=Budget(model_trial_count=3),
            )
        )
    return made.name


def test_the_health_of_every_study_of_a_job_is_read(address: str, job: str) -> None:
    with Client(address) as client:
        found = read_health(client, job)
    assert [one.study for one in found] == [f"{job}/studies/1", f"{job}/studies/2"]
    assert [one.advisor for one in found] == [AdvisorKind.RANDOM] * 2


def test_a_job_that_has_just_begun_says_so(address: str, job: str) -> None:
    printed = CliRunner().invoke(app, ["job", "health", job, "--server", address])
    assert printed.exit_code == 0, printed.output
    assert "Nothing is measured yet" in printed.stdout
    assert "WARNING" not in printed.stdout


def test_the_health_is_printed_as_json(address: str, job: str) -> None:
    printed = CliRunner().invoke(app, ["job", "health", job, "--json", "--server", address])
    found = json.loads(printed.stdout)
    assert [one["study"] for one in found] == [f"{job}/studies/1", f"{job}/studies/2"]
    assert {finding["level"] for finding in found[0]["findings"]} <= set(Level)
    assert all("figures" in finding for finding in found[0]["findings"])


@pytest.mark.parametrize("width", [60, 100])
def test_findings_are_printed_with_their_level_within_the_terminal(width: int) -> None:
    bad = studies.health(
        studies.study(studies.ENAS, control_arm=studies.arm(0.3, 0.5)),
        rounds=studies.rounds([0.5] * 4),
    )
    out = Console(file=io.StringIO(), width=width)
    out.print(Group(*health_parts(bad)))
    assert isinstance(out.file, io.StringIO)
    lines = out.file.getvalue().splitlines()
    assert "a1b2c3d4/1 (ENAS): 1 warning, 1 note" in lines[0]
    assert lines[1].startswith("WARNING  The search is worse than random draws")
    assert max(map(len, lines)) <= width
