"""What the server knows anyway, read when the metrics are."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from rafiki.server.domain.workers import Worker


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where to read it, from any thread."""

    version: str
    workers: Callable[[], tuple[Worker, ...]]
    leases: Callable[[], int]
    totals: Callable[[], tuple[Mapping[str, int], Mapping[str, int]]]  # trials, studies by state
    queues: Callable[[], Mapping[str, int]]


class StateCollector(Collector):
    """Gauges of the state of a server."""

    def __init__(self, state: State) -> None:
        self._state = state

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Nothing: the state may not be read before the server has started."""
        return ()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The gauges as they are now."""
        state = self._state
        workers = state.workers()
        trials, studies = state.totals()
        yield _labelled("build_info", "The release that runs.", "version", {state.version: 1})
        yield _single("sessions", "Open sessions of workers.", len(workers))
        yield _single(
            "worker_slots",
            "Trials that the workers can run at once.",
            sum(w.capacity for w in workers),
        )
        yield _single(
            "worker_accelerators",
            "GPUs and TPUs of the workers.",
            sum(w.accelerators for w in workers),
        )
        yield _single("leases", "Leases held.", state.leases())
        yield _labelled("trials", "Trials by state.", "state", trials)
        yield _labelled("studies", "Studies by state.", "state", studies)
        yield _labelled("queue_length", "What waits, by queue.", "queue", state.queues())


def _single(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"rafiki_{name}", text, value=value)


def _labelled(name: str, text: str, label: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"rafiki_{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family
