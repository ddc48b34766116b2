"""The composition root: one process that serves the API from a data folder."""

import asyncio
import logging
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection
from sqlalchemy.exc import SQLAlchemyError

from rafiki.server.advisors import check_budget, create_advisor, resolve_settings
from rafiki.server.domain.clock import Clock, system_clock
from rafiki.server.domain.leases import LeaseTable
from rafiki.server.rpc.advisor import AdvisorServicer
from rafiki.server.rpc.authorization import AuthorizationInterceptor, local_superuser
from rafiki.server.rpc.datasets import DatasetServicer
from rafiki.server.rpc.jobs import JobServicer
from rafiki.server.rpc.models import ModelServicer
from rafiki.server.rpc.parameters import ParameterServicer
from rafiki.server.rpc.streams import Streams
from rafiki.server.service.checkpoints import CheckpointService
from rafiki.server.service.collection import Collector
from rafiki.server.service.datasets import DatasetService
from rafiki.server.service.dispatch import Dispatcher
from rafiki.server.service.job_views import JobViews
from rafiki.server.service.jobs import JobService, Schemes
from rafiki.server.service.merging import Merger
from rafiki.server.service.models import ModelService
from rafiki.server.service.named_studies import NamedStudies
from rafiki.server.service.reading import JobReader
from rafiki.server.service.reports import ReportService
from rafiki.server.service.running_jobs import RunningJobs
from rafiki.server.service.surroundings import Surroundings
from rafiki.server.service.watch import Bells, WatchService
from rafiki.server.store.blob_cache import CachedBlobs
from rafiki.server.store.blobs import FileBlobs
from rafiki.server.store.database import Database
from rafiki.v1 import (
    advisor_pb2,
    advisor_pb2_grpc,
    datasets_pb2,
    datasets_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    models_pb2,
    models_pb2_grpc,
    params_pb2,
)

logger = logging.getLogger(__name__)

# What clients may send in one message.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
# Bounds what one client may leave open; many workers may share a connection.
_MAX_SESSIONS_PER_PEER = 2000
_PRUNE_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """What an operator chooses. A lease lasts at least three heartbeats."""

    data_dir: Path
    listen: str = "127.0.0.1:8780"
    heartbeat: timedelta = timedelta(seconds=5)
    lease: timedelta = timedelta(seconds=20)
    unary_threads: int = 16
    # What the checkpoints of one job may take together; 0 for no limit.
    checkpoint_quota_bytes: int = 0
    # How many of the best trials of each study keep their checkpoints for good.
    keep_best: int = 5
    gc_interval: timedelta = timedelta(minutes=10)
    # How long a blob that nothing names is kept: at least as long as a checkpoint takes to save.
    gc_grace: timedelta = timedelta(hours=1)
    # Memory for blobs that workers ask for again and again; 0 for none.
    blob_cache_bytes: int = 256 * 1024 * 1024
    # Whether a blob is on the disk before it is acknowledged; see docs/parameter-store.md.
    sync_blobs: bool = True
    # How long sessions have to close by themselves when the server goes away.
    shutdown_grace: timedelta = timedelta(seconds=2)

    def __post_init__(self) -> None:
        if self.heartbeat <= timedelta(0):
            raise ValueError("the heartbeat interval must be above 0")
        if self.lease < 3 * self.heartbeat:
            raise ValueError("a lease must last at least three heartbeat intervals")
        if self.gc_interval <= timedelta(0) or self.gc_grace < timedelta(0):
            raise ValueError(
                "the interval of garbage collection must be above 0, its grace not below"
            )
        if min(self.checkpoint_quota_bytes, self.keep_best, self.blob_cache_bytes) < 0:
            raise ValueError("quota, checkpoints kept and cache must not be below 0")


class CannotListen(Exception):
    """The address cannot be served on."""


