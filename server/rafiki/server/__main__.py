"""`rafiki-server`: serves the API from a data folder until it is told to stop."""

import asyncio
import logging
import os
import sys
from collections.abc import Sequence

from rafiki.program import SettingsError, configure_logging, read_settings
from rafiki.server.config import ServerConfig


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server; returns the exit status."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        config, warnings = read_settings(ServerConfig, given, __doc__)
    except SettingsError as error:
        return _fail(error, 2)
    configure_logging(config.log_level, config.log_format)
    for warning in warnings:
        logging.getLogger("rafiki.server").warning("%s", warning)
    return _serve(config)


def _serve(config: ServerConfig) -> int:
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # The advisors' small networks need no accelerator, and jax must not hold one. It reads
    # this when it is first imported, by a study that needs it.
    os.environ["JAX_PLATFORMS"] = "cpu"
    # A server that is started again finds the controller's programs compiled.
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(config.data_dir / "jax-cache"))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # The matrices of BAYES_OPT are small: threads would cost more than they bring, and the
    # last bits of a proposal, which a replay repeats, would depend on their number. NumPy's
    # linear algebra reads this when it is first imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # What gRPC's core would print itself is reported by the server, in its own words.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from rafiki.server.app import CannotListen, serve
    from rafiki.server.store.database import UnusableDatabase

    try:
        asyncio.run(serve(config))
    except (UnusableDatabase, CannotListen) as error:
        return _fail(error, 1)
    return 0


def _fail(error: Exception, status: int) -> int:
    print(f"rafiki-server: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
