"""What is known about a job that is being watched: a fold over its events."""

from rafiki.client import names
from rafiki.client.client import Client
from rafiki.resources import (
    Direction,
    Study,
    StudyPlan,
    StudyRound,
    TrainJob,
    Trial,
    TrialPhase,
    TrialState,
)

Event = TrainJob | Study | Trial | StudyRound


class JobProgress:
    """The latest job, studies, rounds and running trials, and the best trial so far.

    Written by one thread; `apply` replaces whole values, so that another may read.
    """

    def __init__(self, job: TrainJob) -> None:
        self.job = job
        self.studies: dict[str, Study] = {}
        # By study: the first plan made from measured costs, and the first after a round.
        self.first_plans: dict[str, StudyPlan] = {}
        self.round_plans: dict[str, StudyPlan] = {}
        self.rounds: dict[str, dict[int, StudyRound]] = {}
        self.running: dict[str, Trial] = {}
        self.best: Trial | None = None

    @classmethod
    def load(cls, client: Client, name: str) -> "JobProgress":
        """What has happened so far: a watch tells only what happens from now on."""
        progress = cls(client.get_train_job(name))
        for study in client.list_studies(name):
            progress.apply(study)
            for study_round in client.list_study_rounds(study.name):
                progress.apply(study_round)
        for trial in client.list_trials(name, states=[TrialState.RUNNING]):
            progress.apply(trial)
        if progress.job.best_trial:
            progress.apply(client.get_trial(progress.job.best_trial))
        return progress

    def apply(self, event: Event) -> None:
        """Folds in an event."""
        match event:
            case TrainJob():
                self.job = event
            case Study():
                self.studies = {**self.studies, event.name: event}
                if event.plan.measured:
                    self.first_plans.setdefault(event.name, event.plan)
                    if event.plan.completed_rounds:
                        self.round_plans.setdefault(event.name, event.plan)
            case StudyRound():
                rounds = {**self.rounds.get(event.study, {}), event.round: event}
                self.rounds = {**self.rounds, event.study: rounds}
            case Trial():
                self._apply_trial(event)

    def rounds_of(self, study: str) -> list[StudyRound]:
        """The rounds of a study in order."""
        return [r for _, r in sorted(self.rounds.get(study, {}).items())]

    def running_of(self, study: str) -> list[Trial]:
        """The running trials of a study, by number."""
        trials = [t for t in self.running.values() if names.study_of(t.name) == study]
        return sorted(trials, key=lambda trial: int(trial.name.rpartition("/")[2]))

    def _apply_trial(self, trial: Trial) -> None:
        running = {name: t for name, t in self.running.items() if name != trial.name}
        if trial.state is TrialState.RUNNING:
            running[trial.name] = trial
        self.running = running
        # The job may name its best trial before the events of that trial have come.
        if is_deployable(trial) and (self.best is None or self._is_better(trial, self.best)):
            self.best = trial

    def _is_better(self, trial: Trial, best: Trial) -> bool:
        if trial.phase is not best.phase:  # scores of different phases are not compared
            return trial.phase is TrialPhase.FINAL_TRAIN
        assert trial.score is not None and best.score is not None
        if self.job.direction is Direction.MINIMIZE:
            return trial.score < best.score
        return trial.score > best.score


def is_deployable(trial: Trial) -> bool:
    """Whether a trial may be the best of its job."""
    return (
        trial.state is TrialState.COMPLETED
        and trial.score is not None
        and trial.phase in (TrialPhase.TUNE, TrialPhase.FINAL_TRAIN)
        and not trial.control
    )
