"""A real server and real workers as processes, to be killed at bad moments."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from rafiki.client import Client
from rafiki.model.base import takes_candidates
from rafiki.model.loading import find_model_class, load_class, pack_source
from rafiki.resources import (
    JSON,
    AdvisorSettings,
    Budget,
    EnasOptions,
    StudySpec,
    TrainJob,
    Trial,
)

PLANTED = Path(__file__).parent / "templates" / "planted.py"

# Three rounds of a SEARCH_TRAIN, six batches of the controller and two of the control arm;
# then two FINAL_EVALs and two FINAL_TRAINs. Without shards: `test_shards` has them.
SMALL_ENAS = AdvisorSettings(
    control_fraction=0.2,
    enas=EnasOptions(
        candidates_per_batch=4,
        batches_per_round=6,
        train_shards=1,
        final_evals=4,
        final_controls=1,
    ),
)
SMALL_BUDGET = Budget(model_trial_count=31)


def children_of(pid: int) -> list[int]:
    """The processes that a process started and that still live."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(word) for word in text.split()]


def is_alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return re.search(r"^State:\s+[ZX]", Path(f"/proc/{pid}/status").read_text(), re.M) is None
    except FileNotFoundError:
        return False


def wait_until(condition: Callable[[], bool], what: str, timeout_s: float = 60) -> None:
    """Waits for something that another process does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"still not so after {timeout_s} s: {what}")
        time.sleep(0.02)


def compilations_of(client: Client, trials: Sequence[Trial]) -> Counter[str]:
    """How often each program was compiled in the children that ran `trials`."""
    compilations: Counter[str] = Counter()
    for trial in trials:
        for metrics in client.list_trial_metrics(trial.name):
            for name, value in metrics.values.items():
                if name.startswith("compilations/"):
                    compilations[name.removeprefix("compilations/")] += int(value)
    return compilations


class System:
    """One server and some workers on a data folder of their own.

    `programs` is a folder for compiled programs of servers, which tests share; `database` the
    URL of the server's database, if that is not in the data folder.
    """

    def __init__(self, folder: Path, programs: Path, database: str = "") -> None:
        self.folder = folder
        self.programs = programs
        self.database = database
        self.address = "127.0.0.1:0"
        self.server: subprocess.Popen[str] | None = None
        self.workers: list[subprocess.Popen[str]] = []
        self.slow_file = folder / "slow"  # see templates/planted.py

    def start_server(self) -> None:
        """Starts the server, on the same port again after the first time."""
        command = [
            *(sys.executable, "-m", "rafiki.server", "--data-dir", str(self.folder / "data")),
            *("--listen", self.address, "--heartbeat-s", "0.5", "--lease-s", "3"),
            *("--database", self.database),
        ]
        with (self.folder / "server.log").open("a") as log:
            self.server = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | {"JAX_COMPILATION_CACHE_DIR": str(self.programs)},
            )
        assert self.server.stdout is not None
        ready, _, _ = select.select([self.server.stdout], [], [], 60)
        line = self.server.stdout.readline() if ready else ""
        match = re.search(r"listening on (\S+)", line)
        assert match is not None, (self.folder / "server.log").read_text()
        self.address = match.group(1)

    def start_worker(self, worker_id: str = "worker-1") -> subprocess.Popen[str]:
        """Starts a worker; those of one system share no cache."""
        command = [
            *(sys.executable, "-m", "rafiki.worker", "--server", self.address),
            *("--worker-id", worker_id, "--data-dir", str(self.folder / worker_id)),
        ]
        environment = os.environ | {"PLANTED_SLOW": str(self.slow_file)}
        with (self.folder / f"{worker_id}.log").open("a") as log:
            worker = subprocess.Popen(command, stdout=log, stderr=log, text=True, env=environment)
        self.workers.append(worker)
        return worker

    def slow_down(self, seconds: float) -> None:
        """From now on every step of the planted template takes this long."""
        # Whole or not at all: a template may be reading it.
        written = self.slow_file.with_suffix(".new")
        written.write_text(str(seconds))
        written.replace(self.slow_file)

    def speed_up(self) -> None:
        """Undoes `slow_down`."""
        self.slow_file.unlink(missing_ok=True)

    def client(self) -> Client:
        """A new client of the server."""
        return Client(self.address)

    def create_job(
        self,
        client: Client,
        images: Path,
        *,
        template: Path = PLANTED,
        advisor: AdvisorSettings = SMALL_ENAS,
        budget: Budget = SMALL_BUDGET,
        seed: int = 1,
        train_args: Mapping[str, JSON] = MappingProxyType({}),
    ) -> TrainJob:
        """Uploads a template and its data and starts a job."""
        model_class = load_class(template, find_model_class(template))
        model = client.create_model(
            pack_source(template),
            display_name=template.stem,
            task=model_class.task,
            model_class=find_model_class(template),
            knob_config=model_class.get_knob_config(),
            candidate_batches=takes_candidates(model_class),
        )
        dataset = client.create_dataset(images, task=model.task)
        job = TrainJob(
            app="test",
            task=model.task,
            studies=(StudySpec(model=model.name, advisor=advisor),),
            budget=budget,
            train_dataset=dataset.name,
            validation_dataset=dataset.name,
            test_dataset=dataset.name,
            train_args=train_args,
            seed=seed,
        )
        return client.create_train_job(job)[0]

    def wait_for_end(self, client: Client, job: str, timeout_s: float = 60) -> TrainJob:
        """The job once it has ended."""
        wait_until(lambda: client.get_train_job(job).state.is_end, "the job ends", timeout_s)
        return client.get_train_job(job)

    def trials(self, client: Client, job: str) -> list[Trial]:
        """All trials of a job, by number."""
        return list(client.list_trials(f"{job}/studies/1"))

    def kill(self, process: subprocess.Popen[str]) -> None:
        """kill -9."""
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def stop(self) -> None:
        """Ends everything; nothing may be left behind."""
        processes = [p for p in (*self.workers, self.server) if p is not None]
        offspring = [child for p in processes for child in children_of(p.pid)]
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill(process)
        if self.server is not None and self.server.stdout is not None:
            self.server.stdout.close()
        wait_until(lambda: not any(map(is_alive, offspring)), "children end with their worker")
