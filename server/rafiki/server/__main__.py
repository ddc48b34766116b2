"""`rafiki-server`: serves the API from a data folder until it is told to stop."""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rafiki.program import SettingsError, configure_logging, read_settings
from rafiki.server.config import ServerConfig

_USAGE = """Serves the API from a data folder until it is told to stop.

Also: rafiki-server check [--deep], rafiki-server backup FOLDER, rafiki-server restore FOLDER;
each takes the settings, of which --data-dir and --listen matter.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the server, or what an operator does beside; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = given.pop(0) if given and given[0] in _COMMANDS else ""
    try:
        operands = _operands(command, given)
        config, warnings = read_settings(ServerConfig, given, _USAGE)
    except SettingsError as error:
        if command == "check":
            print("\n".join(f"fail  settings: {line}" for line in str(error).splitlines()))
            return 1
        return _fail(error, 2)
    configure_logging(config.log_level, config.log_format)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    for warning in warnings:
        logging.getLogger("rafiki.server").warning("settings: %s", warning)
    return _COMMANDS[command](config, operands)


def _operands(command: str, given: list[str]) -> list[str]:
    """Takes from `given` what is no setting: a folder, or `--deep`."""
    if command == "check" and "--deep" in given:
        given.remove("--deep")
        return ["--deep"]
    if command in ("backup", "restore") and "--help" not in given and "-h" not in given:
        if not given or given[0].startswith("-"):
            raise SettingsError(f"name a folder: rafiki-server {command} FOLDER")
        return [given.pop(0)]
    return []


def _serve(config: ServerConfig, operands: list[str]) -> int:
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
    import uvloop

    from rafiki.server.app import CannotListen, serve
    from rafiki.server.store.backend import UnusableDatabase

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(config))
    except (UnusableDatabase, CannotListen) as error:
        return _fail(error, 1)
    return 0


def _check(config: ServerConfig, operands: list[str]) -> int:
    from rafiki.server.operation import check

    is_sound = True
    print("ok    settings: every one is known and allowed", flush=True)
    for finding in check(config, is_deep="--deep" in operands):
        print(finding, flush=True)
        is_sound = is_sound and finding.level != "fail"
    return 0 if is_sound else 1


def _back_up(config: ServerConfig, operands: list[str]) -> int:
    from rafiki.server.operation import BackupError, back_up

    try:
        if config.database.get_secret_value():
            raise BackupError(
                "the database is not in the data folder: back it up with its own tools, such as "
                f"pg_dump, and copy {config.data_dir / 'blobs'} after it"
            )
        manifest = back_up(config.data_dir, Path(operands[0]))
    except BackupError as error:
        return _fail(error, 1)
    print(f"backed up {manifest.rows['train_jobs']} jobs and {manifest.blob_count} blobs")
    if manifest.missing:
        lost = f"{len(manifest.missing)} blobs were missing already and are not in the backup"
        print(f"rafiki-server: {lost}; see rafiki-server check", file=sys.stderr)
        return 1
    return 0


def _restore(config: ServerConfig, operands: list[str]) -> int:
    from rafiki.server.operation import BackupError, restore

    try:
        manifest = restore(Path(operands[0]), config.data_dir)
    except BackupError as error:
        return _fail(error, 1)
    print(f"restored {config.data_dir} as of {manifest.create_time}, every byte verified")
    return 0


def _fail(error: Exception, status: int) -> int:
    print(f"rafiki-server: {error}", file=sys.stderr)
    return status


_COMMANDS: Mapping[str, Callable[[ServerConfig, list[str]], int]] = {
    "": _serve,
    "backup": _back_up,
    "check": _check,
    "restore": _restore,
}


if __name__ == "__main__":
    sys.exit(main())
