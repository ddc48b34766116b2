"""The search of an ENAS study: a fold over its committed events."""

import math
import random
from dataclasses import dataclass

from rafiki.resources import (
    EnasOptions,
    EndReason,
    ScoreStats,
    Shard,
    StudyRound,
    TrialCosts,
    TrialPhase,
    TrialState,
)
from rafiki.server.advisors.budget import Tally, is_time_over
from rafiki.server.advisors.enas.best_seen import BestSeen
from rafiki.server.advisors.enas.finals import (
    ATTEMPTS,
    FinalArm,
    Finals,
    choose_finalists,
    start_finals,
)
from rafiki.server.advisors.enas.learner import Learner
from rafiki.server.advisors.enas.plan import Crew, Estimate, RoundCosts, estimate, layout
from rafiki.server.advisors.enas.results import reason, scores_of
from rafiki.server.advisors.enas.round import Part, Round
from rafiki.server.advisors.sampling import fixed_values
from rafiki.server.advisors.scores import score_stats, sign
from rafiki.server.advisors.space import ArchSpace, Choices
from rafiki.server.domain.advisor import (
    AdvisorConfig,
    Ended,
    Event,
    Finish,
    Merged,
    Proposal,
    Proposed,
)
from rafiki.server.domain.seeds import derive_seed

