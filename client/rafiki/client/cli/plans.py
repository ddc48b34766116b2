"""Plans, knobs of jobs and results in words."""

from rafiki.client import names
from rafiki.client.cli.output import duration_text, score_text
from rafiki.resources import AdvisorKind, Budget, ControlArm, Study, StudyPlan, TrialPhase

SHARED_WEIGHTS = "shared-weight scores: expect them well below the final accuracy"

PHASES = {
    TrialPhase.PROBE: "measuring costs",
    TrialPhase.TUNE: "tuning",
    TrialPhase.SEARCH_TRAIN: "search: training the shared weights",
    TrialPhase.SEARCH_EVAL: "search: scoring candidates",
    TrialPhase.FINAL_EVAL: "choosing among the best candidates",
    TrialPhase.FINAL_TRAIN: "final training from scratch",
}


def count(number: int, noun: str) -> str:
    """A number of things: `1 round`, `2 rounds`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def budget_text(budget: Budget) -> str:
    """The limits of a budget."""
    parts = []
    if budget.time is not None:
        parts.append(duration_text(budget.time.total_seconds()))
    if budget.model_trial_count:
        parts.append(f"{count(budget.model_trial_count, 'trial')} per model")
    parts.append(count(budget.gpu_count, "GPU") if budget.gpu_count else "CPU only")
    return ", ".join(parts)


def study_title(study: Study) -> str:
    """Which study: its number, subject and scheme."""
    number = names.short(study.name).rpartition("/")[2]
    number = f" {number}" if number else ""
    subject = names.short(study.spec.model) if study.spec.model else "external"
    kind = study.spec.advisor.kind or "advisor not chosen"
    return f"study{number}: model {subject}, {kind}"


def plan_text(study: Study) -> str:
    """The plan as a sentence, such as "12 rounds of 300 candidates, then ..."."""
    plan = study.plan
    enas = study.spec.advisor.enas
    steps: list[str] = []
    if plan.rounds:
        steps.append(f"{count(plan.rounds, 'round')} of {plan.candidates_per_round} candidates")
        if enas is not None:
            steps.append(
                f"{count(enas.final_evals, 'final evaluation')} beside as many random ones"
            )
    if plan.final_trains:
        controls = enas.final_controls if enas is not None else 0
        trains = count(plan.final_trains, "final training")
        steps.append(trains + (f" ({controls} of them random control)" if controls else ""))
    if plan.rounds and enas is not None and enas.rank_trains:
        steps.append(f"{count(enas.rank_trains, 'brief training')} to check the ranking")
    if not plan.rounds:
        if study.spec.advisor.kind is AdvisorKind.ENAS:
            return "made once costs are measured"
        searched = max(0, plan.trials - plan.final_trains)
        if searched:
            steps.insert(0, count(searched, "trial"))
        elif not (steps and plan.measured):
            steps.insert(0, "trials until the time is over")
    text = ", then ".join(steps)
    notes = []
    if plan.final_reserve_s > 0:
        notes.append(f"{duration_text(plan.final_reserve_s)} kept for the final phases")
    if plan.remaining_s > 0 and study.end_time is None:
        notes.append(f"about {duration_text(plan.remaining_s)} to go")
    if not plan.measured:
        notes.append("costs still assumed")
    return text + (f"; {', '.join(notes)}" if notes else "")


def share_done(study: Study) -> float:
    """How much of the plan is done, in [0, 1], by trials; 1 once the study has ended."""
    if study.end_time is not None:
        return 1.0
    done = planned_done(study) + study.errored_trials
    return min(done / study.plan.trials, 1.0) if study.plan.trials else 0.0


def planned_done(study: Study) -> int:
    """How many of the trials that a plan counts are done well: all but the PROBE."""
    has_probe = bool(study.spec.model) and study.spec.advisor.kind is not AdvisorKind.FIXED
    return max(0, study.completed_trials - has_probe)


def rounds_text(plan: StudyPlan) -> str:
    """How many rounds are done, "" without rounds."""
    return (
        f"round {min(plan.completed_rounds + 1, plan.rounds)} of {plan.rounds}"
        if plan.rounds
        else ""
    )


def control_text(arm: ControlArm) -> str:
    """The search beside its control arm, in one line."""
    return (
        f"search {score_text(arm.search.mean)} ± {score_text(arm.search.standard_deviation)} "
        f"(best {score_text(arm.search.best)}, {arm.search.count} scores), "
        f"random {score_text(arm.control.mean)} ± {score_text(arm.control.standard_deviation)} "
        f"(best {score_text(arm.control.best)}, {arm.control.count})"
    )


def end_text(study: Study) -> str:
    """Why a study ended; "" while it runs."""
    if study.end_reason is None:
        return ""
    reason = study.end_reason.replace("_", " ").lower()
    return f"{reason}: {study.end_message}" if study.end_message else reason
