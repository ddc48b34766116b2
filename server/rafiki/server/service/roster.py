"""The open sessions, and which of them can take a trial of a study now."""

from collections import defaultdict
from collections.abc import Iterator

from rafiki.server.domain.names import JobName, StudyName
from rafiki.server.domain.studies import StudyFacts
from rafiki.server.domain.waiting import may_run
from rafiki.server.domain.workers import Worker
from rafiki.server.service.sessions import Session


class Roster:
    """One session per worker, found by what the worker asked for. On the event loop only.

    `workers` are those connected now; the tuple is replaced, never changed, so that any
    thread may read it.
    """

    def __init__(self) -> None:
        self.workers: tuple[Worker, ...] = ()
        self._sessions: dict[str, Session] = {}
        # By the studies and jobs that workers name; None for those that take any study.
        self._takers: defaultdict[StudyName | JobName | None, dict[str, Session]]
        self._takers = defaultdict(dict)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._sessions.values())

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, worker_id: str) -> Session | None:
        """The session of a worker, while it is open."""
        return self._sessions.get(worker_id)

    def has(self, session: Session) -> bool:
        """Whether the session is the one of its worker."""
        return self._sessions.get(session.worker.worker_id) is session

    def add(self, session: Session) -> None:
        """Takes in a session, in place of an earlier one of the worker."""
        worker = session.worker
        earlier = self._sessions.get(worker.worker_id)
        if earlier is not None:
            self.remove(earlier)
        self._sessions[worker.worker_id] = session
        for named in worker.studies or (None,):
            self._takers[named][worker.worker_id] = session
        self._count()

    def remove(self, session: Session) -> bool:
        """Takes a session out; False if it was replaced before."""
        if not self.has(session):
            return False
        worker = session.worker
        del self._sessions[worker.worker_id]
        for named in worker.studies or (None,):
            self._takers[named].pop(worker.worker_id, None)
            if not self._takers[named]:
                del self._takers[named]
        self._count()
        return True

    def choose(self, facts: StudyFacts, avoided: frozenset[str], *, ahead: bool) -> Session | None:
        """The session to give the next trial of a study to: rather one of no avoided worker,
        with little to do, that was served long ago. None if none has room.

        `ahead`: whether trials may be sent before there is room to run them.
        """
        return min(
            (session for session in self._able(facts) if session.has_room(facts, ahead=ahead)),
            key=lambda s: (s.worker.worker_id in avoided, len(s.held), s.last_assigned),
            default=None,
        )

    def count_able(self, facts: StudyFacts) -> int:
        """How many workers are given trials of a study, busy now or not."""
        return sum(session.takes_trials for session in self._able(facts))

    def _able(self, facts: StudyFacts) -> Iterator[Session]:
        named = self._takers.get(facts.name, {})
        yield from (session for session in named.values() if may_run(session.worker, facts))
        for key in (facts.name.parent, None):
            for worker_id, session in self._takers.get(key, {}).items():
                if worker_id not in named and may_run(session.worker, facts):
                    yield session

    def _count(self) -> None:
        self.workers = tuple(session.worker for session in self._sessions.values())
