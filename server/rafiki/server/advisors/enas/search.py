"""The search of an ENAS study: a fold over its committed events, with snapshots."""

import math
import random
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from rafiki.resources import (
    EnasOptions,
    EndReason,
    ScoreStats,
    StudyRound,
    TrialCosts,
    TrialPhase,
    TrialState,
)
from rafiki.server.advisors.budget import Tally
from rafiki.server.advisors.enas.best_seen import BestSeen
from rafiki.server.advisors.enas.finals import ATTEMPTS, FinalArm, Finals, start_finals
from rafiki.server.advisors.enas.learner import Learner
from rafiki.server.advisors.enas.plan import Estimate, RoundCosts, estimate, layout
from rafiki.server.advisors.enas.round import Round, dump_summary, load_summary
from rafiki.server.advisors.enas.scores import score_stats, sign
from rafiki.server.advisors.sampling import fixed_values
from rafiki.server.advisors.space import ArchSpace, Choices
from rafiki.server.domain.advisor import (
    AdvisorConfig,
    AdvisorState,
    Ended,
    Event,
    Finish,
    Proposal,
    Proposed,
)
from rafiki.server.domain.seeds import derive_seed

# So many SEARCH_TRAINs that fail in a row, or batches without a score, end the study.
FAILURES_IN_A_ROW = 3

