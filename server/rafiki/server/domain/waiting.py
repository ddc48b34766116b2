"""What a job waits for, in a line for people."""

from collections.abc import Sequence

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
    is_paused: bool = False,
) -> str:
    """One line on what the studies that have not ended wait for; empty if for nothing.

    Args:
        studies: The studies that have not ended.
        workers: The workers connected now.
        running: How many trials of the studies run now.
        is_paused: Whether their job is paused.
    """
    if running or not studies:
        return ""
    if is_paused:
        return "somebody to resume it"
    if any(may_run(worker, facts) for worker in workers for facts in studies):
        return "a free worker"
    facts = studies[0]
    what = "a worker with a GPU or TPU" if facts.gpu_count else "a worker"
    if facts.is_external:
        return f"{what} that names {facts.name}"
    if facts.gpu_count and workers and not any(worker.accelerators for worker in workers):
        return f"{what}: none of the {len(workers)} connected has one"
    if workers and not facts.gpu_count:
        return f"{what} that takes any study or names {facts.name}"
    return what
