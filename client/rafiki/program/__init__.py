"""What the programs of Rafiki, server and worker, share: how they are set up and how they log."""

from rafiki.program.logs import LogFormat, LogLevel, configure_logging, lease_id
from rafiki.program.settings import (
    Settings,
    SettingsError,
    Words,
    read_settings,
    setting_defaults,
)

__all__ = [
    "LogFormat",
    "LogLevel",
    "Settings",
    "SettingsError",
    "Words",
    "configure_logging",
    "lease_id",
    "read_settings",
    "setting_defaults",
]
