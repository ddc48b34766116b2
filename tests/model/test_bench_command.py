"""The bench as a command, in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path

TEMPLATE = Path(__file__).parent / "templates" / "linear_supernet.py"


def bench(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "rafiki.model.bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def broken(tmp_path: Path, old: str, new: str) -> Path:
    path = tmp_path / "broken.py"
    path.write_text(TEMPLATE.read_text().replace(old, new))
    return path


def test_steps_are_numbered_and_end_in_a_verdict() -> None:
    done = bench(TEMPLATE)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith(" 1. the source is Python")
    assert lines[-1] == "linear_supernet:LinearSupernet: all is well"
    assert done.stderr == ""


def test_a_failed_step_gives_status_1_and_advice(tmp_path: Path) -> None:
    done = bench(broken(tmp_path, "return probabilities", "return None"))
    assert done.returncode == 1
    assert "What to do: return a list with one prediction per query." in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_json_goes_to_the_file_that_is_named(tmp_path: Path) -> None:
    done = bench(TEMPLATE, "--extract-only", "--json", tmp_path / "out.json")
    report = json.loads((tmp_path / "out.json").read_text())
    assert done.returncode == 0
    assert report["ok"] is True
    assert report["task"] == "IMAGE_CLASSIFICATION"
    assert report["candidate_batches"] is True
    assert [knob["name"] for knob in report["knob_config"]["knobs"]][:2] == [
        "batch_size",
        "learning_rate",
    ]
    assert set(report["steps"][0]) == {"name", "ok", "seconds", "message"}


def test_json_without_a_file_is_all_of_standard_output() -> None:
    done = bench(TEMPLATE, "--extract-only", "--json")
    assert json.loads(done.stdout)["ok"] is True


def test_what_a_template_prints_is_hidden(tmp_path: Path) -> None:
    noise = (
        'import os, sys\nprint("a"); print("b", file=sys.stderr); os.write(2, b"c")\nCLASSES = 4'
    )
    path = broken(tmp_path, "CLASSES = 4", noise)
    assert bench(path, "--extract-only", "--json").stderr == ""
    assert bench(path, "--extract-only").stdout.startswith(" 1. ")
    shown = bench(path, "--extract-only", "--verbose")
    assert shown.stderr == "b\nc"


def test_a_process_that_dies_leaves_the_step_it_died_in(tmp_path: Path) -> None:
    path = broken(tmp_path, "self.batch_size = batch_size", "import os; os._exit(7)")
    done = bench(path, "--json", tmp_path / "out.json")
    report = json.loads((tmp_path / "out.json").read_text())
    assert done.returncode == 7
    assert report["ok"] is False
    assert report["steps"][-1]["name"] == "it constructs with random knobs"
    assert "The process ended during this step" in report["steps"][-1]["message"]


def test_a_template_that_asks_for_input_does_not_wait(tmp_path: Path) -> None:
    done = bench(broken(tmp_path, "self.batch_size = batch_size", "input()"))
    assert "EOFError" in done.stdout


def test_a_thread_that_is_left_running_is_remarked_and_not_waited_for(tmp_path: Path) -> None:
    thread = "import threading; threading.Thread(target=threading.Event().wait).start()\n"
    done = bench(broken(tmp_path, "CLASSES = 4", thread + "CLASSES = 4"))
    assert done.returncode == 0
    assert "1 threads still run after teardown()" in done.stdout


def test_nothing_is_left_beside_the_template(tmp_path: Path) -> None:
    path = broken(tmp_path, "nothing", "nothing")
    bench(path)
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_options_are_refused_with_the_usage() -> None:
    done = bench(TEMPLATE, "--quick")
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m rafiki.model.bench")
