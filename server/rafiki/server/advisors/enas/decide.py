"""What an ENAS study does next, given all that its search has seen."""

import math
import random
from dataclasses import dataclass

from rafiki.model.knobs import Policy
from rafiki.resources import EndReason, TrialPhase, TrialState
from rafiki.server.advisors.budget import count_over, is_time_over, time_over
from rafiki.server.advisors.enas.finals import FinalArm, Finals
from rafiki.server.advisors.enas.plan import Estimate, minimum_time_s
from rafiki.server.advisors.enas.round import Arm, Round
from rafiki.server.advisors.enas.search import Search
from rafiki.server.advisors.space import Choices
from rafiki.server.domain.advisor import Decision, Finish, Proposal, Situation, Wait
from rafiki.server.domain.seeds import derive_seed

# The most candidates of a PROBE.
PROBE_CANDIDATES = 10

_TRAIN = frozenset({Policy.SHARE_PARAMS, Policy.DOWNSCALE, Policy.EARLY_STOP})
_FINAL_EVAL = frozenset({Policy.SHARE_PARAMS, Policy.SKIP_TRAIN, Policy.DOWNSCALE})
_SEARCH_EVAL = _FINAL_EVAL | {Policy.QUICK_EVAL}


@dataclass(frozen=True, slots=True)
class Decider:
    """One decision: a pure function of a search and a situation."""

    search: Search
    situation: Situation

    def decide(self) -> Decision:
        """A proposal within the budget, or why there is none."""
        if self.search.finish is not None:
            return self.search.finish
        if self.search.needs_probe:
            return Wait() if self.search.running else self._propose_probe()
        decision = self._next()
        if isinstance(decision, Proposal):
            if is_time_over(self.search.config, self.situation.elapsed_s):
                return time_over(self.search.config)
            if self.search.tally.free < 1:
                return Wait() if self.search.running else count_over(self.search.config)
        return decision

    def _next(self) -> Decision:
        """What to do next if nothing stands in the way."""
        if self.search.finals is not None:
            return self._next_final(self.search.finals)
        if self.search.round is not None:
            decision = self._next_in_round(self.search.round)
            if decision is not None:
                return decision
        if self.search.running:
            return Wait()
        cost = self.search.estimate(self.situation.workers)
        if self._fits(self.search.shape.round_trials, cost.round_s):
            return self._propose_train(self.search.round_number + 1)
        if not self.search.round_number:
            return self._infeasible(cost)
        return self._next_final(self.search.choose_finalists())

    def _next_in_round(self, current: Round) -> Decision | None:
        """The next step of a round; None if no more is to be proposed in it."""
        cost = self.search.estimate(self.situation.workers)
        if not current.is_trained:
            if self.search.running:
                return Wait()
            # The first round is tried again in any case: without weights nothing is won.
            is_first = not self.search.round_number
            if is_first or self._fits(2, cost.train_s + cost.eval_s):
                return self._propose_train(current.number)
            return None
        arm = current.next_arm(self.search.shape)
        if arm is None:
            return Wait() if self.search.running else None
        if self._fits(1, cost.eval_s):
            return self._propose_search_eval(current, arm)
        return None

    def _fits(self, trials: int, time_s: float) -> bool:
        """Whether so many trials that take so long fit before the final reserve."""
        if self.search.tally.free < trials + self.search.shape.final_trials:
            return False
        if self.search.config.time_s is None:
            return True
        reserve_s = self.search.estimate(self.situation.workers).reserve_s
        return self.situation.elapsed_s + time_s + reserve_s <= self.search.config.time_s

    def _next_final(self, finals: Finals) -> Decision:
        for arm in (finals.search, finals.control):
            number = arm.open_chunk
            if number is not None:
                return self._propose_final_eval(arm, number, arm is finals.control)
        if not finals.is_scored:
            return Wait()
        training = finals.next_training(self.search.shape, self.search.config.direction)
        if training is not None:
            arm, index = training
            return self._propose_final_train(arm, index, arm is finals.control)
        if self.search.running:
            return Wait()
        rounds = len(self.search.rounds)
        return Finish(
            reason=EndReason.SEARCH_COMPLETE,
            message=f"{rounds} round{'s' if rounds > 1 else ''}, "
            f"then {len(finals.search.candidates)} finalists, "
            f"of which {finals.search.count(TrialState.COMPLETED)} trained in full",
        )

    def _infeasible(self, cost: Estimate) -> Finish:
        workers = max(1, self.situation.workers)
        needed_s = minimum_time_s(cost, self.situation.elapsed_s)
        available = f"{self.search.config.time_s or 0:.0f} s"
        message = (
            f"the budget holds no round and the final phases: by the measured costs and with "
            f"{workers} worker{'s' * (workers > 1)} it takes a time of at least {needed_s} s "
            f"(given: {available}; one round {cost.round_s:.1f} s, final phases "
            f"{cost.reserve_s:.1f} s) and a model_trial_count of at least "
            f"{self.search.shape.minimum_trials}"
        )
        return Finish(reason=EndReason.INFEASIBLE_BUDGET, message=message)

    def _propose_probe(self) -> Proposal:
        count = min(self.search.config.batch_size, PROBE_CANDIDATES)
        return self._proposal(
            TrialPhase.PROBE,
            self._draw_uniform(count),
            policies=_TRAIN,
            evaluate=False,
            save=False,
        )

    def _propose_train(self, number: int) -> Proposal:
        # A template without candidate batches has no steps; nobody measured an external one.
        steps = self.search.costs.steps_per_epoch if self.search.costs is not None else 0
        count = steps or self.search.config.batch_size
        return self._proposal(
            TrialPhase.SEARCH_TRAIN,
            self._sample(count),
            policies=_TRAIN,
            start_checkpoint=self.search.version,
            round=number,
            data_seed=derive_seed(self.search.config.seed, "data", number),
            evaluate=False,
        )

    def _propose_search_eval(self, current: Round, arm: Arm) -> Proposal:
        is_control = arm is current.control
        count = self.search.shape.eval_size(arm.proposed)
        draw = self._draw_uniform if is_control else self._sample
        return self._proposal(
            TrialPhase.SEARCH_EVAL,
            draw(count),
            policies=_SEARCH_EVAL,
            start_checkpoint=self.search.version,
            round=current.number,
            control=is_control,
            save=False,
        )

    def _propose_final_eval(self, arm: FinalArm, number: int, control: bool) -> Proposal:
        chunk = arm.chunks[number]
        return self._proposal(
            TrialPhase.FINAL_EVAL,
            arm.candidates[chunk.start : chunk.stop],
            policies=_FINAL_EVAL,
            start_checkpoint=self.search.version,
            round=self.search.round_number,
            control=control,
            save=False,
        )

    def _propose_final_train(self, arm: FinalArm, index: int, control: bool) -> Proposal:
        return self._proposal(TrialPhase.FINAL_TRAIN, [arm.candidates[index]], control=control)

    def _proposal(
        self,
        phase: TrialPhase,
        candidates: list[Choices],
        *,
        policies: frozenset[Policy] = frozenset(),
        start_checkpoint: str = "",
        round: int = 0,
        data_seed: int = 0,
        control: bool = False,
        evaluate: bool = True,
        save: bool = True,
    ) -> Proposal:
        return Proposal(
            phase=phase,
            knobs=self.search.knobs,
            candidates=tuple(map(self.search.space.archs, candidates)),
            policies=policies,
            start_checkpoint=start_checkpoint,
            round=round,
            data_seed=data_seed,
            control=control,
            evaluate=evaluate,
            save=save,
            basis={
                "elapsed_s": self.situation.elapsed_s,
                "workers": float(self.situation.workers),
                "round": float(round),
                "controller_updates": float(self.search.learner.updates),
                "batches_in_flight": float(self._batches_in_flight()),
            },
        )

    def _batches_in_flight(self) -> int:
        """Batches proposed that the controller has not learned from: how stale a draw may be."""
        trials = sum(
            running.phase is TrialPhase.SEARCH_EVAL and not running.control
            for running in self.search.running.values()
        )
        buffered = len(self.search.round.buffer) if self.search.round is not None else 0
        return math.ceil(
            trials / self.search.shape.batch_trials + buffered / self.search.shape.batch
        )

    def _sample(self, count: int) -> list[Choices]:
        return self.search.learner.sample(
            count, derive_seed(self.search.config.seed, "sample", self.situation.number)
        )

    def _draw_uniform(self, count: int) -> list[Choices]:
        rng = random.Random(derive_seed(self.search.config.seed, "uniform", self.situation.number))
        return [self.search.space.draw(rng) for _ in range(count)]
