"""`rafiki-server`: serves the API from a data folder until it is told to stop.

Flags come before `RAFIKI_*` variables, these before the defaults.
"""

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server; returns the exit status."""
    options = _parser(os.environ).parse_args(arguments)
    logging.basicConfig(
        level=options.log_level,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # The advisors' small networks need no accelerator, and jax must not hold one. It reads
    # this when it is first imported, by a study that needs it.
    os.environ["JAX_PLATFORMS"] = "cpu"
    # A server that is started again finds the controller's programs compiled.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(options.data_dir / "jax-cache"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # The matrices of BAYES_OPT are small: threads would cost more than they bring, and the
    # last bits of a proposal, which a replay repeats, would depend on their number. NumPy's
    # linear algebra reads this when it is first imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # What gRPC's core would print itself is reported by the server, in its own words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from rafiki.server.app import CannotListen, ServerConfig, serve
    from rafiki.server.store.database import UnusableDatabase

    try:
        config = ServerConfig(
            data_dir=options.data_dir,
            listen=options.listen,
            heartbeat=timedelta(seconds=options.heartbeat_s),
            lease=timedelta(seconds=options.lease_s),
            checkpoint_quota_bytes=options.checkpoint_quota_bytes,
            keep_best=options.keep_best,
            gc_interval=timedelta(seconds=options.gc_interval_s),
            gc_grace=timedelta(seconds=options.gc_grace_s),
            blob_cache_bytes=options.blob_cache_bytes,
            sync_blobs=options.sync_blobs,
        )
        asyncio.run(serve(config))
    except (UnusableDatabase, ValueError, CannotListen) as error:
        print(f"rafiki-server: {error}", file=sys.stderr)
        return 1
    return 0


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rafiki-server", description=__doc__)
    for flag, (default, kind, text) in _FLAGS.items():
        variable = "RAFIKI_" + flag.removeprefix("--").replace("-", "_").upper()
        parser.add_argument(
            flag,
            default=environment.get(variable, default),
            type=kind,
            help=f"{text} (default {default}; {variable})",
        )
    return parser


def _level(text: str) -> str:
    if text.upper() not in _LEVELS:
        raise argparse.ArgumentTypeError(f"must be one of {', '.join(_LEVELS)}")
    return text.upper()


def _yes_or_no(text: str) -> bool:
    if text not in ("yes", "no"):
        raise argparse.ArgumentTypeError("must be yes or no")
    return text == "yes"


_FLAGS: Mapping[str, tuple[str, Callable[[str], object], str]] = {
    "--data-dir": ("rafiki-data", Path, "folder for the database and blobs"),
    "--listen": ("127.0.0.1:8780", str, "address to serve on; port 0 takes a free one"),
    "--heartbeat-s": ("5", float, "seconds between heartbeats of workers"),
    "--lease-s": ("20", float, "seconds after which a silent worker loses its trials"),
    "--checkpoint-quota-bytes": ("0", int, "bytes the checkpoints of a job may take; 0: any"),
    "--keep-best": ("5", int, "best trials of each study whose checkpoints are kept"),
    "--gc-interval-s": ("600", float, "seconds between collections of garbage"),
    "--gc-grace-s": ("3600", float, "seconds that a blob which nothing names is kept"),
    "--blob-cache-bytes": ("268435456", int, "memory for blobs asked for again and again"),
    "--sync-blobs": ("yes", _yes_or_no, "whether blobs are on the disk before an answer"),
    "--log-level": ("INFO", _level, "how much to log, to stderr"),
}


if __name__ == "__main__":
    sys.exit(main())
