"""A study of full trials: a fold over its committed events."""

from collections.abc import Sequence
from dataclasses import dataclass

from rafiki.model.knobs import Policy, offered_policies
from rafiki.resources import (
    AdvisorKind,
    EndReason,
    TrialCosts,
    TrialError,
    TrialErrorKind,
    TrialPhase,
    TrialState,
)
from rafiki.server.advisors.budget import Tally
from rafiki.server.advisors.scores import sign
from rafiki.server.advisors.tuning.costs import Costs
from rafiki.server.advisors.tuning.early_stopping import EarlyStopper
from rafiki.server.advisors.tuning.failures import Failures
from rafiki.server.advisors.tuning.finals import Finals
from rafiki.server.advisors.tuning.history import History, Scored
from rafiki.server.advisors.tuning.points import Point
from rafiki.server.advisors.tuning.sampler import Sampler
from rafiki.server.advisors.tuning.sharing import BestParams
from rafiki.server.domain.advisor import (
    AdvisorConfig,
    Ended,
    Event,
    Finish,
    Proposal,
    Proposed,
    Reported,
)

_UNSCORED = TrialError(kind=TrialErrorKind.NON_FINITE_SCORE, message="it came back unscored")


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What is remembered of a trial that runs; `final` is its place in `Finals`."""

    phase: TrialPhase
    control: bool
    points: list[Point]
    final: int = 0


class Search:
    """What is known after the events applied so far. Only `apply` and `load_search` change it."""

    def __init__(self, config: AdvisorConfig, sampler: Sampler) -> None:
        settings, offered = config.settings, offered_policies(config.knob_config)
        self.config = config
        self.sampler = sampler
        self.sign = sign(config.direction)
        self.history = History(config.knob_config)
        self.archs = self.history.grid.archs
        self.shares = settings.kind is AdvisorKind.BAYES_OPT_PARAM_SHARING
        wanted = {Policy.EARLY_STOP, *([Policy.SHARE_PARAMS] if self.shares else [])}
        self.tune_policies = offered & wanted
        self.tally = Tally(config.model_trial_count)
        self.running: dict[int, Running] = {}
        self.costs = Costs()
        self.failures = Failures()
        self.finals = Finals(settings.final_trains or 0)
        self.best_params = BestParams()
        self.stopper = EarlyStopper(settings.early_stopping) if settings.early_stopping else None
        self.draws = 0  # TUNE trials proposed and not cancelled
        self.control_draws = 0  # those of them that are controls
        self.control_rewards: list[float] = []
        self.workers = 1  # at the latest proposal
        self.finish: Finish | None = None

    @property
    def needs_probe(self) -> bool:
        """Whether the costs are still to be measured."""
        return self.config.has_probe and self.costs.probe is None

    def count_running(self, phase: TrialPhase) -> int:
        """The running trials of a phase."""
        return sum(running.phase is phase for running in self.running.values())

    @property
    def is_control_due(self) -> bool:
        """Whether the next TUNE trial is one of the control arm: they are spread evenly."""
        due = int((self.draws + 1) * self.config.settings.control_fraction)
        return self.control_draws < due

    def apply(self, event: Event) -> None:
        """Folds in the next committed event.

        Raises:
            ValueError: It is of a trial that is not running, or runs already.
        """
        match event:
            case Proposed():
                self._apply_proposed(event)
            case Reported():
                running = self._running(event.number)
                if self.stopper is not None and _is_judged(running):
                    self.stopper.report(event.number, event.step, self.sign * event.score)
            case Ended():
                self._apply_ended(event)
            case _:
                raise ValueError(f"a study of full trials merges nothing, but trial {event.number}")

    def _running(self, number: int) -> Running:
        if number not in self.running:
            raise ValueError(f"trial {number} does not run")
        return self.running[number]

    def _apply_proposed(self, event: Proposed) -> None:
        proposal, number = event.proposal, event.number
        if number in self.running:
            raise ValueError(f"trial {number} runs already")
        points = self._points(proposal)
        final = 0
        match proposal.phase:
            case TrialPhase.PROBE:
                points = []
            case TrialPhase.TUNE:
                self._take(number, points, proposal.control)
            case TrialPhase.FINAL_TRAIN:
                final = self.finals.propose(points[0], self.history)
            case phase:
                raise ValueError(f"a study of full trials has none of phase {phase}")
        self.tally.propose(proposal.phase)
        self.workers = max(1, int(proposal.basis.get("workers", 1)))
        self.running[number] = Running(
            phase=proposal.phase, control=proposal.control, points=points, final=final
        )

    def _points(self, proposal: Proposal) -> list[Point]:
        archs = proposal.candidates or ({},)
        return [Point(proposal.knobs, self.archs.choices(a) if a else ()) for a in archs]

    def _take(self, number: int, points: list[Point], control: bool) -> None:
        for point in points:
            self.history.take(point)
        self.draws += 1
        self.control_draws += control
        if not control:
            self.history.running[number] = points

    def _apply_ended(self, event: Ended) -> None:
        running = self._running(event.number)
        scores = self._scores(event, running)
        del self.running[event.number]
        self.tally.end(running.phase, event.state)
        if event.state is TrialState.COMPLETED and running.phase is not TrialPhase.PROBE:
            self.costs.add(running.phase, event.run_s)
        match running.phase:
            case TrialPhase.PROBE:
                self._end_probe(event)
            case TrialPhase.FINAL_TRAIN:
                self.finals.end(running.final, event.state)
                self._check_finals(event)
            case _:
                self._end_tune(event, running, scores)

    def _scores(self, event: Ended, running: Running) -> list[float | None]:
        """The scores of the points of a trial; those of one that failed are None."""
        count = len(running.points)
        if event.state is not TrialState.COMPLETED:
            return [None] * count
        if count <= 1:
            return [event.score] * count
        scores = [candidate.score for candidate in event.candidates]
        if len(scores) != count:
            raise ValueError(f"trial {event.number} has {len(scores)} scores, not {count}")
        return scores

    def _end_probe(self, event: Ended) -> None:
        if event.state is TrialState.COMPLETED:
            self.costs.probe = event.costs or TrialCosts()
            self.failures.succeed()
        elif event.state is TrialState.ERRORED:
            self._fail(event)

    def _end_tune(self, event: Ended, running: Running, scores: Sequence[float | None]) -> None:
        number, points = event.number, running.points
        is_scored = any(score is not None for score in scores)
        if self.stopper is not None:
            self.stopper.end(number, is_scored)
        self.history.running.pop(number, None)
        if event.state is TrialState.CANCELLED:
            self.draws -= 1
            self.control_draws -= running.control
            for point in points:
                self.history.release(point)
            return
        rewards = [None if score is None else self.sign * score for score in scores]
        if running.control:
            self.history.controls += points
            self.control_rewards += [reward for reward in rewards if reward is not None]
        else:
            self._learn(event, list(zip(points, rewards, strict=True)))
        if is_scored:
            self.failures.succeed()
        else:
            self._fail(event)

    def _learn(self, event: Ended, ended: list[tuple[Point, float | None]]) -> None:
        for point, reward in ended:
            if reward is None:
                self.history.failed.append(point)
                continue
            self.history.scored.append(Scored(point, reward, event.number))
            self.best_params.offer(event.checkpoint, event.number, reward)
        self.sampler.learn(ended)

    def _fail(self, event: Ended) -> None:
        finish = self.failures.fail(event.error or _UNSCORED)
        self.finish = self.finish or finish

    def _check_finals(self, event: Ended) -> None:
        """Ends the study if final training has failed for good, and none has succeeded."""
        finals = self.finals
        failed = finals.count(TrialState.ERRORED)
        is_over = not self.running and not finals.open(len(self.history.scored))
        if is_over and failed and failed == len(finals.trained):
            reason = (event.error or _UNSCORED).message
            message = f"final training failed for the {failed} best, the last: {reason}"
            self.finish = Finish(reason=EndReason.TOO_MANY_ERRORS, message=message)


def _is_judged(running: Running) -> bool:
    """Whether early stopping applies: to the search's own trials, of one setting each."""
    return running.phase is TrialPhase.TUNE and not running.control and len(running.points) == 1
