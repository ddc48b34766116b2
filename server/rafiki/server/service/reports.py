"""What trials report while they run."""

from collections.abc import Sequence

from rafiki.resources import TrialLog, TrialMetrics, TrialPlot, TrialProgress, TrialState
from rafiki.server.domain.clock import Clock
from rafiki.server.domain.errors import InvalidArgument, LeaseLost, ResourceNotFound
from rafiki.server.domain.names import TrialName
from rafiki.server.service.signals import Signals
from rafiki.server.store.changes import add_trial_change
from rafiki.server.store.database import Database
from rafiki.server.store.reports import insert_logs, insert_metrics, put_plots, stored_sequence
from rafiki.server.store.trials import find_trial, note_progress

# A trial may declare so many plots.
_MAX_PLOTS = 100


class ReportService:
    """Stores reports of leased trials. Thread-safe."""

    def __init__(self, database: Database, clock: Clock, signals: Signals) -> None:
        self._database = database
        self._clock = clock
        self._signals = signals

    def report(
        self,
        name: TrialName,
        token: str,
        *,
        logs: Sequence[TrialLog],
        metrics: Sequence[TrialMetrics],
        plots: Sequence[TrialPlot],
        progress: TrialProgress | None,
    ) -> int:
        """Stores what is new; returns the highest sequence stored for the attempt.

        Raises:
            ResourceNotFound: There is no such trial.
            LeaseLost: The lease is not that of its latest attempt, or the trial has ended.
            InvalidArgument: Two entries have one sequence.
        """
        sequences = [log.sequence for log in logs] + [entry.sequence for entry in metrics]
        _check_sequences(sequences)
        if len(plots) > _MAX_PLOTS:
            raise InvalidArgument([("plots", f"must have at most {_MAX_PLOTS} entries")])
        is_running = False
        with self._database.write() as connection:
            live = find_trial(connection, name)
            if live is None:
                raise ResourceNotFound(str(name))
            if not token or live.lease_token != token or live.trial.state.is_end:
                raise LeaseLost(str(name))
            attempt = live.trial.attempt
            stored = stored_sequence(connection, name, attempt)
            insert_logs(connection, name, attempt, [x for x in logs if x.sequence > stored])
            insert_metrics(connection, name, attempt, [x for x in metrics if x.sequence > stored])
            put_plots(connection, name, plots)
            is_running = live.trial.state is TrialState.RUNNING
            if progress is not None and is_running:
                note_progress(connection, name, lease_token=token, progress=progress)
                add_trial_change(connection, name, self._clock())
            stored = max([stored, *sequences])
        if progress is not None and is_running:
            self._signals.job_changed(name.job)
        return stored


def _check_sequences(sequences: Sequence[int]) -> None:
    if len(set(sequences)) < len(sequences):
        raise InvalidArgument(
            [("logs", "the sequences of logs and metrics must be distinct, over both together")]
        )
