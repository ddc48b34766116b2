"""What is counted while the server runs. Labels are methods, states and reasons, never ids."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Counters:
    """The counters of one server. Thread-safe."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"rafiki_{name}", text, labels, registry=registry)

        def seconds(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(
                f"rafiki_{name}_seconds", text, labels, registry=registry, buckets=_SECONDS
            )

        self.proposals = counter("proposals", "Trials proposed.", "scheme")
        self.assignments = counter("assignments", "Attempts of trials assigned.", "phase")
        self.completions = counter(
            "completions",
            "Outcomes answered, repeats included, by what became of the trial.",
            "state",
        )
        self.leases_lost = counter("leases_lost", "Leases lost or handed back.", "reason")
        self.assign = seconds("assign", "From a worker with room to its trial, commit included.")
        self.complete = seconds("complete", "From an outcome to its commit.")
        self.write = seconds("database_write", "A write transaction with its commit.")
        self.write_wait = seconds("database_write_wait", "The wait for one's turn to write.")
        self.calls = counter("calls", "Calls ended, by status code.", "method", "code")
        self.call = seconds("call", "Calls that are no streams.", "method")
        self.open_calls = Gauge(
            "rafiki_open_calls", "Calls and streams that are open.", ["method"], registry=registry
        )
        self.received = counter("received_bytes", "Message bytes from clients.", "method")
        self.sent = counter("sent_bytes", "Message bytes to clients.", "method")
