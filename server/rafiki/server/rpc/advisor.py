"""AdvisorService: sessions of workers, and what they report."""

import asyncio
from datetime import timedelta

import grpc

from rafiki.server.domain.errors import (
    InvalidArgument,
    ProtocolViolation,
    SessionSuperseded,
)
from rafiki.server.domain.leases import Lease
from rafiki.server.domain.names import TrialName
from rafiki.server.domain.outcomes import Cancelled, Outcome
from rafiki.server.rpc.errors import async_statuses, statuses
from rafiki.server.rpc.session_messages import (
    lease_tokens_from_proto,
    notice_to_proto,
    renewal_to_proto,
    worker_from_proto,
)
from rafiki.server.rpc.streams import StreamContext, Streams
from rafiki.server.service.dispatch import Dispatcher
from rafiki.server.service.named_studies import NamedStudies
from rafiki.server.service.reports import ReportService
from rafiki.server.service.sessions import Session, Superseded
from rafiki.v1 import advisor_pb2 as messages
from rafiki.v1.advisor_pb2_grpc import AdvisorServiceServicer
from rafiki.wire.reports import (
    trial_log_from_proto,
    trial_metrics_from_proto,
    trial_plot_from_proto,
)
from rafiki.wire.times import duration_to_proto
from rafiki.wire.trials import (
    trial_error_from_proto,
    trial_outcome_from_proto,
    trial_progress_from_proto,
    trial_timings_from_proto,
    trial_to_proto,
)

_MAX_REPORT_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 20
# Answers to heartbeats that a session may leave unread; they are kept in memory.
_MAX_UNTOLD_RENEWALS = 16


class AdvisorServicer(AdvisorServiceServicer):
    """See advisor.proto.

    Args:
        dispatcher: Hands out the trials, and takes their outcomes.
        reports: Takes what they report.
        named: Checks which studies a worker names.
        streams: Bounds what a worker may leave the server waiting for.
        server_version: The release of the server.
        heartbeat_interval: How often workers are to send heartbeats.
        lease_duration: How long a lease lasts without one.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        reports: ReportService,
        named: NamedStudies,
        streams: Streams,
        *,
        server_version: str,
        heartbeat_interval: timedelta,
        lease_duration: timedelta,
    ) -> None:
        self._dispatcher = dispatcher
        self._reports = reports
        self._named = named
        self._streams = streams
        self._server_version = server_version
        self._heartbeat_interval = heartbeat_interval
        self._lease_duration = lease_duration

    # A coroutine that writes, not a generator: it ends with its call, wherever it is.
    async def StreamTrials(  # type: ignore[override]  # the stubs know generators only
        self, request_iterator: object, context: StreamContext
    ) -> None:
        """One worker's session."""
        async with async_statuses(context), self._streams.admitted(context):
            first = await self._streams.receive(context)
            if first is None:
                return
            if first.WhichOneof("event") != "open":
                raise ProtocolViolation("the first message of a session must be `open`")
            worker = worker_from_proto(first.open, "open")
            await self._streams.run(self._named.check, worker)
            tokens = lease_tokens_from_proto(first.open.lease_tokens, "open.lease_tokens")
            session, held, lost = await self._dispatcher.open(worker, tokens)
            try:
                await context.write(self._opened(held, lost))
                await self._converse(session, context)
            finally:
                self._dispatcher.leave(session)

    async def _converse(self, session: Session, context: StreamContext) -> None:
        """Reads and writes side by side, until either ends."""
        tasks = {
            asyncio.create_task(self._read(session, context)),
            asyncio.create_task(_write(session, context)),
        }
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _read(self, session: Session, context: StreamContext) -> None:
        while (request := await self._streams.receive(context)) is not None:
            match request.WhichOneof("event"):
                case "heartbeat":
                    tokens = request.heartbeat.lease_tokens
                    self._dispatcher.heartbeat(
                        session, lease_tokens_from_proto(tokens, "heartbeat.lease_tokens")
                    )
                    if session.untold_renewals > _MAX_UNTOLD_RENEWALS:
                        raise ProtocolViolation("answers to heartbeats must be read")
                case "close":
                    await self._dispatcher.release(session)
                    return
                case "open":
                    raise ProtocolViolation("a session is opened once")
                case _:
                    raise ProtocolViolation("a message must hold an event of this release")

    def ReportTrial(
        self, request: messages.ReportTrialRequest, context: grpc.ServicerContext
    ) -> messages.ReportTrialResponse:
        """Stores logs, metrics, plots and progress."""
        with statuses(context):
            if request.ByteSize() > _MAX_REPORT_BYTES:
                rule = f"takes at most {_MAX_REPORT_BYTES} bytes; send several"
                raise InvalidArgument([("logs", f"the request {rule}")])
            progress = None
            if request.HasField("progress"):
                progress = trial_progress_from_proto(request.progress, "progress")
            stored = self._reports.report(
                TrialName.parse(request.name),
                request.lease_token,
                logs=[trial_log_from_proto(x, f"logs[{i}]") for i, x in enumerate(request.logs)],
                metrics=[
                    trial_metrics_from_proto(x, f"metrics[{i}]")
                    for i, x in enumerate(request.metrics)
                ],
                plots=[
                    trial_plot_from_proto(x, f"plots[{i}]") for i, x in enumerate(request.plots)
                ],
                progress=progress,
            )
            return messages.ReportTrialResponse(stored_sequence=stored)

    async def CompleteTrial(
        self, request: messages.CompleteTrialRequest, context: StreamContext
    ) -> messages.CompleteTrialResponse:
        """Records the outcome of a trial; answered after the commit."""
        async with async_statuses(context):
            timings = None
            if request.HasField("timings"):
                timings = trial_timings_from_proto(request.timings, "timings")
            trial = await self._dispatcher.complete(
                TrialName.parse(request.name), request.lease_token, _outcome(request), timings
            )
            return messages.CompleteTrialResponse(trial=trial_to_proto(trial))

    def _opened(self, held: list[Lease], lost: list[str]) -> messages.StreamTrialsResponse:
        return messages.StreamTrialsResponse(
            opened=messages.SessionOpened(
                server_version=self._server_version,
                heartbeat_interval=duration_to_proto(self._heartbeat_interval),
                lease_duration=duration_to_proto(self._lease_duration),
                chunk_bytes=_CHUNK_BYTES,
                leases=renewal_to_proto(held, lost),
            )
        )


async def _write(session: Session, context: StreamContext) -> None:
    while True:
        notice = await session.next_notice()
        if isinstance(notice, Superseded):
            raise SessionSuperseded(session.worker.worker_id)
        await context.write(notice_to_proto(notice))


def _outcome(request: messages.CompleteTrialRequest) -> Outcome:
    match request.WhichOneof("outcome"):
        case "completed":
            return trial_outcome_from_proto(request.completed, "completed")
        case "error":
            return trial_error_from_proto(request.error, "error")
        case "cancelled":
            return Cancelled()
        case _:
            raise InvalidArgument([("outcome", "must be set")])
