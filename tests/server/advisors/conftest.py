"""A study without a server: an advisor, a clock, workers that answer from a table."""

import heapq
import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import pytest

from rafiki.model.knobs import (
    ArchKnob,
    FixedKnob,
    Knob,
    KnobConfig,
    KnobValue,
    NodeRef,
    Policy,
    PolicyKnob,
)
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    Candidate,
    Direction,
    EnasOptions,
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
    Proposal,
    Proposed,
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

OPTIONS = EnasOptions(candidates_per_batch=4, batches_per_round=3, final_evals=4, hidden_size=8)


class Outcome(Protocol):
    """What comes of a trial: None for the usual."""

    def __call__(self, study: "FakeStudy", number: int, proposal: Proposal, /) -> Ended | None: ...


def table_score(archs: Mapping[str, tuple[int, ...]]) -> float:
    """A score in [0, 1] that an architecture always gets."""
    text = json.dumps({name: list(choices) for name, choices in archs.items()}, sort_keys=True)
    return random.Random(text).random()


def trial_s(proposal: Proposal) -> float:
    """What a trial takes, as the PROBE says."""
    return {
        TrialPhase.PROBE: 5.0,
        TrialPhase.SEARCH_TRAIN: COSTS.search_train_s,
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
    """Runs an advisor to its end, with `workers` workers of uneven speed by `seed`."""

    config: AdvisorConfig
    workers: int = 1
    seed: int = 0
    costs: TrialCosts = COSTS
    outcome: Outcome = lambda study, number, proposal: None
    events: list[Event] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    finish: Finish | None = None

    def __post_init__(self) -> None:
        self.advisor: Advisor = create_advisor(self.config)
        self.proposals: dict[int, Proposal] = {}
        self.ends: dict[int, Ended] = {}
        self._random = random.Random(self.seed)
        self._running: list[tuple[float, int]] = []
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
            if not self._running:
                assert self.finish is not None, "the study waits for nothing"
                break
            self._end_next()
        return self

    def stall(self, time_s: float) -> None:
        """Lets time pass in which no trial ends."""
        self._now_s += time_s
        self._running = [(at_s + time_s, number) for at_s, number in self._running]

    def _assign(self) -> None:
        while self.finish is None and len(self._running) < self.workers:
            situation = Situation(
                number=len(self.proposals) + 1, elapsed_s=self.elapsed_s, workers=self.workers
            )
            decision = self.advisor.decide(situation)
            self.asked.append(Asked(len(self.events), situation, decision))
            if isinstance(decision, Wait):
                break
            if isinstance(decision, Finish):
                self.finish = decision
                break
            self._commit(situation.number, decision)

    def _commit(self, number: int, proposal: Proposal) -> None:
        if proposal.phase is not TrialPhase.PROBE and self._start_s is None:
            self._start_s = self._now_s
        self.proposals[number] = proposal
        self._apply(Proposed(number=number, at_s=self.elapsed_s, proposal=proposal))
        takes_s = trial_s(proposal) * self._random.uniform(0.9, 1.1)
        heapq.heappush(self._running, (self._now_s + takes_s, number))

    def _end_next(self) -> None:
        self._now_s, number = heapq.heappop(self._running)
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
            scores = [table_score(archs) for archs in proposal.candidates]
        is_single = proposal.evaluate and len(scores) <= 1
        return Ended(
            number=number,
            at_s=self.elapsed_s,
            state=TrialState.COMPLETED,
            score=(scores[0] if scores else 0.5) if is_single else None,
            candidates=tuple(
                Candidate(archs=archs, score=score)
                for archs, score in zip(proposal.candidates, scores, strict=True)
            ),
            checkpoint=f"checkpoint-{number}" if proposal.save else "",
            costs=self.costs if proposal.phase is TrialPhase.PROBE else None,
            run_s=trial_s(proposal),
        )

    def errored(self, number: int, kind: TrialErrorKind = TrialErrorKind.MODEL_EXCEPTION) -> Ended:
        """The outcome of a trial that failed."""
        error = TrialError(kind=kind, message="the model broke")
        return Ended(number=number, at_s=self.elapsed_s, state=TrialState.ERRORED, error=error)

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


def policies() -> dict[str, Knob]:
    """All five policies as knobs."""
    return {policy.lower(): PolicyKnob(policy) for policy in Policy}


def cell_config() -> KnobConfig:
    """Two cells over shared operations, the second after the first, 2 nodes each."""
    operations = [KnobValue(name) for name in ("conv", "pool", "skip")]

    def cell() -> ArchKnob:
        inputs = [[NodeRef(node) for node in range(count)] for count in (2, 2, 3, 3)]
        items = [choices for pair in inputs for choices in (pair, operations)]
        return ArchKnob(items, nodes=[2] * 4 + [3] * 4)

    return {"filters": FixedKnob(16), "normal": cell(), "reduction": cell(), **policies()}


def enas_config(
    *,
    options: EnasOptions = OPTIONS,
    control_fraction: float = 0.0,
    batch_size: int = 4,
    has_probe: bool = True,
    direction: Direction = Direction.MAXIMIZE,
    seed: int = 11,
    time_s: float | None = None,
    model_trial_count: int | None = None,
    knob_config: KnobConfig | None = None,
) -> AdvisorConfig:
    """The config of a small ENAS study."""
    settings = AdvisorSettings(
        kind=AdvisorKind.ENAS, control_fraction=control_fraction, enas=options
    )
    return AdvisorConfig(
        study="trainJobs/0/studies/1",
        knob_config=knob_config or cell_config(),
        settings=settings,
        direction=direction,
        seed=seed,
        batch_size=batch_size,
        has_probe=has_probe,
        time_s=time_s,
        model_trial_count=model_trial_count,
    )


@pytest.fixture
def fake_study() -> type[FakeStudy]:
    """Makes studies."""
    return FakeStudy


@pytest.fixture
def make_enas() -> Callable[..., AdvisorConfig]:
    """Makes configs of small ENAS studies."""
    return enas_config


@pytest.fixture
def small_options() -> EnasOptions:
    """The options of small ENAS studies."""
    return OPTIONS


@pytest.fixture
def single_costs() -> TrialCosts:
    """What the PROBE of a template without candidate batches measures."""
    return replace(COSTS, steps_per_epoch=0)


@pytest.fixture
def reloaded() -> Callable[[Advisor, AdvisorConfig], Advisor]:
    """Makes a fresh advisor from the snapshot of another."""

    def reload(advisor: Advisor, config: AdvisorConfig) -> Advisor:
        fresh = create_advisor(config)
        fresh.load(through_json(advisor.dump()))
        return fresh

    return reload
