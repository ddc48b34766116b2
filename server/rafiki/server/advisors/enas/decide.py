"""What an ENAS study does next, given all that its search has seen."""

import math
import random
from dataclasses import dataclass

from rafiki.model.knobs import Policy
from rafiki.resources import EndReason, Shard, TrialPhase, TrialState
from rafiki.server.advisors.budget import count_over, is_time_over, time_over
from rafiki.server.advisors.enas.finals import FinalArm, Finals
from rafiki.server.advisors.enas.plan import Estimate, minimum_time_s
from rafiki.server.advisors.enas.round import Arm, Round
from rafiki.server.advisors.enas.search import Search
from rafiki.server.advisors.space import Choices
from rafiki.server.domain.advisor import Decision, Finish, Merge, Proposal, Situation, Wait
from rafiki.server.domain.seeds import derive_seed

# The most candidates of a PROBE.
PROBE_CANDIDATES = 10

# Batches that may be proposed and not learned from at a time, per worker: the oldest draw is
# that of a controller so many updates ago. One runs while the next one is on its way.
BATCHES_PER_WORKER = 2

_TRAIN = frozenset({Policy.SHARE_PARAMS, Policy.DOWNSCALE, Policy.EARLY_STOP})
_FINAL_EVAL = frozenset({Policy.SHARE_PARAMS, Policy.SKIP_TRAIN, Policy.DOWNSCALE})
_SEARCH_EVAL = _FINAL_EVAL | {Policy.QUICK_EVAL}
_BRIEF = frozenset({Policy.DOWNSCALE, Policy.EARLY_STOP})


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
        shards = self.search.shards(self.situation.workers)
        if self._fits(self.search.shape.round_trials(shards), cost.round_s):
            return self._propose_train(self.search.round_number + 1, Shard(0, shards))
        if not self.search.round_number:
            return self._infeasible(cost)
        return self._next_final(self.search.choose_finalists())

    def _next_in_round(self, current: Round) -> Decision | None:
        """The next step of a round; None if no more is to be proposed in it."""
        if not current.is_trained:
            return self._next_in_training(current)
        arm = current.next_arm(self.search.shape)
        if arm is None:
            return Wait() if self.search.running else None
        if not self._fits(1, self.search.estimate(self.situation.workers).eval_s):
            return None
        bound = BATCHES_PER_WORKER * max(1, self.situation.workers)
        if arm is current.search and self._batches_in_flight(1) > bound:
            return Wait()
        return self._propose_search_eval(current, arm)

    def _next_in_training(self, current: Round) -> Decision | None:
        """The next step of a SEARCH_TRAIN; None if what is left of it does not fit."""
        if current.is_merge_due:
            return Merge(
                number=current.last_trained,
                round=current.number,
                base=self.search.version,
                shards=tuple(part.checkpoint for part in current.parts),
            )
        if not current.open_parts:
            return Wait()
        count = len(current.parts)
        cost = self.search.estimate(self.situation.workers, count)
        # The first round is tried again in any case: without weights nothing is won.
        is_first = not self.search.round_number
        if is_first or self._fits(len(current.open_parts) + 1, cost.train_s + cost.eval_s):
            return self._propose_train(current.number, Shard(current.open_parts[0], count))
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
        # They come last, beside the trainings where there are workers for both: the result
        # of the study does not wait for what is told about it.
        brief = finals.next_brief(self.search.shape)
        if brief is not None:
            return self._propose_brief(finals.to_rank(brief + 1)[brief][0])
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

    def _propose_train(self, number: int, shard: Shard) -> Proposal:
        # A template without candidate batches has no steps; nobody measured an external one.
        steps = self.search.costs.steps_per_epoch if self.search.costs is not None else 0
        # Shard i takes minibatches i, i + count, ...: this many.
        minibatches = len(range(shard.index, steps, shard.count))
        return self._proposal(
            TrialPhase.SEARCH_TRAIN,
            self._sample(minibatches or self.search.config.batch_size),
            policies=_TRAIN,
            start_checkpoint=self.search.version,
            round=number,
            shard=shard if shard.count > 1 else None,
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

    def _propose_brief(self, choices: Choices) -> Proposal:
        return self._proposal(TrialPhase.TUNE, [choices], policies=_BRIEF, control=True, save=False)

    def _proposal(
        self,
        phase: TrialPhase,
        candidates: list[Choices],
        *,
        policies: frozenset[Policy] = frozenset(),
        start_checkpoint: str = "",
        round: int = 0,
        shard: Shard | None = None,
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
            shard=shard,
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

    def _batches_in_flight(self, more: int = 0) -> int:
        """Batches proposed that the controller has not learned from: how stale a draw may be.

        `more` SEARCH_EVAL trials are counted as if they were proposed.
        """
        trials = more + sum(
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
