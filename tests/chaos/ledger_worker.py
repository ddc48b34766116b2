"""`python -m tests.chaos.ledger_worker`: the worker that ships, which also keeps a ledger.

A gRPC interceptor on its channel writes a line before each CompleteTrial, and one after the
answer, before the worker sees it. Nothing else differs from `rafiki-worker`. The ledger goes
into the folder that CHAOS_LEDGERS names.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

import grpc
from tests.chaos.ledger import Ledger, Moment, Report

from rafiki.v1.advisor_pb2 import CompleteTrialRequest, CompleteTrialResponse
from rafiki.v1.trials_pb2 import TrialState
from rafiki.worker.__main__ import main


class Call(Protocol):
    """What the worker uses of a call that is going on."""

    def result(self, timeout: float | None = None) -> object: ...

    def cancel(self) -> bool: ...


class NotedCall:
    """A call of CompleteTrial whose end is noted before anybody sees it."""

    def __init__(self, call: Call, ledger: Ledger, report: Report) -> None:
        self._call = call
        self._ledger = ledger
        self._report = report

    def cancel(self) -> bool:
        """As grpc.Future."""
        return self._call.cancel()

    def result(self, timeout: float | None = None) -> object:
        """As grpc.Future."""
        try:
            answer = cast(CompleteTrialResponse, self._call.result(timeout))
        except grpc.RpcError as error:
            refused = replace(self._report, moment=Moment.REFUSED, code=error.code().name)
            self._ledger.write(refused)
            raise
        trial = answer.trial
        self._ledger.write(
            replace(
                self._report,
                moment=Moment.ACKNOWLEDGED,
                answered_state=TrialState.Name(trial.state).removeprefix("TRIAL_STATE_"),
                answered_score=trial.score if trial.HasField("score") else None,
            )
        )
        return answer


class LedgerInterceptor(grpc.UnaryUnaryClientInterceptor):
    """Sees the outcomes that a worker reports."""

    def __init__(self, ledger: Ledger, worker: str) -> None:
        self._ledger = ledger
        self._worker = worker

    def intercept_unary_unary(  # type: ignore[override]  # the stubs ask for more than is used
        self,
        continuation: Callable[[grpc.ClientCallDetails, object], Call],
        client_call_details: grpc.ClientCallDetails,
        request: object,
    ) -> Call:
        """As grpc.UnaryUnaryClientInterceptor."""
        if not isinstance(request, CompleteTrialRequest):
            return continuation(client_call_details, request)
        completed = request.completed if request.HasField("completed") else None
        report = Report(
            moment=Moment.REPORTING,
            worker=self._worker,
            trial=request.name,
            token=request.lease_token,
            outcome=request.WhichOneof("outcome") or "",
            score=completed.score if completed and completed.HasField("score") else None,
        )
        self._ledger.write(report)
        return NotedCall(continuation(client_call_details, request), self._ledger, report)


def keep_ledger() -> None:
    """Has every channel that is opened from now on keep the ledger of this process."""
    name = f"worker-{os.getpid()}"
    ledger = Ledger(Path(os.environ["CHAOS_LEDGERS"]) / f"{name}.jsonl")
    open_channel = grpc.insecure_channel

    def open_noted(
        target: str,
        options: Sequence[tuple[str, object]] | None = None,
        compression: grpc.Compression | None = None,
    ) -> grpc.Channel:
        channel = open_channel(target, options, compression)
        return grpc.intercept_channel(channel, LedgerInterceptor(ledger, name))

    grpc.insecure_channel = open_noted


if __name__ == "__main__":
    keep_ledger()
    main()
