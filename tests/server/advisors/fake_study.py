"""A study without a server: an advisor, a clock, workers that answer from a table."""

import heapq
import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rafiki.model.knobs import Scalar
from rafiki.resources import (
    Archs,
    Candidate,
    TrialCosts,
    TrialError,
    TrialErrorKind,
    TrialPhase,
    TrialState,
)
from rafiki.server.advisors import create_advisor
from rafiki.server.domain.advisor import (
    Advisor,
    AdvisorConfig,
    AdvisorState,
    Decision,
    Ended,
    Event,
    Finish,
    Merge,
    Merged,
    Proposal,
    Proposed,
    Reported,
    Situation,
    Wait,
)

COSTS = TrialCosts(
    steps_per_epoch=12,
    search_train_s=8.0,
    search_eval_s=1.0,
    final_eval_s=2.0,
    final_train_s=20.0,
    compile_s=4.0,
)


class Outcome(Protocol):
    """What comes of a trial: None for the usual."""

    def __call__(self, study: "FakeStudy", number: int, proposal: Proposal, /) -> Ended | None: ...


class Curve(Protocol):
    """The intermediate scores of a trial, at steps 1, 2, ..."""

    def __call__(self, number: int, proposal: Proposal, /) -> Sequence[float]: ...


class MergeError(Protocol):
    """Why a merge cannot be done; "" if it can."""

    def __call__(self, merge: Merge, /) -> str: ...


class Score(Protocol):
    """The score of a setting: its knobs and its architecture."""

    def __call__(self, knobs: Mapping[str, Scalar], archs: Archs, /) -> float: ...


def table_score(archs: Mapping[str, tuple[int, ...]]) -> float:
    """A score in [0, 1] that an architecture always gets."""
    text = json.dumps({name: list(choices) for name, choices in archs.items()}, sort_keys=True)
    return random.Random(text).random()


def setting_score(knobs: Mapping[str, Scalar], archs: Archs) -> float:
    """A score in [0, 1] that a setting always gets; 0.5 without architecture."""
    return table_score(archs) if archs else 0.5


def trial_s(proposal: Proposal) -> float:
    """What a trial takes, as the PROBE says."""
    shards = proposal.shard.count if proposal.shard is not None else 1
    return {
        TrialPhase.PROBE: 5.0,
        TrialPhase.SEARCH_TRAIN: COSTS.search_train_s / shards,
        TrialPhase.SEARCH_EVAL: COSTS.search_eval_s,
        TrialPhase.FINAL_EVAL: COSTS.final_eval_s,
    }.get(proposal.phase, COSTS.final_train_s)


@dataclass(frozen=True)
class Asked:
    """A decision that a study asked for, after `events` of its events."""

    events: int
    situation: Situation
    decision: Decision


