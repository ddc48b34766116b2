"""The settings of the server."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import BeforeValidator, Field, SecretStr, ValidationInfo, field_validator

from rafiki.program import LogFormat, LogLevel, Settings
from rafiki.server.store.backend import Synchronous


def _address(value: object) -> object:
    """Checks `host:port`."""
    if isinstance(value, str):
        host, _, port = value.rpartition(":")
        if not host or not port.isdecimal() or int(port) > 65535:
            raise ValueError("must be host:port, such as 127.0.0.1:8780")
    return value


class ServerConfig(Settings):
    """What an operator chooses. A lease lasts at least three heartbeats."""

    program: ClassVar[str] = "server"

    data_dir: Path = Field(
        default=Path("rafiki-data"), description="folder for the database and blobs"
    )
    listen: Annotated[str, BeforeValidator(_address)] = Field(
        default="127.0.0.1:8780", description="address to serve on; port 0 takes a free one"
    )
    database: SecretStr = Field(
        default=SecretStr(""),
        description="URL of a PostgreSQL or SQLite database; a file in the data folder if empty",
    )
    synchronous: Synchronous = Field(
        default=Synchronous.NORMAL, description="what a commit waits for: full, normal or off"
    )
    heartbeat_s: float = Field(
        default=5.0, gt=0, description="seconds between heartbeats of workers"
    )
    lease_s: float = Field(
        default=20.0, description="seconds after which a silent worker loses its trials"
    )
    checkpoint_quota_bytes: int = Field(
        default=0, ge=0, description="bytes the checkpoints of a job may take; 0 for any"
    )
    keep_best: int = Field(
        default=5, ge=0, description="best trials of each study whose checkpoints are kept"
    )
    gc_interval_s: float = Field(
        default=600.0, gt=0, description="seconds between collections of garbage"
    )
    gc_grace_s: float = Field(
        default=3600.0, ge=0, description="seconds that a blob which nothing names is kept"
    )
    blob_cache_bytes: int = Field(
        default=256 << 20, ge=0, description="memory for blobs asked for again and again"
    )
    sync_blobs: bool = Field(
        default=True, description="whether blobs are on the disk before an answer"
    )
    unary_threads: int = Field(
        default=16, ge=1, le=256, description="threads that answer calls other than streams"
    )
    shutdown_grace_s: float = Field(
        default=2.0,
        ge=0,
        description="seconds that sessions have to close when the server goes away",
    )
    quarantine_failures: int = Field(
        default=5, ge=1, description="fast failures in a row that quarantine a worker"
    )
    quarantine_fast_s: float = Field(
        default=10.0, gt=0, description="seconds within which a failure is fast"
    )
    quarantine_s: float = Field(
        default=60.0, gt=0, description="seconds of the first quarantine; doubled each time"
    )
    metrics_listen: Annotated[str, BeforeValidator(lambda x: _address(x) if x else x)] = Field(
        default="", description="address of the metrics page, for Prometheus; off if empty"
    )
    log_level: LogLevel = Field(default="INFO", description="how much to log, to stderr")
    log_format: LogFormat = Field(default="text", description="lines for people, or JSON objects")

    @field_validator("lease_s")
    @classmethod
    def _outlasts_heartbeats(cls, value: float, info: ValidationInfo) -> float:
        heartbeat_s = info.data.get("heartbeat_s")
        if heartbeat_s is not None and not value >= 3 * heartbeat_s:
            raise ValueError(
                f"must be at least three heartbeat intervals of {heartbeat_s:g} s each"
            )
        return value

    @property
    def database_url(self) -> str:
        """The URL of the database, its password included: not to be shown."""
        url = self.database.get_secret_value()
        return url or f"sqlite:///{self.data_dir / 'rafiki.db'}"

    @property
    def heartbeat(self) -> timedelta:
        """`heartbeat_s` as a duration."""
        return timedelta(seconds=self.heartbeat_s)

    @property
    def lease(self) -> timedelta:
        """`lease_s` as a duration."""
        return timedelta(seconds=self.lease_s)
