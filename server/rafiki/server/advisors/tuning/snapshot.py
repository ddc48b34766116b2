"""Snapshots of a study of full trials: plain JSON, and arrays for what grows with it."""

from collections.abc import Mapping, Sequence
from typing import Any

from rafiki.resources import EndReason, TrialPhase
from rafiki.server.advisors.tuning.costs import Costs
from rafiki.server.advisors.tuning.failures import Failures
from rafiki.server.advisors.tuning.points import Point, PointCodec, below, under
from rafiki.server.advisors.tuning.search import Running, Search
from rafiki.server.advisors.tuning.sharing import BestParams
from rafiki.server.domain.advisor import AdvisorState, Finish


def dump_search(search: Search) -> AdvisorState:
    """All that a search knows, as JSON and arrays."""
    finish, sampler = search.finish, search.sampler.dump()
    stopper = search.stopper.dump() if search.stopper is not None else AdvisorState()
    values: dict[str, Any] = {
        "tally": search.tally.dump(),
        "running": [
            [number, trial.phase, trial.control, len(trial.points), trial.final]
            for number, trial in search.running.items()
        ],
        "costs": search.costs.dump(),
        "failures": search.failures.dump(),
        "finals": search.finals.dump(),
        "best_params": search.best_params.dump(),
        "draws": search.draws,
        "control_draws": search.control_draws,
        "control_rewards": list(search.control_rewards),
        "workers": search.workers,
        "finish": [finish.reason, finish.message] if finish else None,
        "sampler": dict(sampler.values),
        "stopper": dict(stopper.values),
    }
    points = [point for trial in search.running.values() for point in trial.points]
    arrays = under("history/", search.history.dump())
    arrays |= under("running/", PointCodec(search.config.knob_config).dump(points))
    arrays |= under("sampler/", sampler.arrays)
    arrays |= under("stopper/", stopper.arrays)
    return AdvisorState(values=values, arrays=arrays)


def load_search(search: Search, state: AdvisorState) -> None:
    """Restores what `dump_search` gave; the search must be fresh."""
    values, arrays = state.values, state.arrays
    search.tally.load(values["tally"])
    points = PointCodec(search.config.knob_config).load(below("running/", arrays))
    search.running = _load_running(values["running"], points)
    in_search = {
        number: trial.points
        for number, trial in search.running.items()
        if trial.phase is TrialPhase.TUNE
    }
    search.history.load(below("history/", arrays), in_search)
    for number in [number for number in in_search if search.running[number].control]:
        del search.history.running[number]
    search.costs = Costs.load(values["costs"])
    search.failures = Failures.load(values["failures"])
    search.finals.load(values["finals"])
    search.best_params = BestParams.load(values["best_params"])
    search.draws, search.control_draws = values["draws"], values["control_draws"]
    search.control_rewards = list(values["control_rewards"])
    search.workers = values["workers"]
    finish = values["finish"]
    search.finish = Finish(reason=EndReason(finish[0]), message=finish[1]) if finish else None
    search.sampler.load(_part("sampler", state))
    if search.stopper is not None:
        search.stopper.load(_part("stopper", state))


def _load_running(values: Sequence[Sequence[Any]], points: list[Point]) -> dict[int, Running]:
    running: dict[int, Running] = {}
    start = 0
    for number, phase, control, count, final in values:
        running[number] = Running(
            phase=TrialPhase(phase),
            control=control,
            points=points[start : start + count],
            final=final,
        )
        start += count
    return running


def _part(name: str, state: AdvisorState) -> AdvisorState:
    values: Mapping[str, Any] = state.values[name]
    return AdvisorState(values=values, arrays=below(f"{name}/", state.arrays))
