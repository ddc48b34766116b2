"""The test bench of templates, run where it belongs: in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


class BenchFailed(RuntimeError):
    """A template failed its test, or could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What the bench found out about a template; `knob_config` as `rafiki.model.serial`."""

    model_class: str
    task: str
    knob_config: object
    dependencies: Mapping[str, str]
    candidate_batches: bool


def run_bench(
    file: Path,
    class_name: str = "",
    train: Path | None = None,
    validation: Path | None = None,
    *,
    extract_only: bool = False,
    is_quiet: bool = False,
) -> Report:
    """Runs `python -m rafiki.model.bench` on a template; its steps appear on the terminal.

    Args:
        file: The Python file.
        class_name: The class; needed only if the file defines several.
        train: A data set to test with, as is `validation`.
        validation: Given together with `train`.
        extract_only: Only read what the class declares.
        is_quiet: Show nothing; steps that fail are in the error.

    Raises:
        BenchFailed: The template is not usable.
    """
    with tempfile.TemporaryDirectory(prefix="rafiki-bench-") as folder:
        path = Path(folder) / "report.json"
        arguments = [str(file), "--json", str(path)]
        arguments += ["--class", class_name] if class_name else []
        arguments += ["--train", str(train)] if train else []
        arguments += ["--validation", str(validation)] if validation else []
        arguments += ["--extract-only"] if extract_only else []
        done = subprocess.run(
            [sys.executable, "-m", "rafiki.model.bench", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if is_quiet else None,
            stderr=subprocess.STDOUT if is_quiet else None,
            env={"JAX_PLATFORMS": "cpu", **os.environ},
            check=False,
        )
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise BenchFailed(
                f"the test of {file} broke off with status {done.returncode}"
            ) from error
    failed = [step for step in report["steps"] if not step["ok"]]
    if failed or not report["ok"]:
        what = f": {failed[0]['name']}" if failed else ""
        reason = f"\n{failed[0]['message']}" if failed else ""
        raise BenchFailed(f"{file} failed its test{what}{reason}")
    return Report(
        model_class=report["model_class"],
        task=report["task"],
        knob_config=report["knob_config"],
        dependencies=report["dependencies"],
        candidate_batches=report["candidate_batches"],
    )
