"""The benchmark of sessions, with a few of them."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks import sessions
from benchmarks.server_process import rafiki_server
from benchmarks.sessions_client import Came, Crowd, CrowdSession

TIMEOUT_S = 240


@pytest.mark.slow
def test_sessions_wait_and_work_beside_each_other(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    command = [
        *(sys.executable, sessions.__file__, "--folder", str(tmp_path), "--json", str(file)),
        *("--idle", "8", "--busy", "5", "--trial-s", "0.05", "--seconds", "1"),
    ]
    ended = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=True
    )
    found = json.loads(file.read_text())
    assert found["lost"] == []
    assert found["cycles_ms"] and min(found["cycles_ms"]) > 0
    assert found["waiting"]["call_ms"] and found["working"]["call_ms"]
    assert "no session lost: ok" in ended.stdout


@pytest.mark.slow
def test_sessions_that_end_before_they_are_to_are_counted(tmp_path: Path) -> None:
    came = Came()

    async def lose() -> None:
        with rafiki_server(tmp_path) as server:
            crowd = Crowd(address=server.address, name="idle", count=3)
            opened = [CrowdSession(crowd, number, came) for number in range(crowd.count)]
            running = asyncio.gather(*(session.run() for session in opened))
            for session in opened:
                await session.opened.wait()
            assert came.lost == []
            os.kill(server.pid, signal.SIGKILL)
            await running

    asyncio.run(asyncio.wait_for(lose(), TIMEOUT_S))
    assert len(came.lost) == 3
