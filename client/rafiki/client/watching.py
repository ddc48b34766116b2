"""Following a train job over connections that break."""

import math
import time
from collections.abc import Iterator

import grpc

from rafiki.client.errors import ResumeTokenExpired, error_from_call
from rafiki.client.transport import Transport, is_passing
from rafiki.resources import Study, StudyRound, TrainJob, Trial
from rafiki.v1 import jobs_pb2, jobs_pb2_grpc
from rafiki.wire.jobs import train_job_from_proto
from rafiki.wire.studies import study_from_proto, study_round_from_proto
from rafiki.wire.trials import trial_from_proto

Event = TrainJob | Study | Trial | StudyRound

# A stream that lasted this long had reached the server, even if nothing happened on it.
CONNECTED_S = 10.0


def watch(transport: Transport, name: str, patience_s: float) -> Iterator[Event]:
    """The job and its studies now, then what changes, until the job ends.

    A broken connection is made again and resumed after the last event seen. Where the
    server keeps no events that old, the job and its studies come again as they are.

    Raises:
        RafikiError: The job does not exist, or no server was reached for `patience_s`.
    """
    stub = jobs_pb2_grpc.JobServiceStub(transport.channel)
    token = ""
    attempt = 0
    lost_at = math.inf  # when the connection broke
    while True:
        started_at = time.monotonic()
        call = stub.WatchTrainJob(jobs_pb2.WatchTrainJobRequest(name=name, resume_token=token))
        try:
            for response in call:
                token = response.resume_token or token
                attempt, lost_at = 0, math.inf
                event = event_from_proto(response)
                if event is not None:
                    yield event
            return
        except grpc.RpcError as cause:
            if transport.is_closed:
                return
            error = error_from_call(cause, transport.address)
            if isinstance(error, ResumeTokenExpired) and token:
                token = ""
                continue
            is_cut = is_passing(error) or call.code() is grpc.StatusCode.CANCELLED
            now = time.monotonic()
            lost_at = now if now - started_at > CONNECTED_S else min(lost_at, now)
            if not is_cut or now - lost_at > patience_s:
                raise error from cause
            transport.pause(attempt, error)
            attempt += 1
        finally:
            call.cancel()


def event_from_proto(response: jobs_pb2.WatchTrainJobResponse) -> Event | None:
    """What an event holds; None for a kind that this release does not know."""
    match response.WhichOneof("event"):
        case "train_job":
            return train_job_from_proto(response.train_job)
        case "study":
            return study_from_proto(response.study)
        case "trial":
            return trial_from_proto(response.trial)
        case "study_round":
            return study_round_from_proto(response.study_round)
        case _:
            return None
