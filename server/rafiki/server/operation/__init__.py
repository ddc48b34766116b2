"""What an operator does beside running the server: check, back up, restore."""

from rafiki.server.operation.backup import BackupError, back_up
from rafiki.server.operation.check import Finding, check
from rafiki.server.operation.restore import restore

__all__ = ["BackupError", "Finding", "back_up", "check", "restore"]
