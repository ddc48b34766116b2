"""Sessions in messages: what workers say of themselves, and what they are told."""

from collections.abc import Sequence

from rafiki.resources import Model, Platform
from rafiki.server.domain.leases import Lease
from rafiki.server.domain.names import parse_study_or_all
from rafiki.server.domain.studies import StudyFacts
from rafiki.server.domain.workers import Worker, WorkerDevice
from rafiki.server.service.sessions import (
    Delivery,
    Drain,
    Introduction,
    Notice,
    Quarantined,
    Renewal,
    Stop,
)
from rafiki.server.service.surroundings import Assignment
from rafiki.v1 import advisor_pb2 as messages
from rafiki.wire.enums import enum_to_proto
from rafiki.wire.fields import (
    InvalidField,
    at,
    at_least,
    at_most_bytes,
    at_most_items,
    in_range,
    required_enum,
)
from rafiki.wire.knobs import knob_config_to_proto
from rafiki.wire.params import digest_to_proto
from rafiki.wire.structs import struct_to_proto
from rafiki.wire.text import clean_head
from rafiki.wire.times import timestamp_to_proto
from rafiki.wire.trials import trial_to_proto

_MAX_WORKER_ID_CHARACTERS = 128
_MAX_STUDIES = 100
_MAX_CAPACITY = 10_000
_MAX_PREFETCH = 100
_MAX_DEVICES = 100
_MAX_REASON_BYTES = 1024
# Ours have 32 characters.
_MAX_TOKENS_CHARACTERS = 512 * 1024


def worker_from_proto(message: messages.OpenSession, path: str = "") -> Worker:
    """The worker that opens a session."""
    if not 1 <= len(message.worker_id) <= _MAX_WORKER_ID_CHARACTERS:
        rule = f"must have 1 to {_MAX_WORKER_ID_CHARACTERS} characters"
        raise InvalidField(at(path, "worker_id"), rule)
    at_most_items(len(message.studies), _MAX_STUDIES, at(path, "studies"))
    at_most_items(len(message.devices), _MAX_DEVICES, at(path, "devices"))
    devices = tuple(
        _device_from_proto(device, at(path, f"devices[{number}]"))
        for number, device in enumerate(message.devices)
    )
    if not any(device.platform is Platform.CPU for device in devices):
        raise InvalidField(at(path, "devices"), "must have an entry for the CPU")
    return Worker(
        worker_id=message.worker_id,
        capacity=in_range(message.capacity, 1, _MAX_CAPACITY, at(path, "capacity")),
        prefetch=in_range(message.prefetch, 0, _MAX_PREFETCH, at(path, "prefetch")),
        version=at_most_bytes(message.worker_version, 256, at(path, "worker_version")),
        studies=tuple(
            parse_study_or_all(name, at(path, f"studies[{number}]"))
            for number, name in enumerate(message.studies)
        ),
        devices=devices,
    )


def lease_tokens_from_proto(tokens: Sequence[str], path: str) -> list[str]:
    """The leases that a worker names: as many as it can hold, of the length that ours have."""
    at_most_items(len(tokens), _MAX_CAPACITY, path)
    if sum(map(len, tokens)) > _MAX_TOKENS_CHARACTERS:
        raise InvalidField(path, f"must have at most {_MAX_TOKENS_CHARACTERS} characters in all")
    return list(tokens)


def notice_to_proto(notice: Notice) -> messages.StreamTrialsResponse:
    """The message for a notice. Superseded has none: it is the end of the stream."""
    match notice:
        case Introduction(facts=facts):
            return messages.StreamTrialsResponse(study=study_info_to_proto(facts))
        case Delivery(assignment=assignment, is_ahead=is_ahead):
            return messages.StreamTrialsResponse(
                assignment=_assignment_to_proto(assignment, is_ahead)
            )
        case Renewal(leases=leases, lost=lost):
            return messages.StreamTrialsResponse(renewed=renewal_to_proto(leases, lost))
        case Stop(lease=lease):
            return messages.StreamTrialsResponse(
                stop=messages.StopTrial(
                    lease_token=lease.token, reason=enum_to_proto(lease.stop_reason)
                )
            )
        case Drain(reason=reason):
            return messages.StreamTrialsResponse(
                drain=messages.DrainSession(reason=enum_to_proto(reason))
            )
        case Quarantined(until=until, reason=reason):
            return messages.StreamTrialsResponse(
                quarantined=messages.SessionQuarantined(
                    until=timestamp_to_proto(until), reason=clean_head(reason, _MAX_REASON_BYTES)
                )
            )
        case _:
            raise ValueError(f"{notice} has no message")


def renewal_to_proto(leases: Sequence[Lease], lost: Sequence[str]) -> messages.LeasesRenewed:
    """The message for extended and lost leases."""
    return messages.LeasesRenewed(
        leases=[_lease_to_proto(lease) for lease in leases], lost_lease_tokens=lost
    )


def study_info_to_proto(facts: StudyFacts) -> messages.StudyInfo:
    """What all trials of a study need."""
    train, validation, test = facts.train_dataset, facts.validation_dataset, facts.test_dataset
    return messages.StudyInfo(
        name=str(facts.name),
        knob_config=knob_config_to_proto(facts.knob_config),
        direction=enum_to_proto(facts.direction),
        model=_model_ref_to_proto(facts.model) if facts.model else None,
        train_dataset=digest_to_proto(train.digest) if train else None,
        validation_dataset=digest_to_proto(validation.digest) if validation else None,
        test_dataset=digest_to_proto(test.digest) if test else None,
        train_args=struct_to_proto(facts.train_args) if facts.train_args else None,
    )


def _assignment_to_proto(assignment: Assignment, is_ahead: bool) -> messages.TrialAssignment:
    return messages.TrialAssignment(
        trial=trial_to_proto(assignment.trial),
        lease=_lease_to_proto(assignment.lease),
        gpu_count=assignment.lease.gpu_count,
        evaluate=assignment.evaluate,
        save=assignment.save,
        prefetched=is_ahead,
    )


def _lease_to_proto(lease: Lease) -> messages.Lease:
    return messages.Lease(token=lease.token, expire_time=timestamp_to_proto(lease.expire_time))


def _model_ref_to_proto(model: Model) -> messages.ModelRef:
    return messages.ModelRef(
        name=model.name,
        model_class=model.model_class,
        source=digest_to_proto(model.source),
        dependencies=model.dependencies,
    )


def _device_from_proto(message: messages.WorkerDevice, path: str) -> WorkerDevice:
    return WorkerDevice(
        platform=required_enum(Platform, message.platform, at(path, "platform")),
        model=at_most_bytes(message.model, 256, at(path, "model")),
        count=at_least(message.count, 1, at(path, "count")),
        memory_bytes=at_least(message.memory_bytes, 0, at(path, "memory_bytes")),
    )
