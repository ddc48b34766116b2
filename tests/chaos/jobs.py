"""Keeps a server busy: whenever a job has ended, another begins, until the storm is over.

All of them are watched.
"""

import logging
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tests.chaos.watches import Watch

from rafiki.client import Client
from rafiki.client.errors import RafikiError
from rafiki.model import write_images
from rafiki.model.loading import find_model_class, load_class, pack_source
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    BayesOptOptions,
    Budget,
    EvolutionOptions,
    StudySpec,
    TrainJob,
)

logger = logging.getLogger(__name__)

TEMPLATE = Path(__file__).parent / "templates" / "weathered.py"
PAUSE_S = 0.05
# Jobs that run side by side.
JOBS = 2

# Settings and trials of the kinds of jobs, in turn. The larger have snapshots of their advisor.
KINDS = (
    (AdvisorSettings(kind=AdvisorKind.RANDOM), 200),
    (
        AdvisorSettings(
            kind=AdvisorKind.EVOLUTION,
            evolution=EvolutionOptions(population_size=20, sample_size=5),
        ),
        200,
    ),
    (
        AdvisorSettings(kind=AdvisorKind.BAYES_OPT, bayes_opt=BayesOptOptions(initial_trials=8)),
        40,
    ),
)


class Employer:
    """Creates jobs in a thread of its own, which outlives every trouble of the server."""

    def __init__(self, address: str, folder: Path, seed: int, scale: float) -> None:
        self._client = Client(address, timeout_s=10.0)
        self._scale = scale
        self._draw = random.Random(f"jobs {seed}")
        self._created = 0
        self.watches: list[Watch] = []
        self._model, self._dataset = self._upload(folder)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="employer")
        self._thread.start()

    def stop(self) -> None:
        """Creates no more jobs; those there are are still watched."""
        self._is_over.set()
        self._thread.join()

    def close(self) -> None:
        """Ends everything."""
        self.stop()
        self._client.close()

    def _run(self) -> None:
        while not self._is_over.wait(0.3):
            try:
                running = sum(not job.state.is_end for job in self._client.list_train_jobs())
                for _ in range(JOBS - running):
                    self._create()
            except RafikiError as error:
                logger.info("no job created for now: %s", error)

    def _create(self) -> None:
        settings, trials = KINDS[self._created % len(KINDS)]
        job = TrainJob(
            app="storm",
            task="IMAGE_CLASSIFICATION",
            studies=(StudySpec(model=self._model, advisor=settings),),
            budget=Budget(model_trial_count=max(1, round(trials * self._scale))),
            train_dataset=self._dataset,
            validation_dataset=self._dataset,
            train_args={"pause_s": PAUSE_S},
            seed=self._draw.randrange(1 << 31),
        )
        name = self._client.create_train_job(job)[0].name
        self._created += 1
        self.watches.append(Watch(self._client, name))

    def _upload(self, folder: Path) -> tuple[str, str]:
        model_class = load_class(TEMPLATE, find_model_class(TEMPLATE))
        model = self._client.create_model(
            pack_source(TEMPLATE),
            display_name=TEMPLATE.stem,
            task=model_class.task,
            model_class=find_model_class(TEMPLATE),
            knob_config=model_class.get_knob_config(),
        )
        images = folder / "images.zip"
        write_images(images, np.zeros((8, 8, 8, 1), np.uint8), np.arange(8) % 2)
        dataset = self._client.create_dataset(images, task=model.task)
        return model.name, dataset.name


def wait_for_jobs(client: Client, look: Callable[[], None], timeout_s: float) -> list[str]:
    """Waits until all jobs have ended, looking after things meanwhile; names the others."""
    deadline = time.monotonic() + timeout_s
    unfinished: list[str] = ["unknown"]
    while unfinished and time.monotonic() < deadline:
        look()
        time.sleep(0.1)
        try:
            unfinished = [j.name for j in client.list_train_jobs() if not j.state.is_end]
        except RafikiError as error:
            logger.info("jobs cannot be listed for now: %s", error)
    return unfinished
