"""The `rafiki` command."""

from rafiki.client.cli.app import main

__all__ = ["main"]
