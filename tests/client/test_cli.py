"""The command through Typer's runner, against a real server without workers."""

import json
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from rafiki.client.cli.app import app
from rafiki.client.local import LocalPlatform, PlatformConfig
from rafiki.model.image_classification import write_images

TINY = str(Path(__file__).parent / "templates" / "tiny.py")

Rafiki = Callable[..., Result]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = PlatformConfig(
        data_dir=tmp_path_factory.mktemp("server"), listen="127.0.0.1:0", workers=0
    )
    with LocalPlatform(config, print) as platform:
        yield platform.address


@pytest.fixture(scope="module")
def rafiki(address: str) -> Rafiki:
    """Runs a command; asserts its exit status."""

    def run(*arguments: str, status: int = 0) -> Result:
        result = CliRunner(env={"RAFIKI_SERVER": address}).invoke(app, arguments)
        assert result.exit_code == status, result.output
        return result

    return run


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("data") / "images.zip"
    write_images(path, rng.integers(0, 256, (40, 8, 8, 1), np.uint8), np.arange(40) % 4)
    return str(path)


@pytest.fixture(scope="module")
def model(rafiki: Rafiki) -> str:
    result = rafiki("model", "create", TINY, "--skip-test", "--name", "Tiny one", "--json")
    name = json.loads(result.stdout)["name"]
    assert isinstance(name, str)
    return name


@pytest.fixture(scope="module")
def create(rafiki: Rafiki, model: str, images: str) -> Rafiki:
    """Runs `job create` with further options."""
    data = ["--model", model, "--train", images, "--validation", images]
    return lambda *options, status=0: rafiki("job", "create", *data, *options, status=status)


@pytest.fixture(scope="module")
def job(create: Rafiki) -> str:
    result = create("--advisor", "random", "--trials", "2", "--json")
    name = json.loads(result.stdout)["train_job"]["name"]
    assert isinstance(name, str)
    return name


def test_a_model_is_listed_and_shown_with_its_knobs(rafiki: Rafiki, model: str) -> None:
    short = model.removeprefix("models/")
    assert short in rafiki("model", "list").stdout
    shown = rafiki("model", "show", short).stdout
    assert "Tiny one" in shown
    assert "one of 1.0, 0.5" in shown


def test_a_model_is_shown_as_json(rafiki: Rafiki, model: str) -> None:
    shown = json.loads(rafiki("model", "show", model, "--json").stdout)
    assert shown["model_class"] == "tiny:Tiny"
    assert shown["candidate_batches"] is False


@pytest.mark.slow
def test_a_model_is_tested_before_it_is_created(rafiki: Rafiki) -> None:
    assert "created models/" in rafiki("model", "create", TINY).stdout


def test_a_model_that_fails_its_test_is_not_created(rafiki: Rafiki, tmp_path: Path) -> None:
    source = Path(TINY).read_text(encoding="utf-8").replace("FixedKnob(2)", "FixedKnob([2])")
    broken = tmp_path / "broken.py"
    broken.write_text(source, encoding="utf-8")
    before = rafiki("model", "list", "--json").stdout
    failed = rafiki("model", "create", str(broken), "--skip-test", status=1)
    assert "broken.py failed its test" in failed.stderr
    assert "Traceback" not in failed.output
    assert rafiki("model", "list", "--json").stdout == before


def test_a_file_that_is_not_python_is_no_model(rafiki: Rafiki, tmp_path: Path) -> None:
    (tmp_path / "prose.py").write_text("this is prose", encoding="utf-8")
    failed = rafiki("model", "create", str(tmp_path / "prose.py"), "--skip-test", status=1)
    assert 1 <= len(failed.stderr.splitlines()) <= 3


def test_a_data_set_is_uploaded_and_listed(rafiki: Rafiki, images: str) -> None:
    made = json.loads(rafiki("dataset", "create", images, "--name", "forty", "--json").stdout)
    assert made["digest"]["size_bytes"] == Path(images).stat().st_size
    assert "forty" in rafiki("dataset", "list").stdout


def test_a_job_is_planned_without_being_created(rafiki: Rafiki, create: Rafiki) -> None:
    before = rafiki("job", "list", "--json").stdout
    told = create("--advisor", "random", "--trials", "3", "--dry-run").stdout
    assert "would create a job" in told
    assert rafiki("job", "list", "--json").stdout == before


def test_a_job_is_listed_shown_and_says_that_it_waits(rafiki: Rafiki, job: str) -> None:
    short = job.removeprefix("trainJobs/")
    assert short in rafiki("job", "list", "--state", "running").stdout
    shown = rafiki("job", "show", short).stdout
    assert "tiny-one v" in shown
    assert "RANDOM" in shown
    assert "waiting for" in shown
    assert rafiki("trial", "list", short).stdout == "no trials\n"


def test_a_job_is_shown_as_json(rafiki: Rafiki, job: str) -> None:
    shown = json.loads(rafiki("job", "show", job, "--json").stdout)
    assert shown["train_job"]["budget"]["model_trial_count"] == 2
    assert shown["studies"][0]["spec"]["advisor"]["kind"] == "RANDOM"


