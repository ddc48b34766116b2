"""`python -m rafiki.worker`, also installed as `rafiki-worker`."""

import logging
import sys

from rafiki.program import SettingsError, configure_logging, read_settings
from rafiki.worker.app import run_worker
from rafiki.worker.config import WorkerConfig

_DESCRIPTION = "Runs trials for a Rafiki server until it is told to stop."


def main() -> None:
    """Runs a worker with the flags of the command line."""
    try:
        config, warnings = read_settings(WorkerConfig, sys.argv[1:], _DESCRIPTION)
    except SettingsError as error:
        print(f"rafiki-worker: {error}", file=sys.stderr)
        sys.exit(2)
    configure_logging(config.log_level, config.log_format)
    for warning in warnings:
        logging.getLogger("rafiki.worker").warning("settings: %s", warning)
    sys.exit(run_worker(config))


if __name__ == "__main__":
    main()
