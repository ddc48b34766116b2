"""The state of a study in memory: its advisor, folded over its events, and its live trials."""

from collections import deque
from dataclasses import dataclass, field
from typing import Self

from sqlalchemy import Connection

from rafiki.resources import Direction, TrialState
from rafiki.server.domain.advisor import Advisor, Event
from rafiki.server.domain.attempts import LiveTrial
from rafiki.server.domain.names import StudyName, TrialName
from rafiki.server.store.events import (
    Snapshot,
    last_number,
    last_sequence,
    load_snapshot,
    read_events,
)
from rafiki.server.store.rankings import best_trial, rank_of
from rafiki.server.store.studies import count_rounds
from rafiki.server.store.trials import find_trial, unfinished_trials

# A snapshot is due after this many events, and after half as many as there were before it:
# then the work of taking them stays in proportion to the study.
SNAPSHOT_EVENTS = 256


@dataclass(slots=True)
class StudyFold:
    """What is in the database, and nothing else: it moves only after a commit.

    `sequence` and `number` are those of the latest event and trial. Events wait in
    `_waiting` until `settle` applies them to the advisor, in their order.
    """

    advisor: Advisor
    sequence: int = 0
    number: int = 0
    snapshot_sequence: int = 0
    stored_rounds: int = 0
    best: tuple[int, float] | None = None  # rank of the phase, and score
    live: dict[int, LiveTrial] = field(default_factory=dict)
    pending: set[int] = field(default_factory=set)
    _waiting: deque[Event] = field(default_factory=deque)

    @classmethod
    def load(
        cls, connection: Connection, study: StudyName, advisor: Advisor, direction: Direction
    ) -> Self:
        """Folds a fresh advisor over what is stored of a study."""
        snapshot = load_snapshot(connection, study)
        after = 0
        if snapshot is not None:
            advisor.load(snapshot.state)
            after = snapshot.after_sequence
        for _, event in read_events(connection, study, after):
            advisor.apply(event)
        fold = cls(
            advisor,
            sequence=last_sequence(connection, study),
            number=last_number(connection, study),
            snapshot_sequence=after,
            stored_rounds=count_rounds(connection, study),
        )
        best = best_trial(connection, study.job, [study.study], direction)
        if best is not None:
            stored = find_trial(connection, best[0])
            assert stored is not None
            fold.best = (rank_of(stored.trial), best[1])
        for live in unfinished_trials(connection, study):
            fold.keep(live)
        return fold

    def note(self, event: Event) -> None:
        """Takes in the next event, which has been committed."""
        self.sequence += 1
        self._waiting.append(event)

    def settle(self) -> None:
        """Applies the events that wait."""
        while self._waiting:
            self.advisor.apply(self._waiting[0])
            self._waiting.popleft()

    def keep(self, live: LiveTrial) -> None:
        """Takes in the state of a trial, which has been committed."""
        number = TrialName.parse(live.trial.name).trial
        self.pending.discard(number)
        if live.trial.state.is_end:
            self.live.pop(number, None)
            return
        self.live[number] = live
        if live.trial.state is TrialState.PENDING:
            self.pending.add(number)

    @property
    def running(self) -> list[LiveTrial]:
        """The trials that a worker has."""
        return [live for number, live in self.live.items() if number not in self.pending]

    @property
    def is_snapshot_due(self) -> bool:
        """Whether reading the events again would take long."""
        new = self.sequence - self.snapshot_sequence
        return new >= max(SNAPSHOT_EVENTS, self.snapshot_sequence // 2)

    def snapshot(self) -> Snapshot:
        """The state after all events so far; none may wait."""
        assert not self._waiting
        return Snapshot(self.sequence, self.advisor.dump())
