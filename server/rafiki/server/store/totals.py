"""How many trials and studies there are, by state, from a few rows."""

from collections.abc import Mapping

from sqlalchemy import Connection, func, select

from rafiki.resources import StudyState, TrialState
from rafiki.server.store.tables import studies, trials

# Studies count their ended trials; an index leads to the rest.
_ENDED = select(
    func.coalesce(func.sum(studies.c.completed_trials), 0),
    func.coalesce(func.sum(studies.c.errored_trials), 0),
    func.coalesce(func.sum(studies.c.cancelled_trials), 0),
)
_LIVE = (TrialState.PENDING, TrialState.RUNNING)
_NOT_ENDED = (
    select(trials.c.state, func.count()).where(trials.c.state.in_(_LIVE)).group_by(trials.c.state)
)
_STUDIES = select(studies.c.state, func.count()).group_by(studies.c.state)


def trial_totals(connection: Connection) -> Mapping[str, int]:
    """The number of trials in every state."""
    completed, errored, cancelled = connection.execute(_ENDED).one()
    ended = (TrialState.COMPLETED, TrialState.ERRORED, TrialState.CANCELLED)
    totals = {str(state): 0 for state in _LIVE}
    totals |= dict(zip(map(str, ended), (completed, errored, cancelled), strict=True))
    return totals | {str(state): count for state, count in connection.execute(_NOT_ENDED)}


def study_totals(connection: Connection) -> Mapping[str, int]:
    """The number of studies in every state."""
    totals = {str(state): 0 for state in StudyState}
    return totals | {str(state): count for state, count in connection.execute(_STUDIES)}
