"""A server and workers on this machine, for `rafiki up` and `rafiki demo`."""

from rafiki.client.local.platform import LocalPlatform, PlatformConfig, PlatformError

__all__ = ["LocalPlatform", "PlatformConfig", "PlatformError"]
