"""`make chaos ARGS="--faults 200 --seed 7"`: a long storm, told as it goes."""

import argparse
import logging
import random
import shutil
import sys
import tempfile
from pathlib import Path

from tests.chaos.storm import run_storm


def main() -> int:
    """Runs a storm; returns the exit status."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=200, metavar="N")
    parser.add_argument("--seed", type=int, default=None, help="draws the faults; made up if unset")
    parser.add_argument("--scale", type=float, default=1.0, help="of the jobs; below 1: shorter")
    parser.add_argument("--folder", type=Path, help="a new folder, which is kept in any case")
    options = parser.parse_args()
    logging.basicConfig(level="WARNING", format="%(asctime)s %(levelname)s %(name)s %(message)s")
    seed = random.SystemRandom().randrange(1 << 31) if options.seed is None else options.seed
    folder = options.folder or Path(tempfile.mkdtemp(prefix="rafiki-chaos-"))
    print(f"{options.faults} faults, seed {seed}, in {folder}", flush=True)
    outcome = run_storm(seed=seed, faults=options.faults, folder=folder, scale=options.scale)
    print(outcome)
    if outcome.complaints:
        print(f"ledgers, logs, faults and data are kept in {folder}")
        return 1
    if options.folder is None:
        shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
