"""What services tell those who hand out trials and those who watch, after a commit."""

from typing import Protocol

from rafiki.server.domain.leases import Lease
from rafiki.server.domain.names import StudyName


class Signals(Protocol):
    """Receives news from any thread; never blocks and never fails."""

    def study_moved(self, study: StudyName) -> None:
        """Something happened that may let a study go on: look at it again."""

    def study_ended(self, study: StudyName) -> None:
        """A study has ended: whoever waits for its trials need not."""

    def lease_ended(self, lease: Lease) -> None:
        """A lease is gone: its worker has room again."""

    def lease_stopped(self, lease: Lease) -> None:
        """The worker is to be told to stop the trial."""

    def job_changed(self, job_id: str) -> None:
        """The change log of a job has new entries."""


class NoSignals:
    """For whom there is nobody to tell."""

    def study_moved(self, study: StudyName) -> None:
        """Nothing."""

    def study_ended(self, study: StudyName) -> None:
        """Nothing."""

    def lease_ended(self, lease: Lease) -> None:
        """Nothing."""

    def lease_stopped(self, lease: Lease) -> None:
        """Nothing."""

    def job_changed(self, job_id: str) -> None:
        """Nothing."""
