"""RANDOM: uniform draws, each in its knob's scale, without repeats in a finite space."""

import math
import random
from dataclasses import asdict

import numpy as np

from rafiki.model.knobs import Policy, offered_policies
from rafiki.resources import (
    EndReason,
    StudyPlan,
    TrialCosts,
    TrialErrorKind,
    TrialPhase,
    TrialState,
)
from rafiki.server.advisors.budget import Tally, count_over, is_time_over, time_over
from rafiki.server.advisors.grid import Grid
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
from rafiki.server.domain.seeds import derive_seed

# So many trials that error one after the other end the study, not counting knobs that the
# model rejects.
ERRORS_IN_A_ROW = 10


class RandomAdvisor(Advisor):
    """Random search. A trial of an external study holds up to `batch_size` architectures."""

    def __init__(self, config: AdvisorConfig) -> None:
        self._config = config
        self._grid = Grid(config.knob_config)
        self._has_archs = bool(self._grid.archs.sizes)
        self._policies = offered_policies(config.knob_config) & {Policy.EARLY_STOP}
        self._tally = Tally(config.model_trial_count)
        self._taken: set[int] = set()  # numbers of points proposed, of a countable grid
        self._running: dict[int, TrialPhase] = {}
        self._costs: TrialCosts | None = None
        self._errors = 0  # in a row
        self._run_s = 0.0  # of all completed trials
        self._completed = 0
        self._workers = 1
        self._finish: Finish | None = None

    def decide(self, situation: Situation) -> Decision:
        if self._finish is not None:
            return self._finish
        if self._needs_probe():
            return Wait() if self._running else self._propose(TrialPhase.PROBE, situation)
        if is_time_over(self._config, situation.elapsed_s):
            return time_over(self._config)
        if self._tally.is_spent:
            return count_over(self._config)
        if len(self._taken) == self._grid.points:
            message = f"all {self._grid.points} points of the space are tried"
            return Finish(reason=EndReason.SEARCH_COMPLETE, message=message)
        if self._tally.free < 1:
            return Wait()
        return self._propose(TrialPhase.TUNE, situation)

    def _needs_probe(self) -> bool:
        return self._config.has_probe and self._costs is None

    def _propose(self, phase: TrialPhase, situation: Situation) -> Proposal:
        is_tune = phase is TrialPhase.TUNE
        rng = random.Random(derive_seed(self._config.seed, "random", situation.number))
        # A template trains one setting at a time, whatever it may take in other phases.
        count = 1 if self._config.has_probe else self._config.batch_size
        count = count if self._has_archs else 1
        knobs, archs = self._grid.draw(count, self._taken if is_tune else (), rng)
        return Proposal(
            phase=phase,
            knobs=knobs,
            candidates=tuple(map(self._grid.archs.archs, archs)) if self._has_archs else (),
            policies=self._policies,
            evaluate=is_tune,
            save=is_tune and self._config.has_probe,
            basis={"elapsed_s": situation.elapsed_s, "workers": float(situation.workers)},
        )

    def apply(self, event: Event) -> None:
        match event:
            case Proposed():
                self._apply_proposed(event)
            case Ended():
                self._apply_ended(event)

    def _apply_proposed(self, event: Proposed) -> None:
        proposal = event.proposal
        self._running[event.number] = proposal.phase
        self._tally.propose(proposal.phase)
        self._workers = max(1, int(proposal.basis.get("workers", 1)))
        if proposal.phase is TrialPhase.TUNE and self._grid.points is not None:
            for archs in proposal.candidates or ({},):
                choices = self._grid.archs.choices(archs)
                self._taken.add(self._grid.number(proposal.knobs, choices))

    def _apply_ended(self, event: Ended) -> None:
        phase = self._running.pop(event.number)
        self._tally.end(phase, event.state)
        if event.state is TrialState.COMPLETED:
            self._errors = 0
            if phase is TrialPhase.PROBE:
                self._costs = event.costs or TrialCosts()
            else:
                self._run_s += event.run_s
                self._completed += 1
        if event.state is TrialState.ERRORED and event.error is not None:
            # Knobs that the model rejects say nothing about the next ones.
            self._errors += event.error.kind is not TrialErrorKind.INFEASIBLE
            limit = 1 if phase is TrialPhase.PROBE else ERRORS_IN_A_ROW
            if self._errors >= limit:
                message = f"{phase} failed: {event.error.message}"
                if limit > 1:
                    message = f"{limit} trials in a row failed, the last: {event.error.message}"
                self._finish = Finish(reason=EndReason.TOO_MANY_ERRORS, message=message)

    def plan(self, elapsed_s: float) -> StudyPlan:
        trial_s = self._trial_s()
        tally = self._tally
        done = tally.counted + tally.outstanding
        limits: list[float] = [tally.free]
        if self._grid.points is not None:
            limits.append(self._grid.points - len(self._taken))
        if self._config.time_s is not None and trial_s > 0:
            left_s = max(0.0, self._config.time_s - elapsed_s)
            limits.append(max(0.0, math.ceil(left_s / trial_s) * self._workers - tally.outstanding))
        more = min(limits)
        if self._finish is not None or not math.isfinite(more):
            more = 0
        waves = math.ceil((more + tally.outstanding) / self._workers)
        return StudyPlan(
            trials=done + int(more), remaining_s=waves * trial_s, measured=self._completed > 0
        )

    def _trial_s(self) -> float:
        """Seconds that one trial takes: the mean so far, or by the PROBE; 0 if unknown."""
        if self._completed:
            return self._run_s / self._completed
        return self._costs.final_train_s if self._costs is not None else 0.0

    def phase(self) -> TrialPhase:
        return TrialPhase.PROBE if self._needs_probe() else TrialPhase.TUNE

    def dump(self) -> AdvisorState:
        finish = self._finish
        return AdvisorState(
            values={
                "tally": self._tally.dump(),
                "running": [[number, phase] for number, phase in self._running.items()],
                "costs": asdict(self._costs) if self._costs is not None else None,
                "errors": self._errors,
                "run_s": self._run_s,
                "completed": self._completed,
                "workers": self._workers,
                "finish": [finish.reason, finish.message] if finish else None,
            },
            arrays={"taken": np.array(sorted(self._taken), np.int64)},
        )

    def load(self, state: AdvisorState) -> None:
        values = state.values
        self._tally.load(values["tally"])
        self._running = {number: TrialPhase(phase) for number, phase in values["running"]}
        self._costs = TrialCosts(**values["costs"]) if values["costs"] else None
        self._errors = values["errors"]
        self._run_s = values["run_s"]
        self._completed = values["completed"]
        self._workers = values["workers"]
        finish = values["finish"]
        self._finish = Finish(reason=EndReason(finish[0]), message=finish[1]) if finish else None
        self._taken = set(state.arrays["taken"].tolist())
