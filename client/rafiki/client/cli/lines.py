"""`job watch` where there is no terminal: a line for each thing that matters."""

import time
from collections.abc import Callable, Iterator

from rafiki.client import names
from rafiki.client.cli.output import duration_text, score_text
from rafiki.client.cli.plans import PHASES, SHARED_WEIGHTS, control_text, end_text, plan_text
from rafiki.client.cli.progress import Event
from rafiki.resources import Study, StudyPlan, StudyRound, TrainJob, Trial, TrialPhase, TrialState

PATIENCE_S = 2.0
MUCH = 0.25  # the share by which a plan must change to be told again


class JobLines:
    """Remembers what was said, so that only changes are.

    Args:
        clock: In seconds; what a job waits for is told once it has waited for a while.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting = ("", clock())
        self._said: dict[str, str] = {}
        self._plans: dict[str, StudyPlan] = {}
        self._has_explained = False

    def lines(self, event: Event) -> Iterator[str]:
        """The lines to print for an event; mostly none."""
        match event:
            case TrainJob():
                yield from self._job(event)
            case Study():
                yield from self._study(event)
            case StudyRound():
                yield from self._round(event)
            case Trial():
                yield from self._trial(event)

    def _job(self, job: TrainJob) -> Iterator[str]:
        name = names.short(job.name)
        yield from self._once("state", f"job {name}: {job.state.lower()}", key=job.name)
        if job.waiting_for != self._waiting[0]:
            self._waiting = (job.waiting_for, self._clock())
        elif self._clock() - self._waiting[1] >= PATIENCE_S:
            waiting = f"job {name}: waiting for {job.waiting_for}" if job.waiting_for else ""
            yield from self._once("waiting", waiting, key=job.name)

    def _study(self, study: Study) -> Iterator[str]:
        name = names.short(study.name)
        if study.phase is not None and study.end_reason is None:
            # A round goes back and forth between its two phases.
            is_search = study.phase in (TrialPhase.SEARCH_TRAIN, TrialPhase.SEARCH_EVAL)
            phase = "search" if is_search else PHASES[study.phase]
            yield from self._once("phase", f"study {name}: {phase}", key=study.name)
        if study.plan.measured and self._is_news(study):
            yield f"study {name}: plan: {plan_text(study)}"
        if study.end_reason is not None:
            if study.control_arm is not None:
                line = f"study {name}: {control_text(study.control_arm)}"
                yield from self._once("control", line, key=study.name)
            yield from self._once("end", f"study {name}: {end_text(study)}", key=study.name)

    def _is_news(self, study: Study) -> bool:
        """Whether the plan differs much from the one said last."""
        last = self._plans.get(study.name)
        plan = study.plan
        if last is not None and last.final_trains == plan.final_trains:
            shares = [
                abs(new - old) / max(old, 1)
                for new, old in ((plan.rounds, last.rounds), (plan.trials, last.trials))
            ]
            if max(shares) < MUCH:
                return False
        self._plans[study.name] = plan
        return True

    def _round(self, study_round: StudyRound) -> Iterator[str]:
        if not self._has_explained:
            self._has_explained = True
            yield f"({SHARED_WEIGHTS})"
        control = study_round.control
        beside = f" control {score_text(control.mean)}" if control and control.count else ""
        best = study_round.best.score if study_round.best is not None else None
        line = (
            f"round {study_round.round}: mean {score_text(study_round.mean_reward)}{beside} "
            f"best {score_text(best)} entropy {study_round.entropy:.2f} "
            f"(train {duration_text(study_round.train_s)}, "
            f"evaluate {duration_text(study_round.evaluate_s)})"
        )
        yield from self._once("round", line, key=f"{study_round.study}/{study_round.round}")

    def _trial(self, trial: Trial) -> Iterator[str]:
        name = names.short(trial.name)
        kind = trial.phase + (" (control)" if trial.control else "")
        matters = trial.phase in (TrialPhase.PROBE, TrialPhase.TUNE, TrialPhase.FINAL_TRAIN)
        if trial.state is TrialState.ERRORED and trial.error is not None:
            line = f"trial {name} {kind} failed: {trial.error.kind}: {trial.error.message}"
            yield from self._once("trial", line, key=trial.name)
        elif matters and trial.state is TrialState.COMPLETED:
            score = "" if trial.score is None else f": score {score_text(trial.score)}"
            if trial.test_score is not None:
                score += f", test {score_text(trial.test_score)}"
            yield from self._once("trial", f"trial {name} {kind} done{score}", key=trial.name)
        elif matters and trial.state is TrialState.RUNNING:
            line = f"trial {name} {kind} running on {trial.worker}, attempt {trial.attempt}"
            yield from self._once("trial", line, key=trial.name)

    def _once(self, subject: str, line: str, key: str) -> Iterator[str]:
        """The line, unless it is the one said last about this subject."""
        if self._said.get(f"{subject} {key}", "") != line:
            self._said[f"{subject} {key}"] = line
            if line:
                yield line
