"""Whose turn it is when a worker has room: jobs share the workers, studies their job's part."""

from collections.abc import Callable, Iterable

from rafiki.server.domain.names import StudyName


class Turns:
    """Orders studies that wait for a worker.

    The job with the fewest running trials comes first, so that one of long trials does not
    end up with every worker; among equals the job served longest ago, then its study.

    Args:
        count_of_job: How many trials of a job run now.
    """

    def __init__(self, count_of_job: Callable[[str], int]) -> None:
        self._count_of_job = count_of_job
        self._served = 0
        self._of_study: dict[StudyName, int] = {}
        self._of_job: dict[str, int] = {}

    def serve(self, study: StudyName) -> int:
        """Notes that a trial of a study is given out; returns how many have been so far."""
        self._served += 1
        self._of_study[study] = self._of_job[study.job] = self._served
        return self._served

    def order(self, studies: Iterable[StudyName]) -> list[StudyName]:
        """The studies, next first."""
        return sorted(studies, key=self._key)

    def forget(self, study: StudyName) -> None:
        """A study has ended."""
        self._of_study.pop(study, None)
        if not any(other.job == study.job for other in self._of_study):
            self._of_job.pop(study.job, None)

    def _key(self, study: StudyName) -> tuple[int, int, int, StudyName]:
        return (
            self._count_of_job(study.job),
            self._of_job.get(study.job, 0),
            self._of_study.get(study, 0),
            study,
        )