# So many SEARCH_TRAINs or merges that fail in a row, or batches without a score, end the study.
FAILURES_IN_A_ROW = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What is remembered of a trial that runs.

    `index` is its shard, or its chunk or candidate of the finals.
    """

    phase: TrialPhase
    control: bool
    round: int
    candidates: list[Choices]
    index: int = 0


class Search:
    """What is known after the events applied so far. Only `apply` changes it."""

    def __init__(self, config: AdvisorConfig) -> None:
        options = config.settings.enas or EnasOptions()
        self.config = config
        self.options = options
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
        self.briefs_s: list[float] = []  # what brief trainings took, compilation included
        self.train_failures = 0
        self.merge_failures = 0
        self.unscored_batches = 0
        self.finish: Finish | None = None

    @property
    def needs_probe(self) -> bool:
        """Whether the costs are still to be measured."""
        return self.config.has_probe and self.costs is None

    def shards(self, workers: int) -> int:
        """Into how many shards the next SEARCH_TRAIN goes, with so many workers.

        The first round has one: it starts from fresh parameters, so that there is no
        checkpoint to tell what a shard has changed, and averaging does most harm while weights
        still move far (Lin et al., "Don't Use Large Mini-Batches, Use Local SGD", arXiv
        1808.07217). Nor are there shards without steps to share out (a template without
        candidate batches), or without checkpoints (an external study).
        """
        steps = self.costs.steps_per_epoch if self.costs is not None else 0
        if not self.version or not steps:
            return 1
        room = self.tally.free - self.shape.round_evals - self.shape.final_trials
        most = self.options.train_shards or workers
        return max(1, int(min(workers, most, steps, room)))

    def estimate(self, workers: int, shards: int | None = None) -> Estimate:
        """What the parts of the plan take with so many workers, by the costs known so far.

        `shards` None means those of the next SEARCH_TRAIN.
        """
        rounds = self.round_costs
        if not rounds and self.round is not None and self.round.is_measured:
            rounds = [self.round.costs()]
        crew = Crew(workers=max(1, workers), shards=shards or self.shards(workers))
        return estimate(self.shape, self.costs or TrialCosts(), rounds, self.briefs_s, crew)

    def choose_finalists(self) -> Finals:
        """The finalists by the state at the end of the search, and as many uniform ones."""
        shape, seed = self.shape, self.config.seed
        chosen = choose_finalists(self.learner, self.seen, self.space, shape.finalists, seed)
        rng = random.Random(derive_seed(seed, "final controls"))
        controls = self.space.draw_distinct(shape.finalists, rng)
        return start_finals(chosen, controls, shape.final_per_trial)

    def apply(self, event: Event) -> None:
        """Folds in the next committed event."""
        match event:
            case Proposed():
                self._apply_proposed(event)
            case Ended():
                self._apply_ended(event)
            case Merged():
                self._apply_merged(event)

    def _apply_proposed(self, event: Proposed) -> None:
        proposal = event.proposal
        self.tally.propose(proposal.phase)
        self.workers = max(1, int(proposal.basis["workers"]))
        index = 0
        match proposal.phase:
            case TrialPhase.SEARCH_TRAIN:
                index = self._apply_train_proposed(event)
            case TrialPhase.SEARCH_EVAL:
                self._apply_eval_proposed(event)
            case TrialPhase.FINAL_EVAL:
                self._close_round()
                if self.finals is None:
                    self.finals = self.choose_finalists()
                index = self._claim_chunk(self._final_arm(proposal.control))
            case TrialPhase.FINAL_TRAIN:
                index = self._claim_training(proposal)
            case TrialPhase.TUNE:
                index = self._claim_brief()
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

    def _apply_train_proposed(self, event: Proposed) -> int:
        proposal = event.proposal
        shard = proposal.shard or Shard(0, 1)
        current = self.round
        # A round given up for want of room may begin again, in fewer shards.
        if current is None or (current.number, len(current.parts)) != (proposal.round, shard.count):
            self._close_round()
            parts = [Part() for _ in range(shard.count)]
            current = Round(number=proposal.round, train_from_s=event.at_s, parts=parts)
            self.round = current
        current.parts[shard.index].is_running = True
        return shard.index

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

    def _claim_brief(self) -> int:
        number = self.finals.next_brief(self.shape) if self.finals is not None else None
        if self.finals is None or number is None:
            raise ValueError("a brief training was proposed, but all are")
        self.finals.briefs[str(number)] = None
        return number

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
                self._end_train(event, running)
            case TrialPhase.SEARCH_EVAL:
                self._end_search_eval(event, running)
            case TrialPhase.FINAL_EVAL:
                self._end_final_eval(event, running)
            case TrialPhase.FINAL_TRAIN:
                self._end_final_train(event, running)
            case TrialPhase.TUNE:
                self._end_brief(event, running)
            case phase:
                raise ValueError(f"ENAS has no trials of phase {phase}")

    def _end_probe(self, event: Ended) -> None:
        if event.state is TrialState.COMPLETED:
            self.costs = event.costs or TrialCosts()
        elif event.state is TrialState.ERRORED:
            self._fail(f"PROBE failed: {reason(event)}")

    def _end_train(self, event: Ended, running: Running) -> None:
        current = self.round
        if event.state is TrialState.ERRORED:
            self.train_failures += 1
            if self.train_failures >= FAILURES_IN_A_ROW:
                self._fail(f"SEARCH_TRAIN failed {self.train_failures} times: {reason(event)}")
        if current is None or running.round != current.number:
            return
        current.end_part(running.index, event)
        if event.state is TrialState.COMPLETED:
            self.train_failures = 0
        if current.is_trained:
            self._advance(current.number, event.checkpoint)

    def _apply_merged(self, event: Merged) -> None:
        current = self.round
        if current is None or event.round != current.number:
            raise ValueError(f"weights of round {event.round} were merged outside of it")
        current.end_merge(event)
        if not event.error:
            self.merge_failures = 0
            self._advance(current.number, event.checkpoint)
            return
        self.merge_failures += 1
        if self.merge_failures >= FAILURES_IN_A_ROW:
            times = f"{self.merge_failures} times"
            self._fail(f"the shards of a round could not be merged {times}: {event.error}")

    def needed_checkpoints(self) -> frozenset[str]:
        """The latest weights, and what the shards of a round saved that are not merged yet."""
        names = {self.version}
        if self.round is not None and not self.round.is_trained:
            names.update(part.checkpoint for part in self.round.parts)
        return frozenset(names - {""})

    def _advance(self, number: int, version: str) -> None:
        """Makes `version` the latest weights."""
        self.version = version
        self.round_number = number

    def _end_search_eval(self, event: Ended, running: Running) -> None:
        current = self.round
        if current is None or running.round != current.number:
            return
        arm = current.control if running.control else current.search
        if event.state is TrialState.CANCELLED:
            arm.proposed -= 1
            return
        arm.ended += 1
        current.eval_ends_s.append(event.at_s)
        current.eval_compile_s += event.compile_s
        scores = scores_of(event, len(running.candidates))
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
            detail = f", the last failed: {reason(event)}" if event.error is not None else ""
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
            arm.scores[chunk.start : chunk.stop] = scores_of(event, size)
            chunk.is_done = True
        elif event.state is TrialState.ERRORED:
            chunk.errors += 1
            # One candidate that fails is unscored; that several fail may not be their fault.
            has_room = self.tally.free > self.shape.full_trains + self.shape.rank_trains
            is_tried_again = size > 1 and not running.control and has_room
            chunk.is_done = chunk.errors >= ATTEMPTS or not is_tried_again
        if finals is None or not all(chunk.is_done for chunk in finals.search.chunks):
            return
        if all(score is None for score in finals.search.scores):
            self._fail(f"no finalist has a score, the last: {reason(event)}")

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
            self._fail(f"FINAL_TRAIN failed for {failed} finalists: {reason(event)}")

    def _end_brief(self, event: Ended, running: Running) -> None:
        if self.finals is None:
            raise ValueError("the final phases have not begun")
        if event.state is TrialState.CANCELLED:
            del self.finals.briefs[str(running.index)]
            return
        if event.state is not TrialState.COMPLETED:
            return
        self.briefs_s.append(event.run_s)
        # What the end of the time has cut short does not compare with the others.
        if not is_time_over(self.config, event.at_s):
            self.finals.briefs[str(running.index)] = event.score

    def _fail(self, message: str) -> None:
        self.finish = Finish(reason=EndReason.TOO_MANY_ERRORS, message=message)
