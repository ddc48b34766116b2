"""What `rafiki-server check` finds."""

import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.postgres import PostgresServer
from tests.server.live import BuildJob, Connect, RunningServer, StartServer

from rafiki.server.config import ServerConfig
from rafiki.server.operation import check
from rafiki.server.store.database import Database
from rafiki.v1 import advisor_pb2

Save = Callable[[RunningServer, advisor_pb2.TrialAssignment, int], None]


@pytest.fixture
def used(
    start_server: StartServer,
    connect: Connect,
    random_job: BuildJob,
    save: Save,
    tmp_path: Path,
) -> Path:
    """A data folder with a blob, whose server has stopped."""
    with start_server() as server:
        study = server.create_job(random_job(1)).studies[0].name
        worker = connect(server, studies=(study,))
        save(server, worker.assignment(), 1)
    return tmp_path


def found(
    folder: Path, listen: str = "127.0.0.1:0", *, is_deep: bool = False
) -> dict[str, tuple[str, str]]:
    config = ServerConfig(data_dir=folder, listen=listen)
    return {x.subject: (str(x.level), x.text) for x in check(config, is_deep=is_deep)}


def test_a_sound_folder_is_found_sound(used: Path) -> None:
    findings = found(used, is_deep=True)
    assert {level for level, _ in findings.values()} == {"ok"}
    assert set(findings) == {
        "data folder",
        "disk",
        "database",
        "schema",
        "clock",
        "blobs",
        "address",
        "open files",
    }
    assert findings["blobs"][1] == "all 1 that are named are there, with the right bytes"


def test_a_folder_that_is_not_there_yet_is_no_problem(tmp_path: Path) -> None:
    findings = found(tmp_path / "new" / "data")
    assert {level for level, _ in findings.values()} == {"ok"}
    assert not (tmp_path / "new").exists()


def test_blobs_are_compared_with_the_records(used: Path) -> None:
    (blob,) = (used / "blobs").glob("??/*")
    data = blob.read_bytes()
    blob.write_bytes(data[:-1] + b"x")
    assert found(used)["blobs"][0] == "ok"
    level, text = found(used, is_deep=True)["blobs"]
    assert (level, f"{blob.name} has other bytes" in text) == ("fail", True)
    blob.write_bytes(data[:-1])
    assert f"{blob.name} has 3999 of 4000 bytes" in found(used)["blobs"][1]
    blob.unlink()
    assert f"{blob.name} is missing" in found(used)["blobs"][1]


def test_a_schema_of_another_release_is_told(used: Path) -> None:
    def turn(revision: str) -> tuple[str, str]:
        connection = sqlite3.connect(used / "rafiki.db")
        with connection:
            connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))
        connection.close()
        return found(used)["schema"]

    level, text = turn("0001")
    assert (level, "back up first" in text) == ("warn", True)
    level, text = turn("9999")
    assert (level, "newer than this release" in text) == ("fail", True)


def test_a_damaged_database_is_told(used: Path) -> None:
    path = used / "rafiki.db"
    data = bytearray(path.read_bytes())
    data[8192:40960] = b"\xff" * 32768
    path.write_bytes(data)
    level, text = found(used)["database"]
    assert level == "fail"
    assert "restore a backup" in text or "cannot be read" in text


def test_a_reference_to_nothing_is_told(used: Path) -> None:
    connection = sqlite3.connect(used / "rafiki.db")
    with connection:
        connection.execute("DELETE FROM train_jobs")
    connection.close()
    level, text = found(used)["database"]
    assert (level, "names what is not in train_jobs" in text) == ("fail", True)


def test_a_clock_behind_the_last_change_is_warned_of(used: Path) -> None:
    connection = sqlite3.connect(used / "rafiki.db")
    with connection:
        connection.execute("UPDATE changes SET time = time + 3600000000")
    connection.close()
    assert found(used)["clock"][0] == "warn"


def test_a_server_that_answers_is_told_from_a_stranger(
    start_server: StartServer, tmp_path: Path
) -> None:
    with start_server() as server:
        assert found(tmp_path, server.address)["address"] == (
            "ok",
            f"a server answers at {server.address}: SERVING",
        )
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        level, text = found(tmp_path, f"127.0.0.1:{stranger.getsockname()[1]}")["address"]
    assert (level, "no healthy server" in text) == ("fail", True)


@pytest.mark.slow
def test_the_commands_tell_by_their_status_and_in_lines(used: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str]:
        command = [str(Path(sys.executable).with_name("rafiki")), "server", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    data = f"--data-dir={used}"
    assert run("backup", str(tmp_path / "b"), data) == (0, "backed up 1 jobs and 1 blobs\n")
    status, text = run("restore", str(tmp_path / "b"), f"--data-dir={tmp_path / 'r'}")
    assert (status, text.endswith("every byte verified\n")) == (0, True)
    status, text = run("check", "--deep", "--listen=127.0.0.1:0", f"--data-dir={tmp_path / 'r'}")
    assert status == 0
    assert [line.split()[0] for line in text.splitlines()] == ["ok"] * 9
    for blob in (tmp_path / "r" / "blobs").glob("??/*"):
        blob.unlink()
    status, text = run("check", "--listen=127.0.0.1:0", f"--data-dir={tmp_path / 'r'}")
    assert (status, "fail  blobs: 1 of 1 bad" in text) == (1, True)
    status, text = run("check", "--lisen=x")
    assert (status, text) == (
        1,
        "fail  settings: there is no flag --lisen; did you mean --listen?\n",
    )
    status, text = run("backup", data)
    assert (status, text) == (2, "rafiki-server: name a folder: rafiki-server backup FOLDER\n")


@pytest.mark.slow
def test_a_postgresql_database_is_asked_for_its_schema(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    with postgres.database() as name:
        url = postgres.url(name)
        config = ServerConfig(data_dir=tmp_path, listen="127.0.0.1:0", database=SecretStr(url))
        with Database(url) as database:
            database.migrate()
        findings = {x.subject: (str(x.level), x.text) for x in check(config, is_deep=False)}
        assert findings["database"][0] == "ok"
        nowhere = SecretStr(postgres.url("nowhere"))
        config = ServerConfig(data_dir=tmp_path, listen="127.0.0.1:0", database=nowhere)
        gone = {x.subject: (str(x.level), x.text) for x in check(config, is_deep=False)}
    assert gone["database"][0] == "fail" and "does not exist" in gone["database"][1]


@pytest.mark.slow
def test_a_database_elsewhere_is_backed_up_by_its_own_tools(tmp_path: Path) -> None:
    flags = ["--data-dir", str(tmp_path), "--database", "postgresql://user:secret@db/rafiki"]
    command = [sys.executable, "-m", "rafiki.server", "backup", str(tmp_path / "copy"), *flags]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "pg_dump" in result.stderr and "secret" not in result.stderr
