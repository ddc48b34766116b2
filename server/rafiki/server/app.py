"""The composition root: one process that serves the API from a data folder."""

import asyncio
import itertools
import logging
import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from importlib.metadata import version

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from rafiki.server.advisors import check_budget, create_advisor, resolve_settings
from rafiki.server.config import ServerConfig
from rafiki.server.domain.clock import Clock, system_clock
from rafiki.server.domain.errors import StorageError
from rafiki.server.domain.leases import LeaseTable
from rafiki.server.metrics import Metering, State
from rafiki.server.rpc.advisor import AdvisorServicer
from rafiki.server.rpc.authorization import AuthorizationInterceptor, local_superuser
from rafiki.server.rpc.datasets import DatasetServicer
from rafiki.server.rpc.decoding import DecodingInterceptor
from rafiki.server.rpc.health import Health
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
from rafiki.server.service.quarantine import QuarantineRules
from rafiki.server.service.reading import JobReader
from rafiki.server.service.reports import ReportService
from rafiki.server.service.running_jobs import RunningJobs
from rafiki.server.service.study_runner import StudyRunner
from rafiki.server.service.surroundings import Surroundings
from rafiki.server.service.watch import Bells, WatchService
from rafiki.server.store.backend import UnusableDatabase
from rafiki.server.store.blob_cache import CachedBlobs
from rafiki.server.store.blobs import FileBlobs
from rafiki.server.store.database import Database
from rafiki.server.store.sqlite import hold
from rafiki.server.store.totals import study_totals, trial_totals
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
# A server that has lost its database to another is to find out although it has nothing to store.
_VERIFY_S = 5.0


class CannotListen(Exception):
    """The address cannot be served on."""


