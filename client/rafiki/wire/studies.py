"""Studies, their specs, plans and rounds."""

from rafiki.resources import (
    ControlArm,
    EndReason,
    ScoreStats,
    Study,
    StudyPlan,
    StudyRound,
    StudySpec,
    StudyState,
    TrialPhase,
)
from rafiki.v1 import studies_pb2
from rafiki.wire.advisors import (
    MAX_BATCH,
    advisor_settings_from_proto,
    advisor_settings_to_proto,
)
from rafiki.wire.enums import enum_to_proto
from rafiki.wire.fields import (
    InvalidField,
    at,
    at_least,
    enum_value,
    finite,
    in_range,
    required_enum,
)
from rafiki.wire.knobs import knob_config_from_proto, knob_config_to_proto
from rafiki.wire.times import (
    nonzero_seconds_to_proto,
    optional_timestamp_from_proto,
    optional_timestamp_to_proto,
    seconds_from_proto,
)
from rafiki.wire.trials import candidate_from_proto, candidate_to_proto


def study_spec_to_proto(spec: StudySpec) -> studies_pb2.StudySpec:
    """The message for a spec. Raises InvalidKnobConfig.

    Raises ValueError unless it has either a model or a knob config.
    """
    if bool(spec.model) == (spec.knob_config is not None):
        raise ValueError("a study has either a model or a knob config")
    message = studies_pb2.StudySpec(
        candidate_batch_size=spec.candidate_batch_size,
        advisor=advisor_settings_to_proto(spec.advisor),
    )
    if spec.knob_config is None:
        message.model = spec.model
    else:
        message.knob_config.CopyFrom(knob_config_to_proto(spec.knob_config))
    return message


def study_spec_from_proto(message: studies_pb2.StudySpec, path: str = "") -> StudySpec:
    """A spec with a model or a knob config. Raises InvalidKnobConfig too."""
    subject = message.WhichOneof("subject")
    if subject is None or (subject == "model" and not message.model):
        raise InvalidField(at(path, "model"), "must be set, or knob_config")
    size_path = at(path, "candidate_batch_size")
    return StudySpec(
        model=message.model,
        knob_config=(
            knob_config_from_proto(message.knob_config) if subject == "knob_config" else None
        ),
        candidate_batch_size=in_range(message.candidate_batch_size, 0, MAX_BATCH, size_path),
        advisor=advisor_settings_from_proto(message.advisor, at(path, "advisor")),
    )


def study_plan_to_proto(plan: StudyPlan) -> studies_pb2.StudyPlan:
    """The message for a plan."""
    return studies_pb2.StudyPlan(
        rounds=plan.rounds,
        completed_rounds=plan.completed_rounds,
        candidates_per_round=plan.candidates_per_round,
        trials=plan.trials,
        final_trains=plan.final_trains,
        final_reserve=nonzero_seconds_to_proto(plan.final_reserve_s),
        remaining=nonzero_seconds_to_proto(plan.remaining_s),
        measured=plan.measured,
    )


def study_plan_from_proto(message: studies_pb2.StudyPlan, path: str = "") -> StudyPlan:
    """A plan, nothing in it negative."""
    return StudyPlan(
        rounds=at_least(message.rounds, 0, at(path, "rounds")),
        completed_rounds=at_least(message.completed_rounds, 0, at(path, "completed_rounds")),
        candidates_per_round=at_least(
            message.candidates_per_round, 0, at(path, "candidates_per_round")
        ),
        trials=at_least(message.trials, 0, at(path, "trials")),
        final_trains=at_least(message.final_trains, 0, at(path, "final_trains")),
        final_reserve_s=seconds_from_proto(message.final_reserve, at(path, "final_reserve")),
        remaining_s=seconds_from_proto(message.remaining, at(path, "remaining")),
        measured=message.measured,
    )


def score_stats_to_proto(stats: ScoreStats) -> studies_pb2.ScoreStats:
    """The message for statistics of scores."""
    return studies_pb2.ScoreStats(
        count=stats.count,
        mean=stats.mean,
        standard_deviation=stats.standard_deviation,
        best=stats.best,
    )


def score_stats_from_proto(message: studies_pb2.ScoreStats, path: str = "") -> ScoreStats:
    """Statistics of scores, all finite."""
    deviation_path = at(path, "standard_deviation")
    if finite(message.standard_deviation, deviation_path) < 0:
        raise InvalidField(deviation_path, "must be at least 0")
    return ScoreStats(
        count=at_least(message.count, 0, at(path, "count")),
        mean=finite(message.mean, at(path, "mean")),
        standard_deviation=message.standard_deviation,
        best=finite(message.best, at(path, "best")),
    )


