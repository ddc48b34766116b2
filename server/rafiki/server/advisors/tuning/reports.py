"""What people are shown of a study of full trials: its phase, its plan, its control arm."""

import math

from rafiki.resources import ControlArm, StudyPlan, TrialPhase, TrialState
from rafiki.server.advisors.scores import score_stats
from rafiki.server.advisors.tuning.search import Search


def phase(search: Search) -> TrialPhase:
    """The phase of the trials now proposed."""
    if search.needs_probe:
        return TrialPhase.PROBE
    return TrialPhase.FINAL_TRAIN if search.finals.has_begun else TrialPhase.TUNE


def control_arm(search: Search) -> ControlArm | None:
    """Both arms over the whole study; None if it has no control arm."""
    if not search.config.settings.control_fraction:
        return None
    rewards = [entry.reward for entry in search.history.scored]
    found, control = (
        score_stats([search.sign * reward for reward in arm], search.config.direction)
        for arm in (rewards, search.control_rewards)
    )
    return ControlArm(search=found, control=control)


def plan(search: Search, elapsed_s: float) -> StudyPlan:
    """What fits the budget at `elapsed_s` of it."""
    costs, tally, workers = search.costs, search.tally, search.workers
    finals = _finals_left(search)
    tunes = _tunes_left(search, elapsed_s, finals)
    if search.finish is not None:
        tunes = finals = 0
    running = search.count_running(TrialPhase.TUNE)
    waves = math.ceil((tunes + running) / workers)
    to_train = finals + search.count_running(TrialPhase.FINAL_TRAIN)
    reserve_s = costs.finals_s(to_train, workers)
    return StudyPlan(
        trials=tally.counted + tally.outstanding + tunes + finals,
        final_trains=search.finals.count(TrialState.COMPLETED) + to_train,
        final_reserve_s=reserve_s,
        remaining_s=waves * costs.trial_s + reserve_s,
        measured=costs.probe is not None or costs.tunes > 0,
    )


def _finals_left(search: Search) -> int:
    """The final trainings still to be proposed."""
    finals = search.finals
    if finals.has_begun:
        left = finals.open(len(search.history.scored))
    else:
        left = finals.wanted
    return int(max(0, min(left, search.tally.free)))


def _tunes_left(search: Search, elapsed_s: float, finals: int) -> int:
    """The TUNE trials still to be proposed; 0 where nothing limits them."""
    if search.finals.has_begun:
        return 0
    costs, workers = search.costs, search.workers
    limits: list[float] = [search.tally.free - finals]
    if search.history.free is not None:
        limits.append(search.history.free)
    if search.config.time_s is not None and costs.trial_s > 0:
        left_s = search.config.time_s - elapsed_s - costs.finals_s(finals, workers)
        waves = left_s / costs.trial_s
        # Without final trainings to come the last trial may be cut short.
        waves = math.floor(waves) if finals else math.ceil(waves)
        limits.append(waves * workers - search.count_running(TrialPhase.TUNE))
    left = min(limits)
    return int(max(0, left)) if math.isfinite(left) else 0
