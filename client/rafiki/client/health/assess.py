"""The checks put together."""

from collections.abc import Callable, Iterable, Iterator, Sequence

from rafiki.client.client import Client
from rafiki.client.health import arms, controller, draws, finals, progress, tuning
from rafiki.client.health.evidence import Evidence
from rafiki.client.health.finding import Finding, Health, Level
from rafiki.resources import Study, StudyRound, TrainJob, Trial

Check = Callable[[Evidence], Iterator[Finding]]

_ALWAYS: Sequence[Check] = (
    progress.measured,
    progress.standing,
    progress.budget,
    progress.errors,
)
_OF_SCORES: Sequence[Check] = (
    arms.chance,
    arms.ranking,
    controller.updates,
    controller.entropy,
    controller.rewards,
    draws.variety,
    draws.preference,
    tuning.start,
    tuning.standstill,
    tuning.stopping,
    finals.gap,
    finals.beside_random,
    finals.repeated,
)


def assess(
    job: TrainJob, study: Study, rounds: Iterable[StudyRound], trials: Iterable[Trial]
) -> Health:
    """What can be said about a study, warnings first.

    Args:
        job: The job of the study.
        study: With its resolved settings.
        rounds: Those completed, in any order.
        trials: All of the study, in any order.
    """
    evidence = Evidence(
        job=job,
        study=study,
        # A round in which nothing was scored has neither means nor an entropy.
        rounds=tuple(sorted((r for r in rounds if r.best is not None), key=lambda r: r.round)),
        trials=tuple(sorted(trials, key=lambda trial: int(trial.name.rpartition("/")[2]))),
    )
    checks = [*_ALWAYS, *(_OF_SCORES if evidence.is_measured else ())]
    findings = [finding for check in checks for finding in check(evidence)]
    levels = list(Level)
    findings.sort(key=lambda finding: -levels.index(finding.level))
    return Health(study=study.name, advisor=study.spec.advisor.kind, findings=tuple(findings))


def read_health(client: Client, job: str) -> list[Health]:
    """The health of every study of a job, in their order. Reads all of its trials.

    Args:
        client: Of the server.
        job: The full name of the job.
    """
    found = client.get_train_job(job)
    return [
        assess(found, study, client.list_study_rounds(study.name), client.list_trials(study.name))
        for study in client.list_studies(job)
    ]
