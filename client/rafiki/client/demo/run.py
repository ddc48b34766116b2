"""The course of the demo."""

import importlib.util
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
from rich.console import Console

from rafiki.client import names
from rafiki.client.bench import BenchFailed, run_bench
from rafiki.client.cli.models import register
from rafiki.client.cli.output import console, duration_text
from rafiki.client.cli.plans import budget_text, plan_text
from rafiki.client.cli.progress import JobProgress
from rafiki.client.cli.watch import watch_job
from rafiki.client.client import Client
from rafiki.client.demo import report
from rafiki.client.demo.data import TASK, Digits, plain_scores, write_digits
from rafiki.client.demo.digits import gallery
from rafiki.client.demo.outcome import DemoFailed, Outcome, read_outcome
from rafiki.client.demo.predictions import predict
from rafiki.client.errors import RafikiError
from rafiki.client.local import LocalPlatform, PlatformConfig
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Budget,
    EnasOptions,
    EndReason,
    Model,
    StudySpec,
    TrainJob,
    TrainJobState,
    TrialPlot,
)

TEMPLATE = "rafiki.zoo.enas_cnn"
SHOWN_IMAGES = 5
STOP_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoConfig:
    """The demo's settings.

    The budget of the job is `time_s`, measuring costs apart, and `trials`: 15 rounds.
    A longer search on shared weights finds no better networks for so few images.
    """

    folder: Path = Path("demo")
    time_s: float = 300.0
    trials: int = 514
    workers: int = 2
    seed: int = 1


def run_demo(config: DemoConfig) -> dict[str, object]:
    """Runs the whole path; answers with the contents of `result.json`.

    Everything it starts has ended when it returns or raises.

    Raises:
        DemoFailed: The search ended without a model.
        PlatformError: The server does not start.
        RafikiError: A call failed.
        KeyboardInterrupt: Ctrl-C.
    """
    return _Demo(config, console()).run()