def test_a_job_without_workers_is_stopped_at_once(rafiki: Rafiki, create: Rafiki) -> None:
    made = create("--advisor", "random", "--trials", "2", "--json")
    name = json.loads(made.stdout)["train_job"]["name"]
    rafiki("job", "stop", name)
    watched = rafiki("job", "watch", name)
    assert f"job {name.removeprefix('trainJobs/')}: stopped" in watched.stdout.splitlines()


def test_a_job_has_no_model_to_download_yet(rafiki: Rafiki, job: str, tmp_path: Path) -> None:
    target = tmp_path / "best.safetensors"
    failed = rafiki("checkpoint", "download", job, "-o", str(target), status=1)
    assert "no trained model yet" in failed.stderr
    assert not target.exists()


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["model", "show", "00000000"], 1, "models/00000000"),
        (["job", "show", "00000000"], 1, "trainJobs/00000000"),
        (["job", "watch", "00000000"], 1, "trainJobs/00000000"),
        (["job", "show", "nonsense"], 1, "is no job"),
        (["trial", "show", "3"], 1, "--job"),
        (["trial", "list", "00000000", "--by-score"], 2, "one phase"),
        (["dataset", "create", "no-such-file.zip"], 2, "no-such-file.zip"),
        (["job", "lst"], 2, "lst"),
        (["job", "create"], 2, "--model"),
    ],
)
def test_what_is_wrong_is_told_in_a_few_lines(
    arguments: list[str], status: int, told: str, rafiki: Rafiki
) -> None:
    failed = rafiki(*arguments, status=status)
    assert told in failed.stderr
    assert 1 <= len(failed.stderr.splitlines()) <= 3


@pytest.mark.parametrize(
    ("options", "status", "told"),
    [
        ([], 2, "a budget is needed"),
        (["--time-hours", "-1"], 2, "above 0"),
        (["--time-hours", "nan"], 2, "above 0"),
        (["--trials", "2", "--advisor", "magic"], 2, "no advisor is called"),
        (["--trials", "2", "--advisor-option", "speed=3"], 2, "no advisor has an option speed"),
        (["--trials", "2", "--advisor-option", "final_trains=x"], 2, "is an integer"),
        (["--trials", "2", "--advisor-option", "final_trains"], 2, "is not key=value"),
        (
            ["--trials", "2", "--advisor", "random", "--advisor-option", "hidden_size=1"],
            2,
            "RANDOM has no option hidden_size",
        ),
        (
            ["--trials", "2", "--advisor", "evolution", "--advisor-option", "sample_size=0"],
            1,
            "sample_size",
        ),
        (["--trials", "2", "--advisor", "ENAS"], 1, "ENAS"),
        (["--trials", "2", "--advisor", "random", "--seed", "-1"], 1, "seed"),
        (["--trials", "2", "--advisor", "random", "--test", "00000000"], 1, "datasets/00000000"),
        (["--trials", "2", "--advisor", "random", "--test", "no.zip"], 1, "neither a data set"),
    ],
)
def test_a_job_that_makes_no_sense_is_refused_and_changes_nothing(
    options: list[str], status: int, told: str, rafiki: Rafiki, create: Rafiki
) -> None:
    before = rafiki("job", "list", "--json").stdout
    failed = create(*options, status=status)
    assert told in failed.stderr
    assert 1 <= len(failed.stderr.splitlines()) <= 3
    assert rafiki("job", "list", "--json").stdout == before


def test_a_server_that_is_not_there_is_told_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        failed = CliRunner().invoke(app, ["job", "list", "--server", address])
    assert failed.exit_code == 1
    assert len(failed.stderr.splitlines()) == 1
    assert "rafiki up" in failed.stderr


COMMANDS = [
    *(["up"], ["demo"]),
    *(["model", name] for name in ("create", "list", "show", "test")),
    *(["dataset", name] for name in ("create", "list", "formats")),
    *(
        ["job", name]
        for name in ("create", "list", "show", "watch", "plan", "health", "pause", "resume", "stop")
    ),
    *(["advisor", name] for name in ("list", "show")),
    *(["trial", name] for name in ("list", "show", "logs")),
    *(["checkpoint", name] for name in ("download", "list", "show", "diff")),
    ["gc"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example(command: list[str]) -> None:
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert f"Example: rafiki {' '.join(command)}" in " ".join(result.stdout.split())


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ("path,class\n../outside.png,0\n", "images.csv line 2"),
        ("path,class\nmissing.png,0\n", "images.csv line 2"),
        ("path,class\n", "images.csv"),
        ("name,label\n", "images.csv"),
    ],
)
def test_a_data_set_that_no_worker_could_read_is_not_uploaded(
    rafiki: Rafiki, tmp_path: Path, table: str, told: str
) -> None:
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.csv", table)
    before = rafiki("dataset", "list", "--json").stdout

    result = rafiki("dataset", "create", str(path), status=1)

    assert "bad.zip" in result.stderr
    assert told in result.stderr
    assert rafiki("dataset", "list", "--json").stdout == before
