"""`python -m rafiki.worker`, also installed as `rafiki-worker`."""

import logging
import os
import sys

from rafiki.worker.app import run_worker
from rafiki.worker.config import read_config


def main() -> None:
    """Runs a worker with the flags of the command line."""
    config = read_config(sys.argv[1:], os.environ)
    logging.basicConfig(
        level=config.log_level,
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
    )
    sys.exit(run_worker(config))


if __name__ == "__main__":
    main()
