"""What a study of full trials does next, given all that its search has seen."""

import random
from dataclasses import dataclass

from rafiki.model.knobs import Policy
from rafiki.resources import EndReason, TrialPhase, TrialState
from rafiki.server.advisors.budget import count_over, is_time_over, time_over
from rafiki.server.advisors.tuning.points import Point
from rafiki.server.advisors.tuning.random import draw_free
from rafiki.server.advisors.tuning.search import Search
from rafiki.server.advisors.tuning.sharing import Start
from rafiki.server.domain.advisor import Decision, Finish, Proposal, Situation, Wait
from rafiki.server.domain.seeds import derive_seed


@dataclass(frozen=True, slots=True)
class Decider:
    """One decision: a pure function of a search and a situation."""

    search: Search
    situation: Situation

    def decide(self) -> Decision:
        """A proposal within the budget, or why there is none."""
        search = self.search
        if search.finish is not None:
            return search.finish
        if search.needs_probe:
            return Wait() if search.running else self._propose_probe()
        if is_time_over(search.config, self.situation.elapsed_s):
            return time_over(search.config)
        if search.tally.is_spent:
            return count_over(search.config)
        if not search.finals.has_begun and not search.history.is_exhausted:
            if self._has_place and self._has_time:
                return self._propose_tune()
            if self._is_first and not self._has_time:
                return self._infeasible()
        if search.count_running(TrialPhase.TUNE) and not self._is_final_due:
            return Wait()
        return self._next_final()

    @property
    def _is_first(self) -> bool:
        return not self.search.draws

    @property
    def _reserve(self) -> int:
        """The final trainings to keep room for beside one more TUNE trial.

        No more than there are points to train. If all trials so far have failed, one more
        that works is better than a place kept for its final training.
        """
        if self._is_first:
            return self.search.finals.wanted
        points = len(self.search.history.scored) + self.search.count_running(TrialPhase.TUNE)
        return min(self.search.finals.wanted, points + 1) if points else 0

    @property
    def _has_place(self) -> bool:
        return self.search.tally.free >= 1 + self._reserve

    @property
    def _has_time(self) -> bool:
        """Whether a TUNE trial and the final trainings fit; without those it may be cut short."""
        time_s, costs = self.search.config.time_s, self.search.costs
        if time_s is None or not self._reserve:
            return True
        finals_s = costs.finals_s(self._reserve, self.situation.workers)
        return self.situation.elapsed_s + costs.trial_s + finals_s <= time_s

    @property
    def _is_final_due(self) -> bool:
        """Whether final training must begin now to fit, whatever still runs."""
        time_s, search = self.search.config.time_s, self.search
        if time_s is None or not search.history.scored:
            return False
        finals_s = search.costs.finals_s(search.finals.wanted, self.situation.workers)
        return self.situation.elapsed_s + finals_s >= time_s

    def _infeasible(self) -> Finish:
        search, workers = self.search, max(1, self.situation.workers)
        wanted, costs = search.finals.wanted, search.costs
        needed_s = self.situation.elapsed_s + costs.trial_s + costs.finals_s(wanted, workers)
        message = (
            f"the budget holds no trial and its final training: by the measured costs and with "
            f"{workers} worker{'s' * (workers > 1)} it takes a time of at least "
            f"{int(-(-needed_s // 1))} s (given: {search.config.time_s or 0:.0f} s; one trial "
            f"{costs.trial_s:.1f} s, {wanted} final training{'s' * (wanted > 1)} "
            f"{costs.finals_s(wanted, workers):.1f} s) and a model_trial_count of at least "
            f"{1 + wanted}"
        )
        return Finish(reason=EndReason.INFEASIBLE_BUDGET, message=message)

    def _next_final(self) -> Decision:
        search = self.search
        chosen = search.finals.next(search.history.scored)
        if chosen is not None and search.tally.free >= 1:
            basis = {"tune_trial": float(chosen.trial)}
            return self._proposal(TrialPhase.FINAL_TRAIN, [chosen.point], Start("", basis))
        if search.running:
            return Wait()
        trained = search.finals.count(TrialState.COMPLETED)
        final = f", then {trained} trained in full" if search.finals.wanted else ""
        if search.history.is_exhausted:
            message = f"all {search.history.grid.points} points of the space are tried{final}"
        else:
            message = f"{len(search.history.scored)} points scored{final}"
        return Finish(reason=EndReason.SEARCH_COMPLETE, message=message)

    def _propose_probe(self) -> Proposal:
        rng = random.Random(self._seed)
        knobs, archs = self.search.history.grid.draw(1, (), rng)
        points = [Point(knobs, choices) for choices in archs]
        return self._proposal(TrialPhase.PROBE, points)

    def _propose_tune(self) -> Proposal:
        search = self.search
        control = search.is_control_due
        # A template trains one setting at a time, whatever it may take in other phases.
        count = 1 if search.config.has_probe or not search.archs.sizes else search.config.batch_size
        basis = {}
        if search.sampler.learns:  # else it is based on nothing, and may be made ahead
            basis["scored"] = float(len(search.history.scored))
            basis["running"] = float(search.count_running(TrialPhase.TUNE))
        if control:
            points = draw_free(search.history, count, random.Random(self._seed))
        else:
            points = search.sampler.propose(search.history, count, self._seed)
            basis |= search.sampler.basis(search.history, self._seed)
        start = self._start()
        start = Start(start.checkpoint, {**basis, **start.basis})
        return self._proposal(TrialPhase.TUNE, points, start, control=control)

    def _start(self) -> Start:
        search, situation = self.search, self.situation
        if not search.shares:
            return Start("", {})
        config, used = search.config, 0.0
        if config.time_s:
            used = situation.elapsed_s / config.time_s
        if config.model_trial_count:
            used = max(used, search.tally.counted / config.model_trial_count)
        return search.best_params.start(min(1.0, used), config.seed, situation.number)

    def _proposal(
        self,
        phase: TrialPhase,
        points: list[Point],
        start: Start | None = None,
        *,
        control: bool = False,
    ) -> Proposal:
        start = start or Start("", {})
        archs = self.search.archs
        is_probe = phase is TrialPhase.PROBE
        is_full = phase is TrialPhase.FINAL_TRAIN
        situation = self.situation
        return Proposal(
            phase=phase,
            knobs=points[0].knobs,
            candidates=tuple(archs.archs(p.choices) for p in points) if archs.sizes else (),
            policies=frozenset[Policy]() if is_full else self.search.tune_policies,
            start_checkpoint=start.checkpoint,
            control=control,
            evaluate=not is_probe,
            # A control is never deployed, nor does any other trial start from it.
            save=not is_probe and not control,
            basis={
                "elapsed_s": situation.elapsed_s,
                "workers": float(situation.workers),
                **start.basis,
            },
        )

    @property
    def _seed(self) -> int:
        scheme = str(self.search.config.settings.kind).lower()
        return derive_seed(self.search.config.seed, scheme, self.situation.number)
