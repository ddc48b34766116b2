"""A real server as a process, whose memory and log are watched."""

import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from rafiki.v1 import advisor_pb2_grpc, jobs_pb2, jobs_pb2_grpc, params_pb2_grpc

START_S = 120.0
# An answer to another client takes less than this, whatever goes on beside.
ANSWER_S = 5.0
# As much as the server may grow by, once it has imported what it needs.
GROWTH_MIB = 64.0

# What no peer may bring a server to write.
_SHAMES = re.compile(r"Traceback|Unexpected \[|call failed unexpectedly|never retrieved")


class ServerProcess:
    """A server on a folder of its own. Sessions may be silent for an hour."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "server.log"
        command = [
            *(sys.executable, "-m", "rafiki.server", "--data-dir", str(folder / "data")),
            *("--listen", "127.0.0.1:0", "--heartbeat-s", "1200", "--lease-s", "3600"),
            *("--metrics-listen", "127.0.0.1:0"),
        ]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=log, text=True, env=os.environ
            )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], START_S)
        line = self.process.stdout.readline() if ready else ""
        match = re.search(r"listening on (\S+)", line)
        assert match is not None, self._log.read_text()
        self.address = match.group(1)
        self.channel = grpc.insecure_channel(self.address, [("grpc.max_send_message_length", -1)])
        self.jobs = jobs_pb2_grpc.JobServiceStub(self.channel)
        self.advisor = advisor_pb2_grpc.AdvisorServiceStub(self.channel)
        self.parameters = params_pb2_grpc.ParameterServiceStub(self.channel)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.address.rpartition(":")[2])

    def open_calls(self, method: str) -> int:
        """How many calls of a method, such as `UploadBlobs`, are underway."""
        match = re.search(r"metrics served port=(\d+)", self.log())
        assert match is not None
        with urllib.request.urlopen(f"http://127.0.0.1:{match.group(1)}/metrics") as page:
            text = page.read().decode()
        found = re.search(rf'^rafiki_open_calls{{method="[^"]*/{method}"}} (\S+)$', text, re.M)
        return 0 if found is None else int(float(found.group(1)))

    def rss_mib(self) -> float:
        """The memory it has now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match is not None
        return int(match.group(1)) / 1024

    def peak_mib(self) -> float:
        """The most memory it ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        match = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert match is not None
        return int(match.group(1)) / 1024

    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text(errors="replace")

    def shames(self) -> list[str]:
        """The lines of the log that tell of an error in the server itself, with what follows."""
        lines = self.log().splitlines()
        return [
            "\n".join(lines[number : number + 30])
            for number, line in enumerate(lines)
            if _SHAMES.search(line)
        ]

    def assert_unharmed(self) -> None:
        """It lives, answers, and has nothing to be ashamed of in its log."""
        assert self.process.poll() is None, self.log()[-5000:]
        self.jobs.ListTrainJobs(jobs_pb2.ListTrainJobsRequest(page_size=1), timeout=ANSWER_S)
        shames = self.shames()
        assert not shames, f"{len(shames)} times, first:\n{shames[0]}"

    def stop(self) -> None:
        """Ends it; it must be able to end by itself."""
        self.channel.close()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()


class Bystander:
    """Another client, who asks for a job again and again and is answered each time."""

    def __init__(self, address: str, job: str) -> None:
        self._request = jobs_pb2.GetTrainJobRequest(name=job)
        self._stop = threading.Event()
        self._channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
        self._stub = jobs_pb2_grpc.JobServiceStub(self._channel)
        self.taken_s: list[float] = []
        self.error: grpc.RpcError | None = None
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        try:
            while not self._stop.wait(0.02):
                start = time.perf_counter()
                self._stub.GetTrainJob(self._request, timeout=ANSWER_S)
                self.taken_s.append(time.perf_counter() - start)
        except grpc.RpcError as error:
            self.error = error

    def close(self) -> None:
        """Asks no more."""
        self._stop.set()
        self._thread.join()
        self._channel.close()


@contextmanager
def bystander(server: ServerProcess, job: str) -> Iterator[Bystander]:
    """Somebody who works meanwhile, answered within `ANSWER_S` each time."""
    other = Bystander(server.address, job)
    try:
        yield other
    finally:
        other.close()
    assert other.error is None, other.error
    assert other.taken_s
    slowest = sorted(other.taken_s)
    print(
        f"bystander: {len(slowest)} answers, p50 {1000 * slowest[len(slowest) // 2]:.0f} ms, "
        f"slowest {1000 * slowest[-1]:.0f} ms, "
        f"{sum(taken > 1 for taken in slowest)} above 1 s"
    )
