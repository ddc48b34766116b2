"""A whole job from the command line, with a real server and a real worker."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner, Result

from rafiki.client.cli.app import app
from rafiki.client.local import LocalPlatform, PlatformConfig
from rafiki.model.image_classification import write_images

pytestmark = pytest.mark.slow

TINY = str(Path(__file__).parent / "templates" / "tiny.py")

Rafiki = Callable[..., Result]


@pytest.fixture(scope="module")
def rafiki(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rafiki]:
    config = PlatformConfig(
        data_dir=tmp_path_factory.mktemp("platform"), listen="127.0.0.1:0", workers=1
    )
    with LocalPlatform(config, print) as platform:

        def run(*arguments: str) -> Result:
            result = CliRunner(env={"RAFIKI_SERVER": platform.address}).invoke(app, arguments)
            assert result.exit_code == 0, result.output
            return result

        yield run


@pytest.fixture(scope="module")
def watched(rafiki: Rafiki, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What `job create --watch` printed, until the job had ended."""
    labels = np.arange(40) % 4
    images = np.full((40, 8, 8, 1), 60, np.uint8) * labels[:, None, None, None].astype(np.uint8)
    path = tmp_path_factory.mktemp("data") / "images.zip"
    write_images(path, images, labels)
    made = json.loads(rafiki("model", "create", TINY, "--skip-test", "--json").stdout)
    data = ["--train", str(path), "--validation", str(path), "--test", str(path)]
    options = ["--advisor", "random", "--trials", "2", "--watch"]
    return rafiki("job", "create", "--model", made["name"], *data, *options).stdout


@pytest.fixture(scope="module")
def job(rafiki: Rafiki, watched: str) -> str:
    name = json.loads(rafiki("job", "list", "--json").stdout)[0]["name"]
    assert isinstance(name, str)
    return name.removeprefix("trainJobs/")


def test_a_job_is_followed_to_its_end(watched: str) -> None:
    assert "TUNE done: score 1.0000" in watched
    assert watched.splitlines()[-1].endswith(": succeeded")


def test_its_best_trials_are_listed(rafiki: Rafiki, job: str) -> None:
    lines = rafiki("trial", "list", job, "--best").stdout.splitlines()
    assert len(lines) == 3
    assert "1.0000" in lines[1]


def test_a_trial_is_shown_with_its_knobs_and_times(rafiki: Rafiki, job: str) -> None:
    best = json.loads(rafiki("trial", "list", job, "--best", "--json").stdout)[0]["name"]
    shown = rafiki("trial", "show", best.rpartition("/")[2], "--job", job).stdout
    assert "scale=" in shown
    assert "depth=2" in shown
    assert "took" in shown


def test_the_log_of_a_trial_is_printed(rafiki: Rafiki, job: str) -> None:
    best = json.loads(rafiki("trial", "list", job, "--best", "--json").stdout)[0]["name"]
    assert "made the means" in rafiki("trial", "logs", best).stdout


def test_the_best_model_is_downloaded_bfloat16_included(
    rafiki: Rafiki, job: str, tmp_path: Path
) -> None:
    path = tmp_path / "best.safetensors"
    told = rafiki("checkpoint", "download", job, "-o", str(path)).stdout
    params = load_file(path)
    assert "3 tensors" in told
    assert params["half"].dtype == ml_dtypes.bfloat16
    assert params["scale"].shape == ()
    np.testing.assert_array_equal(params["half"], params["means"].astype(ml_dtypes.bfloat16))


def test_its_checkpoints_are_listed_shown_and_compared(rafiki: Rafiki, job: str) -> None:
    listed = json.loads(rafiki("checkpoint", "list", job, "--json").stdout)
    kept = [item["name"] for item in listed]
    assert len(kept) >= 2
    assert len(rafiki("checkpoint", "list", f"{job}/1").stdout.splitlines()) == 1 + len(kept)
    assert "bfloat16" in rafiki("checkpoint", "show", kept[0]).stdout
    assert rafiki("checkpoint", "show", job).stdout.startswith(f"trainJobs/{job}/")
    told = rafiki("checkpoint", "diff", kept[0], kept[0]).stdout
    assert told == "0 added, 0 removed, 0 changed, 3 unchanged; 0 B would move\n"


def test_garbage_is_collected_but_never_the_best(rafiki: Rafiki, job: str) -> None:
    best = rafiki("checkpoint", "show", job, "--json").stdout
    told = rafiki("gc", "--dry-run").stdout.splitlines()[-1]
    assert told.startswith("would remove ")
    assert rafiki("gc").stdout.splitlines()[-1] == told.replace("would remove", "removed")
    assert rafiki("gc").stdout.startswith("removed 0 checkpoints and 0 blobs")
    assert rafiki("checkpoint", "show", job, "--json").stdout == best