class Server:
    """A server on one event loop. `port` and `metrics_port` are set by `start`.

    Raises:
        UnusableDatabase: The database cannot be used.
    """

    def __init__(self, config: ServerConfig, clock: Clock = system_clock) -> None:
        self.config = config
        self.port = 0
        self.metrics_port = 0
        metering = self._metering = (
            Metering(config.metrics_listen) if config.metrics_listen else None
        )
        # The database holds another lock, if it is not in the data folder.
        self._held = hold(config.data_dir / "server.lock")
        try:
            self._database = _open_database(config, metering)
        except BaseException:
            self._held.close()
            raise
        files = self._blobs = FileBlobs(config.data_dir / "blobs", sync=config.sync_blobs)
        blobs = CachedBlobs(files, config.blob_cache_bytes)
        leases = self._leases = LeaseTable()
        bells = Bells()
        self._dispatcher = Dispatcher(
            leases, clock, config.lease, _quarantine_rules(config), bells.ring
        )
        self._jobs = RunningJobs(
            Surroundings(
                database=self._database,
                clock=clock,
                leases=leases,
                signals=self._dispatcher,
                create_advisor=create_advisor,
                merge=Merger(self._database, blobs).try_merge,
                lease_duration=config.lease,
            ),
            make_runner=metering.make_runner if metering else StudyRunner,
        )
        schemes = Schemes(
            resolve_settings=resolve_settings,
            check_budget=check_budget,
            create_advisor=create_advisor,
        )
        views = JobViews(
            self._jobs,
            leases,
            workers=lambda: self._dispatcher.workers,
            quarantined=lambda: self._dispatcher.quarantined,
        )
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
            interceptors=(
                AuthorizationInterceptor(local_superuser),
                *([metering.interceptor] if metering else []),
                DecodingInterceptor(),
            ),
            options=_channel_options(),
        )
        self._health = Health(("", *_SERVICES))
        self._job_servicer = JobServicer(
            JobService(self._database, clock, self._dispatcher, schemes, self._jobs),
            JobReader(self._database, views),
            self._watch,
            bells,
            self._watch_streams,
        )
        advisor = AdvisorServicer(
            self._dispatcher,
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
            grace=timedelta(seconds=config.gc_grace_s),
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
        """Restores what ran before, then serves.

        Raises:
            CannotListen: The address is in use, or none of this machine.
        """
        loop = asyncio.get_running_loop()
        try:
            self.port = self._server.add_insecure_port(self.config.listen)
        except RuntimeError:
            rule = "it is in use, or none of this machine; choose another with --listen"
            raise CannotListen(f"cannot listen on {self.config.listen}: {rule}") from None
        self._serve_metrics()
        await loop.run_in_executor(None, self._jobs.restore)
        self._dispatcher.start(self._jobs)
        await self._server.start()
        await self._health.start()
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
            async with asyncio.timeout(self.config.shutdown_grace_s):
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
        if self.metrics_port and self._metering is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._metering.close)
        self._collecting.shutdown()
        self._blobs.close()
        self._database.close()
        self._held.close()

    def on_taken_over(self, call: Callable[[], None]) -> None:
        """Has `call` called, in any thread, once another server has taken the database over."""
        self._database.on_taken_over(call)

    def _serve_metrics(self) -> None:
        if self._metering is None:
            return
        state = State(
            version=version("rafiki"),
            workers=lambda: self._dispatcher.workers,
            leases=lambda: len(self._leases),
            totals=self._totals,
            queues=self._queues,
        )
        try:
            self.metrics_port = self._metering.serve(state)
        except OSError as error:
            raise CannotListen(
                f"cannot serve metrics on {self.config.metrics_listen}: {error.strerror or error}; "
                "choose another address with --metrics-listen"
            ) from None
        logger.info("metrics served port=%d", self.metrics_port)

    def _totals(self) -> tuple[Mapping[str, int], Mapping[str, int]]:
        with self._database.read() as connection:
            return trial_totals(connection), study_totals(connection)

    def _queues(self) -> Mapping[str, int]:
        return {
            **self._dispatcher.queues,
            "unary_calls": self._executor._work_queue.qsize(),
            "byte_streams": self._byte_streams.waiting,
            "watch_streams": self._watch_streams.waiting,
            "session_streams": self._session_streams.waiting,
        }

    async def _keep_house(self) -> None:
        for turn in itertools.count():
            try:
                if turn % round(_PRUNE_S / _VERIFY_S) == 0:
                    await self._watch_streams.run(self._watch.prune)
                else:
                    await self._watch_streams.run(self._database.verify)
            except StorageError as error:
                logger.error("the database fails error=%s", error)
            await asyncio.sleep(_VERIFY_S)

    async def _collect_garbage(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.config.gc_interval_s)
            try:
                await loop.run_in_executor(self._collecting, self._collector.collect)
            except (OSError, StorageError):
                # A full disk, for one, passes; the next time may do.
                logger.exception("garbage not collected")


def _open_database(config: ServerConfig, metering: Metering | None) -> Database:
    """The database, with the schema of this release."""
    url = config.database_url
    if metering is None:
        database = Database(url, config.synchronous)
    else:
        database = metering.open_database(url, config.synchronous)
    try:
        database.migrate()
    except StorageError as error:
        database.close()
        raise UnusableDatabase(str(error)) from None
    except BaseException:
        database.close()
        raise
    return database


async def serve(config: ServerConfig) -> None:
    """Serves until SIGTERM or SIGINT; prints one line once it is ready.

    Raises:
        UnusableDatabase: The database cannot be used; or another server has taken it over.
        CannotListen: The address cannot be served on.
    """
    server = Server(config)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    losses: list[str] = []

    def lose_database() -> None:
        losses.append("another server has taken the database over; this one has stopped")
        loop.call_soon_threadsafe(stop.set)

    server.on_taken_over(lose_database)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await server.start()
    host = config.listen.rpartition(":")[0]
    address = f"{host}:{server.port}"
    (config.data_dir / "server.address").write_text(address + "\n")
    print(f"rafiki server listening on {address}", flush=True)
    await stop.wait()
    await server.stop()
    if losses:
        raise UnusableDatabase(losses[0])


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


def _quarantine_rules(config: ServerConfig) -> QuarantineRules:
    return QuarantineRules(
        failures=config.quarantine_failures,
        fast=timedelta(seconds=config.quarantine_fast_s),
        first=timedelta(seconds=config.quarantine_s),
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