# Draws to find fresh samples that are not among the finalists yet.
FINALIST_DRAWS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What is remembered of a trial that runs; `index` is a chunk or candidate of finals."""

    phase: TrialPhase
    control: bool
    round: int
    candidates: list[Choices]
    index: int = 0


class Search:
    """What is known after the events applied so far. Only `apply` and `load` change it."""

    def __init__(self, config: AdvisorConfig) -> None:
        options = config.settings.enas or EnasOptions()
        self.config = config
        self.shape = layout(config)
        self.sign = sign(config.direction)
        self.space = ArchSpace(config.knob_config)
        self.knobs = fixed_values(config.knob_config)
        self.learner = Learner(config.knob_config, options, derive_seed(config.seed, "controller"))
        self.seen = BestSeen(len(self.space.sizes))
        self.tally = Tally(config.model_trial_count)
        self.running: dict[int, Running] = {}
        self.costs: TrialCosts | None = None
        self.workers = 1  # at the latest proposal
        self.version = ""  # the checkpoint of the latest weight version, if it has one
        self.round: Round | None = None  # the one in progress
        self.round_number = 0  # of the latest weight version; 0 before the first
        self.rounds: list[StudyRound] = []
        self.round_costs: list[RoundCosts] = []
        self.round_arms: tuple[ScoreStats, ScoreStats] | None = None
        self.finals: Finals | None = None
        self.train_failures = 0
        self.unscored_batches = 0
        self.finish: Finish | None = None

    @property
    def needs_probe(self) -> bool:
        """Whether the costs are still to be measured."""
        return self.config.has_probe and self.costs is None

    def estimate(self, workers: int) -> Estimate:
        """What the parts of the plan take with so many workers, by the costs known so far."""
        return estimate(self.shape, self.costs or TrialCosts(), self.round_costs, max(1, workers))

    def choose_finalists(self) -> Finals:
        """The finalists by the state at the end of the search, and as many uniform ones.

        Half of the finalists are the best seen, one is greedy, the rest fresh samples.
        Where those repeat one another, the next best seen and then uniform ones step in.
        """
        seed, count = self.config.seed, self.shape.finalists
        best = self.seen.best(2 * count)
        finalists = dict.fromkeys(best[: count // 2])
        finalists[self.learner.greedy()] = None
        for draw in range(FINALIST_DRAWS):
            if len(finalists) < count:
                drawn = self.learner.sample(count, derive_seed(seed, "finalists", draw))
                finalists |= dict.fromkeys(drawn[: count - len(finalists)])
        finalists |= dict.fromkeys(best)
        chosen = list(finalists)[:count]
        fill = random.Random(derive_seed(seed, "finalists"))
        chosen += self.space.draw_distinct(count - len(chosen), fill, chosen)
        controls = self.space.draw_distinct(
            count, random.Random(derive_seed(seed, "final controls"))
        )
        return start_finals(chosen, controls, self.shape.final_per_trial)

    def apply(self, event: Event) -> None:
        """Folds in the next committed event."""
        match event:
            case Proposed():
                self._apply_proposed(event)
            case Ended():
                self._apply_ended(event)

    def _apply_proposed(self, event: Proposed) -> None:
        proposal = event.proposal
        self.tally.propose(proposal.phase)
        self.workers = max(1, int(proposal.basis["workers"]))
        index = 0
        match proposal.phase:
            case TrialPhase.SEARCH_TRAIN:
                if self.round is None or self.round.number != proposal.round:
                    self._close_round()
                    self.round = Round(number=proposal.round, train_from_s=event.at_s)
            case TrialPhase.SEARCH_EVAL:
                self._apply_eval_proposed(event)
            case TrialPhase.FINAL_EVAL:
                self._close_round()
                if self.finals is None:
                    self.finals = self.choose_finalists()
                index = self._claim_chunk(self._final_arm(proposal.control))
            case TrialPhase.FINAL_TRAIN:
                index = self._claim_training(proposal)
            case _:
                pass
        # What a training held is not needed again, and may be thousands of candidates.
        keeps = proposal.phase is TrialPhase.SEARCH_EVAL
        self.running[event.number] = Running(
            phase=proposal.phase,
            control=proposal.control,
            round=proposal.round,
            candidates=[self.space.choices(c) for c in proposal.candidates] if keeps else [],
            index=index,
        )

    def _apply_eval_proposed(self, event: Proposed) -> None:
        current = self.round
        if current is None:
            raise ValueError(f"trial {event.number} evaluates outside of a round")
        arm = current.control if event.proposal.control else current.search
        arm.proposed += 1
        current.workers = self.workers
        if current.eval_from_s is None:
            current.eval_from_s = event.at_s

    def _claim_chunk(self, arm: FinalArm) -> int:
        number = arm.open_chunk
        if number is None:
            raise ValueError("a FINAL_EVAL was proposed, but all are")
        arm.chunks[number].is_running = True
        return number

    def _claim_training(self, proposal: Proposal) -> int:
        arm = self._final_arm(proposal.control)
        index = arm.candidates.index(self.space.choices(proposal.candidates[0]))
        arm.trained[str(index)] = TrialState.RUNNING
        return index

    def _final_arm(self, control: bool) -> FinalArm:
        if self.finals is None:
            raise ValueError("the final phases have not begun")
        return self.finals.control if control else self.finals.search

    def _apply_ended(self, event: Ended) -> None:
        running = self.running.pop(event.number)
        self.tally.end(running.phase, event.state)
        match running.phase:
            case TrialPhase.PROBE:
                self._end_probe(event)
            case TrialPhase.SEARCH_TRAIN:
                self._end_train(event)
            case TrialPhase.SEARCH_EVAL:
                self._end_search_eval(event, running)
            case TrialPhase.FINAL_EVAL:
                self._end_final_eval(event, running)
            case TrialPhase.FINAL_TRAIN:
                self._end_final_train(event, running)
            case phase:
                raise ValueError(f"ENAS has no trials of phase {phase}")

    def _end_probe(self, event: Ended) -> None:
        if event.state is TrialState.COMPLETED:
            self.costs = event.costs or TrialCosts()
        elif event.state is TrialState.ERRORED:
            self._fail(f"PROBE failed: {_reason(event)}")

    def _end_train(self, event: Ended) -> None:
        current = self.round
        if event.state is TrialState.ERRORED:
            self.train_failures += 1
            if self.train_failures >= FAILURES_IN_A_ROW:
                self._fail(f"SEARCH_TRAIN failed {self.train_failures} times: {_reason(event)}")
        if event.state is not TrialState.COMPLETED or current is None:
            return
        self.train_failures = 0
        self.version = event.checkpoint
        self.round_number = current.number
        current.is_trained = True
        current.train_to_s = event.at_s
        current.train_compile_s = event.compile_s

    def _end_search_eval(self, event: Ended, running: Running) -> None:
        current = self.round
        if current is None or running.round != current.number:
            return
        arm = current.control if running.control else current.search
        if event.state is TrialState.CANCELLED:
            arm.proposed -= 1
            return
        arm.ended += 1
        current.eval_to_s = event.at_s
        current.eval_compile_s += event.compile_s
        scores = _scores(event, len(running.candidates))
        scored = list(zip(running.candidates, scores, strict=True))
        current.score(arm, scored, self.config.direction)
        if not running.control:
            self._reinforce(current, scored, event)
        if current.is_complete(self.shape):
            self._close_round()

    def _reinforce(
        self, current: Round, scored: list[tuple[Choices, float | None]], event: Ended
    ) -> None:
        """Lets the controller learn from every full batch of the current weight version."""
        for choices, score in scored:
            reward = None if score is None else self.sign * score
            current.buffer.append((choices, reward))
            if reward is not None:
                self.seen.add(choices, reward)
        size = self.shape.batch
        while len(current.buffer) >= size:
            batch, current.buffer = current.buffer[:size], current.buffer[size:]
            rewards = [math.nan if reward is None else reward for _, reward in batch]
            entropy = self.learner.learn([choices for choices, _ in batch], rewards)
            if any(reward is not None for _, reward in batch):
                self.unscored_batches = 0
                current.entropies.append(entropy)
            else:
                self.unscored_batches += 1
        if self.unscored_batches >= FAILURES_IN_A_ROW:
            detail = f", the last failed: {_reason(event)}" if event.error is not None else ""
            self._fail(f"{FAILURES_IN_A_ROW} batches in a row had no score{detail}")

    def _close_round(self) -> None:
        """Records the round in progress, if it scored anything, and ends it."""
        current, self.round = self.round, None
        if current is None or not current.is_trained or not current.search.ended:
            return
        direction = self.config.direction
        baseline = self.learner.baseline * self.sign
        self.round_costs.append(current.costs())
        self.rounds.append(
            current.summary(
                self.config.study,
                self.version,
                0.0 if math.isnan(baseline) else baseline,
                self.space,
                direction,
            )
        )
        if current.control.ended:
            self.round_arms = (
                score_stats(current.search.scores, direction),
                score_stats(current.control.scores, direction),
            )

    def _end_final_eval(self, event: Ended, running: Running) -> None:
        finals, arm = self.finals, self._final_arm(running.control)
        chunk = arm.chunks[running.index]
        chunk.is_running = False
        size = chunk.stop - chunk.start
        if event.state is TrialState.COMPLETED:
            arm.scores[chunk.start : chunk.stop] = _scores(event, size)
            chunk.is_done = True
        elif event.state is TrialState.ERRORED:
            chunk.errors += 1
            # One candidate that fails is unscored; that several fail may not be their fault.
            has_room = self.tally.free > self.shape.full_trains
            is_tried_again = size > 1 and not running.control and has_room
            chunk.is_done = chunk.errors >= ATTEMPTS or not is_tried_again
        if finals is None or not all(chunk.is_done for chunk in finals.search.chunks):
            return
        if all(score is None for score in finals.search.scores):
            self._fail(f"no finalist has a score, the last: {_reason(event)}")

    def _end_final_train(self, event: Ended, running: Running) -> None:
        arm = self._final_arm(running.control)
        if event.state is TrialState.CANCELLED:
            del arm.trained[str(running.index)]
            return
        arm.trained[str(running.index)] = event.state
        if running.control or event.state is TrialState.COMPLETED:
            return
        scored = sum(score is not None for score in arm.scores)
        failed = arm.count(TrialState.ERRORED)
        if failed >= min(ATTEMPTS, scored) and failed == len(arm.trained):
            self._fail(f"FINAL_TRAIN failed for {failed} finalists: {_reason(event)}")

    def _fail(self, message: str) -> None:
        self.finish = Finish(reason=EndReason.TOO_MANY_ERRORS, message=message)

    def dump(self) -> AdvisorState:
        """All of it as JSON and arrays."""
        finish, current, finals = self.finish, self.round, self.finals
        values: dict[str, Any] = {
            "tally": self.tally.dump(),
            "running": [[number, asdict(trial)] for number, trial in self.running.items()],
            "costs": asdict(self.costs) if self.costs is not None else None,
            "workers": self.workers,
            "version": self.version,
            "round": current.dump() if current is not None else None,
            "round_number": self.round_number,
            "rounds": [dump_summary(summary) for summary in self.rounds],
            "round_costs": [asdict(costs) for costs in self.round_costs],
            "round_arms": [asdict(stats) for stats in self.round_arms or ()],
            "finals": finals.dump() if finals is not None else None,
            "train_failures": self.train_failures,
            "unscored_batches": self.unscored_batches,
            "finish": [finish.reason, finish.message] if finish else None,
        }
        controller = {f"controller/{name}": a for name, a in self.learner.dump().items()}
        seen = {f"seen/{name}": array for name, array in self.seen.dump().items()}
        return AdvisorState(values=values, arrays=controller | seen)

    def load(self, state: AdvisorState) -> None:
        """Restores what `dump` gave."""
        values = state.values
        self.tally.load(values["tally"])
        self.running = {number: _load_running(trial) for number, trial in values["running"]}
        self.costs = TrialCosts(**values["costs"]) if values["costs"] else None
        self.workers = values["workers"]
        self.version = values["version"]
        self.round = Round.load(values["round"]) if values["round"] else None
        self.round_number = values["round_number"]
        self.rounds = [load_summary(summary) for summary in values["rounds"]]
        self.round_costs = [RoundCosts(**costs) for costs in values["round_costs"]]
        arms = [ScoreStats(**stats) for stats in values["round_arms"]]
        self.round_arms = (arms[0], arms[1]) if arms else None
        self.finals = Finals.load(values["finals"]) if values["finals"] else None
        self.train_failures = values["train_failures"]
        self.unscored_batches = values["unscored_batches"]
        finish = values["finish"]
        self.finish = Finish(reason=EndReason(finish[0]), message=finish[1]) if finish else None
        self.learner.load(_below("controller/", state))
        self.seen.load(_below("seen/", state))


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


def _reason(event: Ended) -> str:
    return event.error.message if event.error is not None else "no reason given"


def _scores(event: Ended, count: int) -> list[float | None]:
    """The scores of the candidates of a trial; those of one that failed are None."""
    if event.state is not TrialState.COMPLETED:
        return [None] * count
    if count == 1 and event.score is not None:
        return [event.score]
    scores = [candidate.score for candidate in event.candidates]
    if len(scores) != count:
        raise ValueError(f"trial {event.number} has {len(scores)} scores, not {count}")
    return scores
