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