def control_arm_to_proto(arm: ControlArm) -> studies_pb2.ControlArm:
    """The message for a control arm."""
    return studies_pb2.ControlArm(
        search=score_stats_to_proto(arm.search),
        control=score_stats_to_proto(arm.control),
        rank_correlation=arm.rank_correlation,
        rank_count=arm.rank_count,
    )


def control_arm_from_proto(message: studies_pb2.ControlArm, path: str = "") -> ControlArm:
    """A control arm; the rank correlation lies in [-1, 1]."""
    correlation = None
    if message.HasField("rank_correlation"):
        correlation = message.rank_correlation
        if not -1 <= correlation <= 1:
            raise InvalidField(at(path, "rank_correlation"), "must be in [-1, 1]")
    return ControlArm(
        search=score_stats_from_proto(message.search, at(path, "search")),
        control=score_stats_from_proto(message.control, at(path, "control")),
        rank_correlation=correlation,
        rank_count=at_least(message.rank_count, 0, at(path, "rank_count")),
    )


def study_round_to_proto(study_round: StudyRound) -> studies_pb2.StudyRound:
    """The message for a round."""
    best, control = study_round.best, study_round.control
    return studies_pb2.StudyRound(
        study=study_round.study,
        round=study_round.round,
        checkpoint=study_round.checkpoint,
        mean_reward=study_round.mean_reward,
        baseline=study_round.baseline,
        entropy=study_round.entropy,
        best=None if best is None else candidate_to_proto(best),
        control=None if control is None else score_stats_to_proto(control),
        train=nonzero_seconds_to_proto(study_round.train_s),
        merge=nonzero_seconds_to_proto(study_round.merge_s),
        evaluate=nonzero_seconds_to_proto(study_round.evaluate_s),
    )


def study_round_from_proto(message: studies_pb2.StudyRound, path: str = "") -> StudyRound:
    """A round, numbered from 1. Its means may be NaN if nothing was scored."""
    best = (
        candidate_from_proto(message.best, at(path, "best")) if message.HasField("best") else None
    )
    control = None
    if message.HasField("control"):
        control = score_stats_from_proto(message.control, at(path, "control"))
    return StudyRound(
        study=message.study,
        round=at_least(message.round, 1, at(path, "round")),
        checkpoint=message.checkpoint,
        mean_reward=message.mean_reward,
        baseline=message.baseline,
        entropy=message.entropy,
        best=best,
        control=control,
        train_s=seconds_from_proto(message.train, at(path, "train")),
        merge_s=seconds_from_proto(message.merge, at(path, "merge")),
        evaluate_s=seconds_from_proto(message.evaluate, at(path, "evaluate")),
    )


def study_to_proto(study: Study) -> studies_pb2.Study:
    """The message for a study. Raises InvalidKnobConfig."""
    arm = study.control_arm
    return studies_pb2.Study(
        name=study.name,
        spec=study_spec_to_proto(study.spec),
        knob_config=knob_config_to_proto(study.knob_config),
        state=enum_to_proto(study.state),
        phase=enum_to_proto(study.phase),
        plan=study_plan_to_proto(study.plan),
        completed_trials=study.completed_trials,
        errored_trials=study.errored_trials,
        cancelled_trials=study.cancelled_trials,
        best_trial=study.best_trial,
        control_arm=None if arm is None else control_arm_to_proto(arm),
        end_reason=enum_to_proto(study.end_reason),
        end_message=study.end_message,
        end_time=optional_timestamp_to_proto(study.end_time),
    )


def study_from_proto(message: studies_pb2.Study, path: str = "") -> Study:
    """A study with its state set. Raises InvalidKnobConfig too."""
    arm = None
    if message.HasField("control_arm"):
        arm = control_arm_from_proto(message.control_arm, at(path, "control_arm"))
    return Study(
        name=message.name,
        spec=study_spec_from_proto(message.spec, at(path, "spec")),
        knob_config=knob_config_from_proto(message.knob_config),
        state=required_enum(StudyState, message.state, at(path, "state")),
        phase=enum_value(TrialPhase, message.phase, at(path, "phase")),
        plan=study_plan_from_proto(message.plan, at(path, "plan")),
        completed_trials=at_least(message.completed_trials, 0, at(path, "completed_trials")),
        errored_trials=at_least(message.errored_trials, 0, at(path, "errored_trials")),
        cancelled_trials=at_least(message.cancelled_trials, 0, at(path, "cancelled_trials")),
        best_trial=message.best_trial,
        control_arm=arm,
        end_reason=enum_value(EndReason, message.end_reason, at(path, "end_reason")),
        end_message=message.end_message,
        end_time=optional_timestamp_from_proto(
            message.end_time if message.HasField("end_time") else None, at(path, "end_time")
        ),
    )
