"""Workers that save and fetch while garbage is collected all the time."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import grpc
import numpy as np
import pytest
from sqlalchemy import update
from tests.server.conftest import AddTrial, Served

from rafiki.resources import TrialState
from rafiki.server.domain.clock import Clock
from rafiki.server.domain.names import CheckpointName, StudyName
from rafiki.server.rpc.parameters import ParameterServicer
from rafiki.server.rpc.streams import Streams
from rafiki.server.service.checkpoints import CheckpointService
from rafiki.server.service.collection import Collector
from rafiki.server.store.blob_cache import CachedBlobs
from rafiki.server.store.blobs import FileBlobs
from rafiki.server.store.database import Database
from rafiki.server.store.tables import trials
from rafiki.worker.cache import FileCache, MemoryCache
from rafiki.worker.calls import Caller, CallRefused
from rafiki.worker.parameters import Parameters

WORKERS, TRIALS, TENSORS = 3, 6, 4
MOST_TRIES = 500


@pytest.fixture
def channel(
    database: Database,
    blobs: FileBlobs,
    clock: Clock,
    study: StudyName,
    served: Served,
) -> Iterator[grpc.Channel]:
    """A server that keeps nothing that nobody needs for a moment."""
    streams = Streams(threads=4)
    cached = CachedBlobs(blobs, 1 << 20)
    nothing: frozenset[str] = frozenset()
    collector = Collector(
        database, cached, clock, lambda: {study: nothing}, grace=timedelta(0), keep_best=1
    )
    over = threading.Event()

    def collect() -> None:
        while not over.is_set():
            collector.collect()

    def register(server: grpc.aio.Server) -> None:
        checkpoints = CheckpointService(database, cached, clock)
        ParameterServicer(checkpoints, collector, cached, streams).add_to(server)

    with ThreadPoolExecutor(1) as pool, served(register) as channel:
        collecting = pool.submit(collect)
        yield channel
        over.set()
        collecting.result()
    streams.close()


@pytest.mark.slow
def test_what_trials_start_from_is_there_and_whole_however_often_garbage_is_collected(
    channel: grpc.Channel, database: Database, study: StudyName, add_trial: AddTrial, tmp_path: Path
) -> None:
    closing = threading.Event()

    def finish(name: str, score: float) -> None:
        with database.write() as connection:
            number = CheckpointName.parse(name).trial
            connection.execute(
                update(trials)
                .where(trials.c.number == number)
                .values(state=TrialState.COMPLETED, score=score, final_checkpoint=name)
            )

    def work(worker: int) -> str:
        caller = Caller(closing)
        files = FileCache(tmp_path / f"worker-{worker}", 0)
        start = ""
        sent: dict[str, np.ndarray] = {}
        for turn in range(TRIALS):
            number = 1 + worker * TRIALS + turn
            add_trial(number, f"lease-{number}", start_checkpoint=start)
            if start:
                finish(start, score=-number)
                fetched = Parameters(channel, caller, files, MemoryCache(0)).fetch_checkpoint(start)
                assert all(np.array_equal(fetched[path], sent[path]) for path in sent)
            rng = np.random.default_rng(number)
            sent = {f"t{n}": rng.standard_normal(500) for n in range(TENSORS)}
            start = save(Parameters(channel, caller, files, MemoryCache(0)), number, sent)
        return start

    def save(parameters: Parameters, number: int, params: dict[str, np.ndarray]) -> str:
        """A collector without any mercy may win several times, never without saying so."""
        for _ in range(MOST_TRIES):
            try:
                return parameters.save_checkpoint(str(study), f"lease-{number}", params, {})
            except CallRefused as refusal:
                if refusal.reason != "BLOBS_MISSING":
                    raise
        raise AssertionError(f"the blobs of trial {number} were always collected")

    with ThreadPoolExecutor(WORKERS) as pool:
        names = list(pool.map(work, range(WORKERS)))
    caller = Caller(closing)
    parameters = Parameters(channel, caller, FileCache(tmp_path, 0), MemoryCache(0))
    for name in names:
        assert len(parameters.fetch_checkpoint(name)) == TENSORS
    closing.set()