class _Demo:
    def __init__(self, config: DemoConfig, out: Console) -> None:
        self.config = config
        self.out = out
        self.started_at = time.monotonic()

    def run(self) -> dict[str, object]:
        folder = self.config.folder
        folder.mkdir(parents=True, exist_ok=True)
        self._step("Data: scikit-learn's digits, 1,797 images of 8x8 pixels")
        digits = write_digits(folder)
        counts = [len(part.labels) for part in (digits.train, digits.validation, digits.test)]
        self.out.print("{} to train, {} to validate, {} to test with, once".format(*counts))
        plain = plain_scores(digits)

        self._step(f"A server and {self.config.workers} workers on this machine")
        platform = LocalPlatform(
            PlatformConfig(
                data_dir=folder / "rafiki-data", listen="127.0.0.1:0", workers=self.config.workers
            ),
            lambda text: self.out.print(text, style="yellow", markup=False),
        )
        with platform:
            self.out.print(f"listening on {platform.address}, logs in {platform.log_folder}")
            with Client(platform.address) as client:
                outcome, answers = self._use(client, platform, digits)
                plots = tuple(client.list_trial_plots(outcome.final.name))
        return self._conclude(outcome, plots, digits, plain, answers)

    def _use(
        self, client: Client, platform: LocalPlatform, digits: Digits
    ) -> tuple[Outcome, list[int]]:
        stop_jobs(client)
        source = template_path()
        # A copy: what is used at the end is what was registered, also if the source changes.
        template = self.config.folder / source.name
        shutil.copyfile(source, template)
        self._step(f"A model template: {template.name}")
        try:
            model = register(
                client, template, run_bench(template, extract_only=True, is_quiet=True)
            )
        except BenchFailed as error:
            raise DemoFailed(str(error)) from error
        knobs = f"{len(model.knob_config)} knobs"
        self.out.print(f"{model.display_name}: cells of a convolutional network, {knobs}")
        self._step("A train job with a budget")
        progress = self._search(client, platform, model, digits)
        outcome = read_outcome(client, progress)
        self._step("Using the model found")
        images = shown(digits)
        params = client.download_checkpoint(outcome.final.final_checkpoint)
        answers = predict(
            template, model, outcome.final, params, digits.test.images[images], self.config.folder
        )
        return outcome, answers

    def _search(
        self, client: Client, platform: LocalPlatform, model: Model, digits: Digits
    ) -> JobProgress:
        """Follows the job to its end; where its budget was too small, one of twice the time."""
        time_s = self.config.time_s
        progress = self._watch(client, platform, self._create_job(client, model, digits, time_s))
        ends = {study.end_reason for study in progress.studies.values()}
        if EndReason.INFEASIBLE_BUDGET in ends:
            self.out.print(
                "\nThis machine is slower than expected, or busy. Once more, with twice the time.",
                style="yellow",
            )
            name = self._create_job(client, model, digits, 2 * time_s)
            progress = self._watch(client, platform, name)
        return progress

    def _create_job(self, client: Client, model: Model, digits: Digits, time_s: float) -> str:
        parts = [
            client.create_dataset(
                part.path, task=TASK, display_name=f"digits-{part.path.stem}"
            ).name
            for part in (digits.train, digits.validation, digits.test)
        ]
        advisor = AdvisorSettings(
            kind=AdvisorKind.ENAS, control_fraction=0.1, enas=EnasOptions(final_controls=1)
        )
        job, studies = client.create_train_job(
            TrainJob(
                app="digits",
                task=TASK,
                studies=(StudySpec(model=model.name, advisor=advisor),),
                budget=Budget(time=timedelta(seconds=time_s), model_trial_count=self.config.trials),
                train_dataset=parts[0],
                validation_dataset=parts[1],
                test_dataset=parts[2],
                seed=self.config.seed,
            )
        )
        self.out.print(f"job {names.short(job.name)}, budget {budget_text(job.budget)}")
        self.out.print(f"plan: {plan_text(studies[0])}")
        return job.name

    def _watch(self, client: Client, platform: LocalPlatform, name: str) -> JobProgress:
        self.out.print()
        try:
            return watch_job(
                client, name, on_tick=platform.tend, hint="Ctrl-C stops the demo and the job"
            )
        except BaseException:
            with suppress(RafikiError), Client(client.address, timeout_s=STOP_TIMEOUT_S) as other:
                other.stop_train_job(name)
            raise

    def _conclude(
        self,
        outcome: Outcome,
        plots: tuple[TrialPlot, ...],
        digits: Digits,
        plain: tuple[float, float],
        answers: list[int],
    ) -> dict[str, object]:
        folder = self.config.folder
        images = shown(digits)
        labels = digits.test.labels[images]
        captions = [
            [f"says {answer}", f"is   {label}", "" if answer == label else "wrong"]
            for answer, label in zip(answers, labels, strict=True)
        ]
        for line in gallery(list(digits.test.images[images]), captions):
            self.out.print(line, markup=False)
        self._step("Plan and what happened")
        report.print_plan(self.out, outcome)
        self._step("Result")
        report.write_pictures(outcome, plots, folder / "cells.png", folder / "search.png")
        values = report.write_result(outcome, folder / "result.json")
        report.print_scores(self.out, outcome, plain)
        self.out.print()
        report.print_facts(self.out, outcome, values)
        self.out.print()
        report.print_hints(self.out, folder, outcome)
        self.out.print(
            f"\nDone in {duration_text(time.monotonic() - self.started_at)}.", style="bold"
        )
        return values

    def _step(self, title: str) -> None:
        self.out.print()
        self.out.print(title, style="bold")


def template_path() -> Path:
    """The file of the zoo's template, which is not imported here.

    Raises:
        DemoFailed: The workers' part of Rafiki is not installed.
    """
    spec = importlib.util.find_spec(TEMPLATE)
    if spec is None or spec.origin is None:
        raise DemoFailed("the demo needs everything: pip install 'rafiki[all]'")
    return Path(spec.origin)


def shown(digits: Digits) -> np.ndarray:
    """The indices of the test images to show: always the same."""
    order = np.random.default_rng(0).permutation(len(digits.test.labels))
    return np.sort(order[:SHOWN_IMAGES])


def stop_jobs(client: Client) -> None:
    """Stops what a demo that was killed has left in the data folder."""
    for job in client.list_train_jobs(states=[TrainJobState.RUNNING]):
        client.stop_train_job(job.name)
