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
        final = search.finals.control_arm(search.shape, search.config.direction)
        if final is not None:
            return final
    if search.round_arms is None:
        return None
    return ControlArm(search=search.round_arms[0], control=search.round_arms[1])


def plan(search: Search, elapsed_s: float) -> StudyPlan:
    """What fits the budget at `elapsed_s` of it."""
    shape, cost = search.shape, search.estimate(search.workers)
    done = search.tally.counted + search.tally.outstanding
    begun, begun_s = _rest_of_round(search)
    trials, remaining_s = _rest_of_finals(search, cost)
    left = 0
    if search.finals is None:
        left, left_trials = _coming_rounds(search, elapsed_s, begun, begun_s)
        trials += begun + left_trials
        remaining_s += begun_s + left * _later(search).round_s
    if search.finish is not None:
        left, trials, remaining_s = 0, 0, 0.0
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


def _later_shards(search: Search) -> int:
    """The shards of rounds to come but the first, which has only one."""
    steps = search.costs.steps_per_epoch if search.costs is not None else 0
    return max(1, min(search.workers, search.options.train_shards or search.workers, steps))


def _later(search: Search) -> Estimate:
    return search.estimate(search.workers, _later_shards(search))


def _coming_rounds(search: Search, elapsed_s: float, begun: int, begun_s: float) -> tuple[int, int]:
    """The rounds that fit after the one in progress, and their trials.

    At least one before the first. What is left of a trial count holds a round of fewer
    shards, perhaps.
    """
    shape, cost = search.shape, _later(search)
    is_first = not search.round_number and search.round is None
    later = shape.round_trials(_later_shards(search))
    first = shape.round_trials() if is_first else later
    free = search.tally.free - begun - shape.final_trials
    limits: list[float] = []
    if search.config.model_trial_count is not None:
        more, rest = divmod(free - first, later)
        limits.append(1 + more + (rest >= shape.round_trials()))
    if search.config.time_s is not None and cost.round_s > 0:
        free_s = search.config.time_s - elapsed_s - begun_s - cost.reserve_s
        limits.append(free_s // cost.round_s)
    rounds = max(0, int(min(limits))) if limits else 0
    rounds = rounds or int(is_first)
    return rounds, int(min(free, first + (rounds - 1) * later)) if rounds else 0


def _rest_of_round(search: Search) -> tuple[int, float]:
    """Trials not yet proposed of the round in progress, and its seconds still to come."""
    current, shape = search.round, search.shape
    if current is None:
        return 0, 0.0
    cost = search.estimate(search.workers, len(current.parts))
    ended = current.search.ended + current.control.ended
    proposed = current.search.proposed + current.control.proposed
    evals_s = (shape.round_evals - ended) * cost.eval_s / search.workers
    train_s = 0.0 if current.is_trained else cost.train_s
    return shape.round_evals - proposed + len(current.open_parts), evals_s + train_s


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
    rankable = len(finals.to_rank(shape.rank_trains)) if finals.is_scored else shape.rank_trains
    briefs = rankable - len(finals.briefs)
    seconds = 0.0
    if not finals.is_scored:
        seconds = cost.reserve_s - cost.full_train_s - cost.rank_train_s
    seconds += cost.full_train_s * waiting / shape.full_trains
    if shape.rank_trains:
        seconds += cost.rank_train_s * briefs / shape.rank_trains
    return evals + max(0, trains) + briefs, seconds
