"""A search as plain JSON and arrays, and back."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from rafiki.resources import EndReason, ScoreStats, TrialCosts, TrialPhase
from rafiki.server.advisors.enas.finals import Finals
from rafiki.server.advisors.enas.plan import RoundCosts
from rafiki.server.advisors.enas.round import Round, dump_summary, load_summary
from rafiki.server.advisors.enas.search import Running, Search
from rafiki.server.domain.advisor import AdvisorState, Finish


def dump_search(search: Search) -> AdvisorState:
    """All that a search knows."""
    finish, current, finals = search.finish, search.round, search.finals
    values: dict[str, Any] = {
        "tally": search.tally.dump(),
        "running": [[number, asdict(trial)] for number, trial in search.running.items()],
        "costs": asdict(search.costs) if search.costs is not None else None,
        "workers": search.workers,
        "version": search.version,
        "round": current.dump() if current is not None else None,
        "round_number": search.round_number,
        "rounds": [dump_summary(summary) for summary in search.rounds],
        "round_costs": [asdict(costs) for costs in search.round_costs],
        "round_arms": [asdict(stats) for stats in search.round_arms or ()],
        "finals": finals.dump() if finals is not None else None,
        "briefs_s": search.briefs_s,
        "train_failures": search.train_failures,
        "merge_failures": search.merge_failures,
        "unscored_batches": search.unscored_batches,
        "finish": [finish.reason, finish.message] if finish else None,
    }
    controller = {f"controller/{name}": a for name, a in search.learner.dump().items()}
    seen = {f"seen/{name}": array for name, array in search.seen.dump().items()}
    return AdvisorState(values=values, arrays=controller | seen)


def load_search(search: Search, state: AdvisorState) -> None:
    """Restores what `dump_search` gave, in a fresh search of an equal config."""
    values = state.values
    search.tally.load(values["tally"])
    search.running = {number: _load_running(trial) for number, trial in values["running"]}
    search.costs = TrialCosts(**values["costs"]) if values["costs"] else None
    search.workers = values["workers"]
    search.version = values["version"]
    search.round = Round.load(values["round"]) if values["round"] else None
    search.round_number = values["round_number"]
    search.rounds = [load_summary(summary) for summary in values["rounds"]]
    search.round_costs = [RoundCosts(**costs) for costs in values["round_costs"]]
    arms = [ScoreStats(**stats) for stats in values["round_arms"]]
    search.round_arms = (arms[0], arms[1]) if arms else None
    search.finals = Finals.load(values["finals"]) if values["finals"] else None
    search.briefs_s = list(values["briefs_s"])
    search.train_failures = values["train_failures"]
    search.merge_failures = values["merge_failures"]
    search.unscored_batches = values["unscored_batches"]
    finish = values["finish"]
    search.finish = Finish(reason=EndReason(finish[0]), message=finish[1]) if finish else None
    search.learner.load(_below("controller/", state))
    search.seen.load(_below("seen/", state))


def _below(prefix: str, state: AdvisorState) -> "dict[str, np.ndarray[Any, Any]]":
    return {
        name.removeprefix(prefix): array
        for name, array in state.arrays.items()
        if name.startswith(prefix)
    }


def _load_running(values: dict[str, Any]) -> Running:
    running = Running(**values)
    return replace(
        running,
        phase=TrialPhase(running.phase),
        candidates=[tuple(choices) for choices in running.candidates],
    )
