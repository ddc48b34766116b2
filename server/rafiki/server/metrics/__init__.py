"""Metrics for Prometheus: what is counted, where, and the page that shows it.

Nothing else knows of it: `app` puts the counting runners, database and interceptor of a
`Metering` in place of the plain ones when a page is asked for. What the server knows anyway is
read when the page is.
"""

from rafiki.server.metrics.metering import Metering
from rafiki.server.metrics.state import State

__all__ = ["Metering", "State"]
