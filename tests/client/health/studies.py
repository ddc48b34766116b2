"""Hand-made studies, as a server would send them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from rafiki.client.health import Finding, Health, assess
from rafiki.model.knobs import ArchKnob, FloatKnob, KnobConfig
from rafiki.resources import (
    AdvisorKind,
    AdvisorSettings,
    BayesOptOptions,
    Budget,
    Candidate,
    ControlArm,
    EnasOptions,
    EndReason,
    EvolutionOptions,
    ReinforceOptions,
    ScoreStats,
    Study,
    StudyPlan,
    StudyRound,
    StudySpec,
    StudyState,
    TrainJob,
    Trial,
    TrialError,
    TrialErrorKind,
    TrialPhase,
    TrialState,
)

JOB = "trainJobs/a1b2c3d4"
STUDY = f"{JOB}/studies/1"

# Four positions of four choices: the entropy of uniform draws is 4 ln 4 = 5.545 nats.
CELL: KnobConfig = {"cell": ArchKnob([["conv", "pool", "skip", "none"]] * 4)}
RATE: KnobConfig = {"rate": FloatKnob(0.0, 1.0)}

ENAS = AdvisorSettings(kind=AdvisorKind.ENAS, enas=EnasOptions())
REINFORCE = AdvisorSettings(kind=AdvisorKind.REINFORCE, reinforce=ReinforceOptions())
BAYES_OPT = AdvisorSettings(kind=AdvisorKind.BAYES_OPT, bayes_opt=BayesOptOptions())
EVOLUTION = AdvisorSettings(
    kind=AdvisorKind.EVOLUTION, evolution=EvolutionOptions(population_size=4, sample_size=2)
)
RANDOM = AdvisorSettings(kind=AdvisorKind.RANDOM)


def job(**changes: object) -> TrainJob:
    made = TrainJob(
        name=JOB,
        app="digits",
        task="IMAGE_CLASSIFICATION",
        studies=(StudySpec(model="models/1"),),
        budget=Budget(time=timedelta(minutes=10)),
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # fields of TrainJob


def study(settings: AdvisorSettings, *, ended: bool = True, **changes: object) -> Study:
    """A study that searches cells if its scheme has a controller, else a rate."""
    has_cell = settings.kind in (AdvisorKind.ENAS, AdvisorKind.REINFORCE)
    made = Study(
        name=STUDY,
        spec=StudySpec(model="models/1", advisor=settings),
        knob_config=CELL if has_cell else RATE,
        plan=StudyPlan(rounds=10, trials=1000, measured=True),
    )
    if ended:
        made = replace(
            made,
            state=StudyState.SUCCEEDED,
            end_reason=EndReason.SEARCH_COMPLETE,
            end_time=datetime(2026, 1, 2, tzinfo=UTC),
        )
    return replace(made, **changes)  # type: ignore[arg-type]  # fields of Study


def arm(
    search: float,
    control: float,
    *,
    deviation: float = 0.1,
    count: int = 10,
    tau: float | None = None,
    ranked: int = 0,
) -> ControlArm:
    """Two arms of so many scores; with ten of deviation 0.1 the standard error is 0.0447."""

    def stats(mean: float) -> ScoreStats:
        return ScoreStats(
            count=count, mean=mean, standard_deviation=deviation, best=mean + deviation
        )

    return ControlArm(
        search=stats(search), control=stats(control), rank_correlation=tau, rank_count=ranked
    )


def rounds(means: Sequence[float], entropies: Sequence[float] = ()) -> list[StudyRound]:
    return [
        StudyRound(
            study=STUDY,
            round=number,
            checkpoint=f"{STUDY}/checkpoints/{number}",
            mean_reward=mean,
            baseline=mean - 0.01,
            entropy=entropies[number - 1] if entropies else 4.0,
            best=Candidate(archs={"cell": (0, 0, 0, 0)}, score=mean + 0.1),
        )
        for number, mean in enumerate(means, 1)
    ]


def trial(number: int, phase: TrialPhase, score: float | None = None, **changes: object) -> Trial:
    made = Trial(
        name=f"{STUDY}/trials/{number}", phase=phase, state=TrialState.COMPLETED, score=score
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # fields of Trial


def tunes(scores: Sequence[float], **changes: object) -> list[Trial]:
    """Completed TUNE trials, each of another rate."""
    return [
        trial(number, TrialPhase.TUNE, score, knobs={"rate": number / 1000}, **changes)
        for number, score in enumerate(scores, 1)
    ]


def errored(number: int, kind: TrialErrorKind = TrialErrorKind.CRASHED) -> Trial:
    return trial(
        number,
        TrialPhase.TUNE,
        state=TrialState.ERRORED,
        error=TrialError(kind=kind, message="it died"),
    )


def evaluation(
    number: int, archs: Sequence[tuple[int, ...]], *, round: int = 1, control: bool = False
) -> Trial:
    """A completed SEARCH_EVAL of these cells."""
    return trial(
        number,
        TrialPhase.SEARCH_EVAL,
        0.5,
        round=round,
        control=control,
        candidates=tuple(Candidate(archs={"cell": cell}, score=0.5) for cell in archs),
    )


def health(
    study: Study,
    *,
    rounds: Sequence[StudyRound] = (),
    trials: Sequence[Trial] = (),
    job_: TrainJob | None = None,
) -> Health:
    return assess(job_ or job(), study, rounds, trials)


def finding(health: Health, title: str) -> Finding:
    """The only finding whose title has these words."""
    found = [one for one in health.findings if title in one.title]
    assert len(found) == 1, [one.title for one in health.findings]
    return found[0]


def titles(health: Health) -> list[str]:
    return [one.title for one in health.findings]
