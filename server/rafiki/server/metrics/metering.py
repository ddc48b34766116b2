"""The counting parts of one server, and the page that Prometheus reads."""

from functools import partial

from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server

from rafiki.server.metrics.calls import CountingInterceptor
from rafiki.server.metrics.counters import Counters
from rafiki.server.metrics.database import CountingDatabase
from rafiki.server.metrics.runner import CountingRunner
from rafiki.server.metrics.state import State, StateCollector
from rafiki.server.store.backend import Synchronous


class Metering:
    """What takes the places of a server's parts so that they are counted.

    The page is served by threads beside the event loop, from `serve` to `close`.
    """

    def __init__(self, listen: str) -> None:
        self._listen = listen
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._counters = Counters(self._registry)
        self.interceptor = CountingInterceptor(self._counters)
        self.make_runner = partial(CountingRunner, self._counters)

    def open_database(self, url: str, synchronous: Synchronous) -> CountingDatabase:
        """The database at a URL, counted. Raises as Database."""
        database = CountingDatabase(url, synchronous)
        database.counters = self._counters
        return database

    def serve(self, state: State) -> int:
        """Serves `GET /metrics`; returns the port.

        Raises:
            OSError: The address cannot be served on.
        """
        self._registry.register(StateCollector(state))
        host, _, port = self._listen.rpartition(":")
        self._server, self._thread = start_http_server(
            int(port), addr=host.strip("[]"), registry=self._registry
        )
        return self._server.server_port

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