@dataclass
class FakeStudy:
    """Runs an advisor to its end, with `workers` workers of uneven speed by `seed`.

    A trial that reports and is told to stop ends at once, as it would have ended later.
    Checkpoints are collected as soon as the advisor does not need them.
    """

    config: AdvisorConfig
    workers: int = 1
    capacity: int = 1  # trials at a time, per worker
    seed: int = 0
    costs: TrialCosts = COSTS
    outcome: Outcome = lambda study, number, proposal: None
    merge_error: MergeError = lambda merge: ""
    score: Score = setting_score
    curve: Curve = lambda number, proposal: ()
    takes: Callable[[Proposal], float] = trial_s
    events: list[Event] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    finish: Finish | None = None

    def __post_init__(self) -> None:
        self.advisor: Advisor = create_advisor(self.config)
        self.proposals: dict[int, Proposal] = {}
        self.ends: dict[int, Ended] = {}
        self.stopped: list[int] = []
        self._random = random.Random(self.seed)
        # What is to come: (time, trial, step); the step that is its end is infinite.
        self._agenda: list[tuple[float, int, float]] = []
        self._live: set[int] = set()
        self._collected: set[str] = set()
        self._now_s = 0.0
        self._start_s: float | None = None

    @property
    def elapsed_s(self) -> float:
        """The clock of the budget: from the first proposal after the PROBE."""
        return 0.0 if self._start_s is None else self._now_s - self._start_s

    def of(self, phase: TrialPhase, *, control: bool | None = None) -> list[Proposal]:
        """The proposals of a phase, in order."""
        return [
            proposal
            for proposal in self.proposals.values()
            if proposal.phase is phase and control in (None, proposal.control)
        ]

    def run(self, until: Callable[["FakeStudy"], bool] = lambda study: False) -> "FakeStudy":
        """Runs until the advisor has finished and no trial runs, or until `until` holds."""
        while not until(self):
            self._assign()
            if not self._live:
                assert self.finish is not None, "the study waits for nothing"
                break
            self._advance()
        return self

    def stall(self, time_s: float) -> None:
        """Lets time pass in which no trial ends."""
        self._now_s += time_s
        self._agenda = [(at_s + time_s, number, step) for at_s, number, step in self._agenda]

    def _assign(self) -> None:
        while self.finish is None and len(self._live) < self.workers * self.capacity:
            situation = Situation(
                number=len(self.proposals) + 1, elapsed_s=self.elapsed_s, workers=self.workers
            )
            decision = self.advisor.decide(situation)
            self._collect(decision)
            self.asked.append(Asked(len(self.events), situation, decision))
            match decision:
                case Wait():
                    break
                case Finish():
                    self.finish = decision
                case Merge():
                    self._merge(decision)
                case Proposal():
                    self._commit(situation.number, decision)

    def _collect(self, decision: Decision) -> None:
        """Collects what is not needed, and checks that `decision` is not based on any of that."""
        made = {e.checkpoint for e in self.events if isinstance(e, Ended | Merged)}
        self._collected |= made - self.advisor.needed_checkpoints()
        match decision:
            case Merge():
                used = {decision.base, *decision.shards}
            case Proposal():
                used = {decision.start_checkpoint}
            case _:
                used = set()
        lost = (used - {""}) & self._collected
        assert not lost, f"{lost} would have been collected"

    def _merge(self, merge: Merge) -> None:
        error = self.merge_error(merge)
        self._apply(
            Merged(
                number=merge.number,
                at_s=self.elapsed_s,
                round=merge.round,
                checkpoint="" if error else f"merged-{merge.round}",
                merge_s=0.5,
                error=error,
            )
        )

    def _commit(self, number: int, proposal: Proposal) -> None:
        if proposal.phase is not TrialPhase.PROBE and self._start_s is None:
            self._start_s = self._now_s
        self.proposals[number] = proposal
        self._apply(Proposed(number=number, at_s=self.elapsed_s, proposal=proposal))
        self._live.add(number)
        takes_s = self.takes(proposal) * self._random.uniform(0.9, 1.1)
        reports = len(self.curve(number, proposal))
        for step in range(1, reports + 1):
            at_s = self._now_s + takes_s * step / (reports + 1)
            heapq.heappush(self._agenda, (at_s, number, step))
        heapq.heappush(self._agenda, (self._now_s + takes_s, number, math.inf))

    def _advance(self) -> None:
        """Lets the next trial end, and those before it report."""
        while True:
            self._now_s, number, step = heapq.heappop(self._agenda)
            if number not in self._live:
                continue
            if step == math.inf:
                self._end(number)
                return
            score = self.curve(number, self.proposals[number])[int(step) - 1]
            self._apply(Reported(number=number, at_s=self.elapsed_s, step=int(step), score=score))
            if stops := self.advisor.stops():
                assert stops == {number}, "a report stops no other trial"
                self.stopped.append(number)
                self._end(number)
                return

    def _end(self, number: int) -> None:
        self._live.remove(number)
        proposal = self.proposals[number]
        ended = self.outcome(self, number, proposal) or self.completed(number, proposal)
        self.ends[number] = ended
        self._apply(ended)

    def _apply(self, event: Event) -> None:
        self.advisor.apply(event)
        self.events.append(event)

    def completed(self, number: int, proposal: Proposal) -> Ended:
        """The usual outcome of a trial."""
        scores: list[float | None] = [None] * len(proposal.candidates)
        if proposal.evaluate:
            scores = [self.score(proposal.knobs, archs) for archs in proposal.candidates]
        is_single = proposal.evaluate and len(scores) <= 1
        single = scores[0] if scores else self.score(proposal.knobs, {})
        return Ended(
            number=number,
            at_s=self.elapsed_s,
            state=TrialState.COMPLETED,
            score=single if is_single else None,
            candidates=tuple(
                Candidate(archs=archs, score=score)
                for archs, score in zip(proposal.candidates, scores, strict=True)
            ),
            checkpoint=f"checkpoint-{number}" if proposal.save else "",
            costs=self.costs if proposal.phase is TrialPhase.PROBE else None,
            run_s=self.takes(proposal),
        )

    def errored(
        self,
        number: int,
        kind: TrialErrorKind = TrialErrorKind.MODEL_EXCEPTION,
        message: str = "the model broke",
    ) -> Ended:
        """The outcome of a trial that failed."""
        error = TrialError(kind=kind, message=message)
        return Ended(number=number, at_s=self.elapsed_s, state=TrialState.ERRORED, error=error)

    def cancelled(self, number: int) -> Ended:
        """The outcome of a trial that was given up."""
        return Ended(number=number, at_s=self.elapsed_s, state=TrialState.CANCELLED)

    def unscored(self, number: int, proposal: Proposal) -> Ended:
        """The outcome of a trial whose candidates were all NaN."""
        return Ended(
            number=number,
            at_s=self.elapsed_s,
            state=TrialState.COMPLETED,
            candidates=tuple(Candidate(archs=archs) for archs in proposal.candidates),
        )


def through_json(state: AdvisorState) -> AdvisorState:
    """A snapshot as it comes back from the store."""
    return AdvisorState(values=json.loads(json.dumps(state.values)), arrays=state.arrays)


def reloaded(advisor: Advisor, config: AdvisorConfig) -> Advisor:
    """A fresh advisor from the snapshot of another."""
    fresh = create_advisor(config)
    fresh.load(through_json(advisor.dump()))
    return fresh
