"""The worker as a whole: what is made of what, how it starts and how it ends."""

import importlib.metadata
import logging
import os
import signal
import threading
from types import FrameType

import grpc

from rafiki.worker.assignment import Wakeup, WorkerClosing
from rafiki.worker.cache import FileCache, MemoryCache, prune_folder
from rafiki.worker.calls import Caller
from rafiki.worker.config import WorkerConfig
from rafiki.worker.devices import find_devices
from rafiki.worker.environment import compilation_cache
from rafiki.worker.parameters import Parameters
from rafiki.worker.runner import Runner
from rafiki.worker.session import Identity, Session

logger = logging.getLogger(__name__)

COMPILATION_CACHE_BYTES = 4 << 30

_CHANNEL_OPTIONS = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # The backoff that counts is the worker's own.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.max_receive_message_length", 8 << 20),
)


def run_worker(config: WorkerConfig) -> int:
    """Runs trials until SIGTERM, SIGINT or the end of all work; returns the exit status.

    For the main thread: it takes signals, and children end with the thread that started them.
    """
    if config.cores:
        # Before anything starts threads or children: both inherit it.
        os.sched_setaffinity(0, config.cores)
    config.data_dir.mkdir(parents=True, exist_ok=True)
    programs = compilation_cache(config.data_dir)
    programs.mkdir(parents=True, exist_ok=True)
    prune_folder(programs.parent, COMPILATION_CACHE_BYTES, set())
    closing = threading.Event()
    wakeup = Wakeup()
    caller = Caller(closing)
    with grpc.insecure_channel(config.server, options=_CHANNEL_OPTIONS) as channel:
        parameters = Parameters(
            channel,
            caller,
            FileCache(config.data_dir / "blobs", config.disk_cache_bytes),
            MemoryCache(config.memory_cache_bytes),
        )
        runner = Runner(
            channel=channel,
            caller=caller,
            parameters=parameters,
            data_dir=config.data_dir,
            memory_limit_bytes=config.memory_limit_bytes,
            wakeup=wakeup,
            closing=closing,
        )
        identity = Identity(
            worker_id=config.worker_id,
            worker_version=importlib.metadata.version("rafiki"),
            studies=config.studies,
            devices=find_devices(),
            prefetch=config.prefetch,
        )
        session = Session(channel, identity, wakeup, closing, parameters.use_chunks)
        _end_on_signals(closing, wakeup, session)
        session.start()
        logger.info("worker started worker=%s server=%s", config.worker_id, config.server)
        try:
            _work(session, runner, closing)
        finally:
            closing.set()
            runner.close()
            session.close()
    if session.failure:
        logger.error("worker failed worker=%s: %s", config.worker_id, session.failure)
        return 1
    logger.info("worker ended worker=%s", config.worker_id)
    return 0


def _work(session: Session, runner: Runner, closing: threading.Event) -> None:
    while not closing.is_set() and (held := session.take()) is not None:
        try:
            runner.run(held)
        except WorkerClosing:
            # Not released: closing the session hands it back to the server.
            return
        session.release(held)


def _end_on_signals(closing: threading.Event, wakeup: Wakeup, session: Session) -> None:
    def end(number: int, _: FrameType | None) -> None:
        if closing.is_set():
            # Asked twice. The child goes with this process.
            os._exit(128 + number)
        closing.set()
        wakeup.set()
        session.wake()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
