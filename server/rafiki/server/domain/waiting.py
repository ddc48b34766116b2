"""What a job waits for, in a line for people."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rafiki.server.domain.studies import StudyFacts
from rafiki.server.domain.workers import Worker


def may_run(worker: Worker, facts: StudyFacts) -> bool:
    """Whether trials of a study can be given to a worker at all."""
    return worker.may_run(
        facts.name, is_external=facts.is_external, needs_accelerator=facts.gpu_count > 0
    )


def waiting_for(
    studies: Sequence[StudyFacts],
    workers: Sequence[Worker],
    running: int,
    *,
    quarantined: Mapping[str, str] = MappingProxyType({}),
    is_paused: bool = False,
) -> str:
    """One line on what the studies that have not ended wait for; empty if for nothing.

    Args:
        studies: The studies that have not ended.
        workers: The workers connected now.
        running: How many trials of the studies run now.
        quarantined: Why workers get no trials for a while, by their ids.
        is_paused: Whether their job is paused.
    """
    if running or not studies:
        return ""
    if is_paused:
        return "somebody to resume it"
    able = [worker for worker in workers if any(may_run(worker, facts) for facts in studies)]
    if able:
        return _free_worker(able, quarantined)
    facts = studies[0]
    what = "a worker with a GPU or TPU" if facts.gpu_count else "a worker"
    if facts.is_external:
        return f"{what} that names {facts.name}"
    if facts.gpu_count and workers and not any(worker.accelerators for worker in workers):
        return f"{what}: none of the {len(workers)} connected has one"
    if workers and not facts.gpu_count:
        return f"{what} that takes any study or names {facts.name}"
    return what


def _free_worker(able: Sequence[Worker], quarantined: Mapping[str, str]) -> str:
    """What to wait for where there are workers that may run the trials."""
    first = able[0].worker_id
    if any(worker.worker_id not in quarantined for worker in able):
        return "a free worker"
    others = f" and {len(able) - 1} more are" if len(able) > 1 else " is"
    return f"a worker that works: {first}{others} quarantined, as {quarantined[first]}"
