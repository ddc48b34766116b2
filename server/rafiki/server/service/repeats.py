"""Outcomes that are reported again."""

from rafiki.resources import Trial
from rafiki.server.domain.errors import LeaseLost, ResourceNotFound
from rafiki.server.domain.names import TrialName
from rafiki.server.store.database import Database
from rafiki.server.store.trials import find_trial


def recorded_outcome(database: Database, name: TrialName, token: str) -> Trial:
    """The trial, if the attempt with this lease has reported its outcome before.

    Raises:
        ResourceNotFound: There is no such trial.
        LeaseLost: The lease is not that of its latest attempt.
    """
    with database.read() as connection:
        live = find_trial(connection, name)
    if live is None:
        raise ResourceNotFound(str(name))
    is_over = live.trial.state.is_end or live.attempt_error is not None
    if not token or live.lease_token != token or not is_over:
        raise LeaseLost(str(name))
    return live.trial
