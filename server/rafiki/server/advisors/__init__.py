"""The search schemes: what is tried next, and when to stop.

jax is imported when the first advisor with a controller (ENAS, REINFORCE) is created, not before.
"""

from rafiki.server.advisors.choose import check_budget, create_advisor, resolve_settings

__all__ = ["check_budget", "create_advisor", "resolve_settings"]
