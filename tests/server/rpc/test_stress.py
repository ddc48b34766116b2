"""Many unreliable workers on one server: every trial ends once, and none is lost."""

import random
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from tests.server.live import TIMEOUT_S, BuildJob, FakeWorker, RunningServer, reason

from rafiki.model.knobs import FloatKnob
from rafiki.resources import AdvisorKind, AdvisorSettings, StudySpec
from rafiki.v1 import jobs_pb2, trials_pb2

TRIALS = 60
WORKERS = 6
CRASH = trials_pb2.TrialError(kind=trials_pb2.TRIAL_ERROR_KIND_CRASHED)


class Unreliable:
    """A worker that crashes, repeats itself, loses its stream, and comes back."""

    def __init__(self, server: RunningServer, job: str, number: int) -> None:
        self._server, self._job = server, job
        self._id = f"unreliable-{number}"
        self._random = random.Random(number)

    def run(self) -> int:
        """Works until there is no work; returns how many outcomes were accepted."""
        accepted = 0
        tokens: tuple[str, ...] = ()
        while True:
            worker = FakeWorker(
                self._server,
                worker_id=self._id,
                studies=(f"{self._job}/studies/-",),
                lease_tokens=tokens,
            )
            try:
                while True:
                    event = worker.event()
                    if event.WhichOneof("event") == "drain":
                        worker.close()
                        return accepted
                    if event.WhichOneof("event") != "assignment":
                        continue
                    match self._random.randrange(8):
                        case 0:
                            break  # the stream is lost, and with it what was assigned
                        case 1:
                            worker.report(event.assignment, error=CRASH)
                        case 2:
                            worker.complete(event.assignment, 0.5)
                            worker.complete(event.assignment, 0.9)
                            accepted += 1
                        case _:
                            worker.complete(event.assignment, self._random.random())
                            accepted += 1
            except grpc.RpcError as error:
                assert reason(error) == "LEASE_LOST"
            worker.vanish()


@pytest.mark.slow
def test_unreliable_workers_finish_every_trial_once(
    server: RunningServer, random_job: BuildJob
) -> None:
    spec = StudySpec(
        knob_config={"rate": FloatKnob(0.1, 0.9)},
        advisor=AdvisorSettings(kind=AdvisorKind.RANDOM),
    )
    created = server.create_job(random_job(trials=TRIALS, studies=(spec, spec)))
    job = created.train_job.name
    with ThreadPoolExecutor(WORKERS) as pool:
        workers = [Unreliable(server, job, number) for number in range(WORKERS)]
        accepted = sum(pool.map(Unreliable.run, workers))

    assert server.job(job).state == jobs_pb2.TRAIN_JOB_STATE_SUCCEEDED
    request = jobs_pb2.ListTrialsRequest(parent=f"{job}/studies/-", page_size=1000)
    trials = server.jobs.ListTrials(request, timeout=TIMEOUT_S).trials
    assert len({trial.name for trial in trials}) == len(trials) == 2 * TRIALS
    completed = [t for t in trials if t.state == trials_pb2.TRIAL_STATE_COMPLETED]
    errored = [t for t in trials if t.state == trials_pb2.TRIAL_STATE_ERRORED]
    assert len(completed) == accepted
    assert len(completed) + len(errored) == 2 * TRIALS
    assert all(trial.attempt == 3 for trial in errored)
    assert all(trial.HasField("score") for trial in completed)
