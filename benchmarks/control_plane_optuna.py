"""The peer of the control plane's benchmark: Optuna's gRPC proxy, as a server and a client of it.

The server is the proxy as Optuna ships it, before a database of SQLite or a journal in a file.
SQLite is put into WAL mode with synchronous=NORMAL, as ours is, when a connection is opened; its
storage has the cache that Optuna's documentation asks for.
"""

import argparse
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import optuna
import sqlalchemy
from benchmarks.server_process import ServerProcess, serving
from optuna.storages.journal import JournalFileBackend

STUDY = "benchmark"
SQLITE, JOURNAL = "optuna-sqlite", "optuna-journal"

_READY_TIMEOUT_S = 60.0

# That the proxy is experimental is said for every process otherwise.
warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)


@contextmanager
def optuna_server(what: str, folder: Path) -> Iterator[ServerProcess]:
    """A proxy before the storage in `folder`, which is made if there is none."""
    with serving([sys.executable, __file__, what, str(folder)]) as server:
        yield server


def fill_storage(what: str, folder: Path, trials: int) -> None:
    """Makes a storage in `folder` whose study has so many trials."""
    command = [sys.executable, __file__, what, str(folder), "--fill", str(trials)]
    subprocess.run(command, check=True)


def optuna_trials(address: str, seed: int) -> Generator[Callable[[], object], None, None]:
    """Trials of the study of four parameters, by ask and tell; see `Trials`."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    host, _, port = address.rpartition(":")
    storage = optuna.storages.GrpcStorageProxy(host=host, port=int(port))
    storage.wait_server_ready(timeout=_READY_TIMEOUT_S)
    sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.load_study(study_name=STUDY, storage=storage, sampler=sampler)
    try:
        while True:
            trial = study.ask()
            rate = suggest(trial)
            yield partial(study.tell, trial, rate)
    finally:
        storage.close()


def suggest(trial: optuna.Trial | optuna.trial.FixedTrial) -> float:
    """Draws what a trial of ours has; returns the score, which is one of them."""
    rate: float = trial.suggest_float("rate", 1e-5, 1.0, log=True)
    trial.suggest_float("dropout", 0.0, 0.9)
    trial.suggest_int("units", 1, 1024)
    trial.suggest_categorical("activation", ["relu", "gelu", "tanh"])
    return rate


def main() -> None:
    """Serves until it is killed, or fills a storage."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("storage", choices=(SQLITE, JOURNAL))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--fill", type=int, default=0, help="serve nothing, but add so many trials")
    flags = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = sqlite(flags.folder) if flags.storage == SQLITE else journal(flags.folder)
    study = optuna.create_study(study_name=STUDY, storage=storage, load_if_exists=True)
    if flags.fill:
        study.add_trials(completed_trial(number / flags.fill) for number in range(flags.fill))
        return
    port = free_port()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    optuna.storages.run_grpc_proxy_server(storage, host="127.0.0.1", port=port)


def completed_trial(score: float) -> optuna.trial.FrozenTrial:
    """A trial of four parameters that has been completed."""
    trial = optuna.trial.FixedTrial(
        {"rate": 1e-5 + score / 2, "dropout": score / 2, "units": 7, "activation": "relu"}
    )
    suggest(trial)
    return optuna.trial.create_trial(
        params=trial.params, distributions=trial.distributions, value=score
    )


def sqlite(folder: Path) -> optuna.storages.BaseStorage:
    """A database of SQLite with the settings of ours."""

    def set_up(connection: sqlalchemy.engine.interfaces.DBAPIConnection, entry: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.close()

    # Of every engine of this process: the storage uses its own as soon as it has made it.
    sqlalchemy.event.listen(sqlalchemy.Engine, "connect", set_up)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{folder / 'optuna.db'}", engine_kwargs={"connect_args": {"timeout": 30}}
    )
    return optuna.storages.get_storage(storage)


def journal(folder: Path) -> optuna.storages.JournalStorage:
    """A journal in a file."""
    return optuna.storages.JournalStorage(JournalFileBackend(str(folder / "journal.log")))


def free_port() -> int:
    """A port that nobody listens on; the proxy takes none by itself."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


if __name__ == "__main__":
    main()
