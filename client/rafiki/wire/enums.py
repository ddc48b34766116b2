"""Enums of the API to the numbers of the proto enums and back.

A `StrEnum` has the names of the proto enum of the same name, without its prefix. The
UNSPECIFIED value of a proto enum is None here.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple, TypeVar, overload

from google.protobuf.descriptor import EnumDescriptor

from rafiki.model.knobs import Policy
from rafiki.resources.enums import (
    AdvisorKind,
    Direction,
    DrainReason,
    EarlyStoppingRule,
    EnasPreset,
    EndReason,
    LogLevel,
    Platform,
    StopReason,
    StudyState,
    TrainJobState,
    TrialErrorKind,
    TrialOrder,
    TrialPhase,
    TrialState,
)
from rafiki.v1 import advisor_pb2, jobs_pb2, knobs_pb2, studies_pb2, trials_pb2

_Enum = TypeVar("_Enum", bound=StrEnum)


class ProtoEnum(NamedTuple):
    """The proto enum that a `StrEnum` stands for."""

    descriptor: EnumDescriptor
    prefix: str


PROTO_ENUMS: Mapping[type[StrEnum], ProtoEnum] = MappingProxyType(
    {
        AdvisorKind: ProtoEnum(studies_pb2.AdvisorKind.DESCRIPTOR, "ADVISOR_KIND_"),
        Direction: ProtoEnum(trials_pb2.Direction.DESCRIPTOR, "DIRECTION_"),
        DrainReason: ProtoEnum(advisor_pb2.DrainReason.DESCRIPTOR, "DRAIN_REASON_"),
        EarlyStoppingRule: ProtoEnum(
            studies_pb2.EarlyStoppingRule.DESCRIPTOR, "EARLY_STOPPING_RULE_"
        ),
        EnasPreset: ProtoEnum(studies_pb2.EnasPreset.DESCRIPTOR, "ENAS_PRESET_"),
        EndReason: ProtoEnum(studies_pb2.EndReason.DESCRIPTOR, "END_REASON_"),
        LogLevel: ProtoEnum(trials_pb2.LogLevel.DESCRIPTOR, "LOG_LEVEL_"),
        Platform: ProtoEnum(advisor_pb2.Platform.DESCRIPTOR, "PLATFORM_"),
        Policy: ProtoEnum(knobs_pb2.Policy.DESCRIPTOR, "POLICY_"),
        StopReason: ProtoEnum(trials_pb2.StopReason.DESCRIPTOR, "STOP_REASON_"),
        StudyState: ProtoEnum(studies_pb2.StudyState.DESCRIPTOR, "STUDY_STATE_"),
        TrainJobState: ProtoEnum(jobs_pb2.TrainJobState.DESCRIPTOR, "TRAIN_JOB_STATE_"),
        TrialErrorKind: ProtoEnum(trials_pb2.TrialErrorKind.DESCRIPTOR, "TRIAL_ERROR_KIND_"),
        TrialOrder: ProtoEnum(jobs_pb2.TrialOrder.DESCRIPTOR, "TRIAL_ORDER_"),
        TrialPhase: ProtoEnum(trials_pb2.TrialPhase.DESCRIPTOR, "TRIAL_PHASE_"),
        TrialState: ProtoEnum(trials_pb2.TrialState.DESCRIPTOR, "TRIAL_STATE_"),
    }
)

_NUMBERS: dict[type[StrEnum], dict[StrEnum, int]] = {
    cls: {value: proto.descriptor.values_by_name[proto.prefix + value.name].number for value in cls}
    for cls, proto in PROTO_ENUMS.items()
}
_VALUES: dict[type[StrEnum], dict[int, StrEnum]] = {
    cls: {number: value for value, number in numbers.items()} for cls, numbers in _NUMBERS.items()
}


@overload
def enum_to_proto(value: AdvisorKind) -> studies_pb2.AdvisorKind.ValueType: ...
@overload
def enum_to_proto(value: Direction) -> trials_pb2.Direction.ValueType: ...
@overload
def enum_to_proto(value: DrainReason) -> advisor_pb2.DrainReason.ValueType: ...
@overload
def enum_to_proto(value: EarlyStoppingRule) -> studies_pb2.EarlyStoppingRule.ValueType: ...
@overload
def enum_to_proto(value: EnasPreset) -> studies_pb2.EnasPreset.ValueType: ...
@overload
def enum_to_proto(value: EndReason) -> studies_pb2.EndReason.ValueType: ...
@overload
def enum_to_proto(value: LogLevel) -> trials_pb2.LogLevel.ValueType: ...
@overload
def enum_to_proto(value: Platform) -> advisor_pb2.Platform.ValueType: ...
@overload
def enum_to_proto(value: Policy) -> knobs_pb2.Policy.ValueType: ...
@overload
def enum_to_proto(value: StopReason) -> trials_pb2.StopReason.ValueType: ...
@overload
def enum_to_proto(value: StudyState) -> studies_pb2.StudyState.ValueType: ...
@overload
def enum_to_proto(value: TrainJobState) -> jobs_pb2.TrainJobState.ValueType: ...
@overload
def enum_to_proto(value: TrialErrorKind) -> trials_pb2.TrialErrorKind.ValueType: ...
@overload
def enum_to_proto(value: TrialOrder) -> jobs_pb2.TrialOrder.ValueType: ...
@overload
def enum_to_proto(value: TrialPhase) -> trials_pb2.TrialPhase.ValueType: ...
@overload
def enum_to_proto(value: TrialState) -> trials_pb2.TrialState.ValueType: ...
@overload
def enum_to_proto(value: None) -> Any: ...
def enum_to_proto(value: StrEnum | None) -> Any:
    """The number of `value` in its proto enum; 0, which is UNSPECIFIED, for None."""
    return 0 if value is None else _NUMBERS[type(value)][value]


def enum_from_proto(cls: type[_Enum], number: int) -> _Enum | None:
    """The value with that number; None for UNSPECIFIED.

    Raises:
        ValueError: This release knows no value of that number.
    """
    if number == 0:
        return None
    value = _VALUES[cls].get(number)
    if not isinstance(value, cls):
        raise ValueError(f"{cls.__name__} has no value {number} in this release")
    return value