class Server:
    """A server on one event loop.

    Raises:
        UnusableDatabase: The data folder cannot be used.
    """

    def __init__(self, config: ServerConfig, clock: Clock = system_clock) -> None:
        self.config = config
        self.port = 0
        self._database = Database.in_folder(config.data_dir)
        self._database.migrate()
        files = self._blobs = FileBlobs(config.data_dir / "blobs", sync=config.sync_blobs)
        blobs = CachedBlobs(files, config.blob_cache_bytes)
        leases = LeaseTable()
        bells = Bells()
        self._dispatcher = Dispatcher(leases, clock, config.lease, bells.ring)
        self._jobs = RunningJobs(
            Surroundings(
                database=self._database,
                clock=clock,
                leases=leases,
                signals=self._dispatcher,
                create_advisor=create_advisor,
                merge=Merger(self._database, blobs).try_merge,
                lease_duration=config.lease,
            )
        )
        schemes = Schemes(
            resolve_settings=resolve_settings,
            check_budget=check_budget,
            create_advisor=create_advisor,
        )
        views = JobViews(self._jobs, leases, lambda: self._dispatcher.workers)
        self._watch = WatchService(self._database, views)
        self._bells = bells
        self._byte_streams = Streams()
        self._watch_streams = Streams(max_per_peer=_MAX_SESSIONS_PER_PEER)
        # Without a heartbeat for as long as a lease lasts, a worker is gone.
        self._session_streams = Streams(
            threads=1,
            idle_timeout_s=config.lease.total_seconds(),
            max_per_peer=_MAX_SESSIONS_PER_PEER,
        )
        self._executor = ThreadPoolExecutor(config.unary_threads, thread_name_prefix="rafiki-unary")
        self._server = grpc.aio.server(
            migration_thread_pool=self._executor,
            interceptors=(AuthorizationInterceptor(local_superuser),),
            options=_channel_options(),
        )
        self._health = HealthServicer()
        self._job_servicer = JobServicer(
            JobService(self._database, clock, self._dispatcher, schemes, self._jobs),
            JobReader(self._database, views),
            self._watch,
            bells,
            self._watch_streams,
        )
        advisor = AdvisorServicer(
            self._dispatcher,
            self._jobs,
            ReportService(self._database, clock, self._dispatcher, self._jobs),
            NamedStudies(self._database),
            self._session_streams,
            server_version=version("rafiki"),
            heartbeat_interval=config.heartbeat,
            lease_duration=config.lease,
        )
        models = ModelServicer(
            ModelService(self._database, blobs, clock), blobs, self._byte_streams
        )
        datasets = DatasetServicer(
            DatasetService(self._database, blobs, clock), blobs, self._byte_streams
        )
        self._collector = Collector(
            self._database,
            blobs,
            clock,
            self._jobs.needed_checkpoints,
            grace=config.gc_grace,
            keep_best=config.keep_best,
        )
        checkpoints = CheckpointService(
            self._database,
            blobs,
            clock,
            quota_bytes=config.checkpoint_quota_bytes,
            make_room=self._collector.collect_checkpoints,
        )
        parameters = ParameterServicer(checkpoints, self._collector, blobs, self._byte_streams)
        jobs_pb2_grpc.add_JobServiceServicer_to_server(self._job_servicer, self._server)
        advisor_pb2_grpc.add_AdvisorServiceServicer_to_server(advisor, self._server)
        models_pb2_grpc.add_ModelServiceServicer_to_server(models, self._server)
        datasets_pb2_grpc.add_DatasetServiceServicer_to_server(datasets, self._server)
        parameters.add_to(self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection([*_SERVICES, reflection.SERVICE_NAME], self._server)
        # Of its own: a collection may take long.
        self._collecting = ThreadPoolExecutor(1, thread_name_prefix="rafiki-gc")
        self._background: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Restores what ran before, then serves; `port` is set from now on.

        Raises:
            CannotListen: The address is in use, or none of this machine.
        """
        loop = asyncio.get_running_loop()
        try:
            self.port = self._server.add_insecure_port(self.config.listen)
        except RuntimeError:
            rule = "it is in use, or none of this machine; choose another with --listen"
            raise CannotListen(f"cannot listen on {self.config.listen}: {rule}") from None
        await loop.run_in_executor(None, self._jobs.restore)
        self._dispatcher.start(self._jobs)
        await self._server.start()
        for service in ("", *_SERVICES):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        self._background = [
            loop.create_task(self._keep_house()),
            loop.create_task(self._collect_garbage()),
        ]
        logger.info("server started port=%d data_dir=%s", self.port, self.config.data_dir)

    async def stop(self) -> None:
        """Lets sessions close, ends what is left of the calls, and frees the data folder."""
        logger.info("server stopping")
        await self._health.enter_graceful_shutdown()
        self._job_servicer.is_draining = True
        self._dispatcher.drain()
        self._bells.ring_all()
        try:
            async with asyncio.timeout(self.config.shutdown_grace.total_seconds()):
                await self._dispatcher.quiet()
        except TimeoutError:
            logger.info("sessions left open workers=%d", len(self._dispatcher.workers))
        for task in self._background:
            task.cancel()
        await self._server.stop(grace=0.5)
        await self._dispatcher.close()
        for streams in (self._byte_streams, self._watch_streams, self._session_streams):
            streams.close()
        self._executor.shutdown()
        self._collecting.shutdown()
        self._blobs.close()
        self._database.close()

    async def _keep_house(self) -> None:
        while True:
            await self._watch_streams.run(self._watch.prune)
            await asyncio.sleep(_PRUNE_S)

    async def _collect_garbage(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.config.gc_interval.total_seconds())
            try:
                await loop.run_in_executor(self._collecting, self._collector.collect)
            except (OSError, SQLAlchemyError):
                # A full disk, for one, passes; the next time may do.
                logger.exception("garbage not collected")


async def serve(config: ServerConfig) -> None:
    """Serves until SIGTERM or SIGINT; prints one line once it is ready."""
    server = Server(config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await server.start()
    host = config.listen.rpartition(":")[0]
    address = f"{host}:{server.port}"
    (config.data_dir / "server.address").write_text(address + "\n")
    print(f"rafiki server listening on {address}", flush=True)
    await stop.wait()
    await server.stop()


_SERVICES = tuple(
    file.DESCRIPTOR.services_by_name[name].full_name
    for file, name in (
        (jobs_pb2, "JobService"),
        (advisor_pb2, "AdvisorService"),
        (models_pb2, "ModelService"),
        (datasets_pb2, "DatasetService"),
        (params_pb2, "ParameterService"),
    )
)


def _channel_options() -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        # A dead peer is noticed before its leases end, by either side.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_ping_strikes", 0),
        # Two servers on one port would share its connections.
        ("grpc.so_reuseport", 0),
    ]
