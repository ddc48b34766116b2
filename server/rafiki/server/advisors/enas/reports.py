"""What people are shown of an ENAS search: its phase, its plan, its control arm."""

from rafiki.resources import ControlArm, StudyPlan, TrialPhase, TrialState
from rafiki.server.advisors.enas.plan import Estimate
from rafiki.server.advisors.enas.search import Search


def phase(search: Search) -> TrialPhase:
    """The phase of the trials now proposed."""
    if search.needs_probe:
        return TrialPhase.PROBE
    if search.finals is not None:
        return TrialPhase.FINAL_TRAIN if search.finals.is_scored else TrialPhase.FINAL_EVAL
    if search.round is not None and search.round.is_trained:
        return TrialPhase.SEARCH_EVAL
    return TrialPhase.SEARCH_TRAIN


def control_arm(search: Search) -> ControlArm | None:
    """Both arms in FINAL_EVAL; until it has ended, in the latest round that has controls."""
    if search.finals is not None:
        final = search.finals.control_arm(search.config.direction)
        if final is not None:
            return final
    if search.round_arms is None:
        return None
    return ControlArm(search=search.round_arms[0], control=search.round_arms[1])


def plan(search: Search, elapsed_s: float) -> StudyPlan:
    """What fits the budget at `elapsed_s` of it."""
    shape, cost = search.shape, search.estimate(search.workers)
    done = search.tally.counted + search.tally.outstanding
    left = _rounds_left(search, elapsed_s, cost)
    begun, begun_s = _rest_of_round(search, cost)
    trials, remaining_s = _rest_of_finals(search, cost)
    if search.finals is None:
        trials += begun + left * shape.round_trials
        remaining_s += begun_s + left * cost.round_s
    if search.finish is not None:
        trials, remaining_s = 0, 0.0
    return StudyPlan(
        rounds=len(search.rounds) + (search.round is not None) + left,
        completed_rounds=len(search.rounds),
        candidates_per_round=shape.round_candidates,
        trials=done + trials,
        final_trains=shape.full_trains,
        final_reserve_s=cost.reserve_s,
        remaining_s=remaining_s,
        measured=search.costs is not None,
    )


def _rounds_left(search: Search, elapsed_s: float, cost: Estimate) -> int:
    """The rounds that fit after the one in progress; at least one before the first."""
    if search.finals is not None or search.finish is not None:
        return 0
    begun, begun_s = _rest_of_round(search, cost)
    limits: list[float] = []
    if search.config.model_trial_count is not None:
        free = search.tally.free - begun - search.shape.final_trials
        limits.append(free // search.shape.round_trials)
    if search.config.time_s is not None and cost.round_s > 0:
        free_s = search.config.time_s - elapsed_s - begun_s - cost.reserve_s
        limits.append(free_s // cost.round_s)
    left = max(0, int(min(limits))) if limits else 0
    return left or int(not search.round_number and search.round is None)


def _rest_of_round(search: Search, cost: Estimate) -> tuple[int, float]:
    """Trials not yet proposed of the round in progress, and its seconds still to come."""
    current, shape = search.round, search.shape
    if current is None:
        return 0, 0.0
    ended = current.search.ended + current.control.ended
    proposed = current.search.proposed + current.control.proposed
    evals_s = (shape.round_evals - ended) * cost.eval_s / search.workers
    train_s = 0.0 if current.is_trained else cost.train_s
    is_train_open = not current.is_trained and not search.running
    return shape.round_evals - proposed + is_train_open, evals_s + train_s


def _rest_of_finals(search: Search, cost: Estimate) -> tuple[int, float]:
    """Trials not yet proposed of the final phases, and their seconds still to come."""
    shape, finals = search.shape, search.finals
    if finals is None:
        return shape.final_trials, cost.reserve_s
    arms = (finals.search, finals.control)
    chunks = [chunk for arm in arms for chunk in arm.chunks]
    evals = sum(not (chunk.is_done or chunk.is_running) for chunk in chunks)
    ends = [arm.count(TrialState.COMPLETED) for arm in arms]
    ends[1] += finals.control.count(TrialState.ERRORED)
    waiting = shape.full_trains - sum(ends)
    trains = waiting - sum(arm.count(TrialState.RUNNING) for arm in arms)
    seconds = cost.reserve_s - cost.full_train_s if not finals.is_scored else 0.0
    seconds += cost.full_train_s * waiting / shape.full_trains
    return evals + max(0, trains), seconds
