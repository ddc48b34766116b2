"""Answers about jobs that hold several resources."""

from collections.abc import Sequence

from rafiki.resources import Study, StudyRound, TrainJob, Trial
from rafiki.server.domain.errors import InvalidArgument
from rafiki.server.rpc.pages import MAX_PAGE_BYTES
from rafiki.server.service.watch import WatchEvent
from rafiki.v1 import jobs_pb2 as messages
from rafiki.wire.jobs import train_job_to_proto
from rafiki.wire.studies import study_round_to_proto, study_to_proto
from rafiki.wire.trials import trial_to_proto


def created_to_proto(job: TrainJob, studies: Sequence[Study]) -> messages.CreateTrainJobResponse:
    """The answer to whoever creates a job."""
    return messages.CreateTrainJobResponse(
        train_job=train_job_to_proto(job), studies=map(study_to_proto, studies)
    )


def check_fits(job: TrainJob, studies: Sequence[Study]) -> None:
    """Raises InvalidArgument if the job cannot be told of in one message."""
    size_bytes = created_to_proto(job, studies).ByteSize()
    if size_bytes > MAX_PAGE_BYTES:
        rule = (
            f"must have smaller knob configs: job and studies take {size_bytes} bytes, "
            f"of {MAX_PAGE_BYTES}"
        )
        raise InvalidArgument([("train_job.studies", rule)])


def watch_response(event: WatchEvent) -> messages.WatchTrainJobResponse:
    """What a watcher is told."""
    token = event.token
    match event.resource:
        case TrainJob() as job:
            return messages.WatchTrainJobResponse(
                train_job=train_job_to_proto(job), resume_token=token
            )
        case Study() as study:
            return messages.WatchTrainJobResponse(study=study_to_proto(study), resume_token=token)
        case Trial() as trial:
            return messages.WatchTrainJobResponse(trial=trial_to_proto(trial), resume_token=token)
        case StudyRound() as item:
            return messages.WatchTrainJobResponse(
                study_round=study_round_to_proto(item), resume_token=token
            )
