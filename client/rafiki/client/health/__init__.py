"""Is a search any good? What the scores, rounds and trials of a job say, in words.

`read_health` asks a server, `assess` judges what is at hand. Every threshold is a named
constant with its reason, every warning carries the figures it rests on, and what was not
measured is said to be so.
"""

from rafiki.client.health.assess import assess, read_health
from rafiki.client.health.finding import Finding, Health, Level

__all__ = ["Finding", "Health", "Level", "assess", "read_health"]
