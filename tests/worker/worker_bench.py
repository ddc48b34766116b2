"""A worker process and a fake server for it."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.worker.child_bench import TEMPLATES
from tests.worker.fake_server import FakeServer, FakeSession

from rafiki.model.knobs import KnobConfig, Policy, Scalar
from rafiki.model.loading import load_class, pack_source
from rafiki.resources import StopReason, Trial, TrialPhase
from rafiki.v1 import advisor_pb2
from rafiki.wire.enums import enum_to_proto
from rafiki.wire.knobs import knob_config_to_proto
from rafiki.wire.trials import trial_to_proto

STUDY = "trainJobs/0badcafe/studies/1"
LINE: Mapping[str, Scalar] = {"rate": 0.5, "mode": "ok", "epochs": 5}


class WorkerBench:
    """Starts worker processes, assigns them trials of one template, and ends them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = FakeServer()
        self.processes: list[subprocess.Popen[str]] = []
        self.trials = 0

    def start(self, *flags: str) -> subprocess.Popen[str]:
        address = f"127.0.0.1:{self.server.port}"
        command = [sys.executable, "-m", "rafiki.worker", "--server", address]
        process = subprocess.Popen(
            [*command, "--data-dir", str(self.folder / "data"), "--worker-id", "w", *flags],
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def study(
        self, session: FakeSession, template: str = "plain.py", class_name: str = "Line"
    ) -> None:
        path = TEMPLATES / template
        model_class = f"{path.stem}:{class_name}"
        config: KnobConfig = load_class(path, model_class).get_knob_config()
        session.send(
            advisor_pb2.StreamTrialsResponse(
                study=advisor_pb2.StudyInfo(
                    name=STUDY,
                    knob_config=knob_config_to_proto(config),
                    model=advisor_pb2.ModelRef(
                        name="models/0badcafe",
                        model_class=model_class,
                        source=self.server.add_blob(pack_source(path)),
                    ),
                    train_dataset=self.server.add_blob(b"2.0"),
                    validation_dataset=self.server.add_blob(b"0.5"),
                    test_dataset=self.server.add_blob(b"0.25"),
                )
            )
        )

    def assign(
        self,
        session: FakeSession,
        *,
        mode: str = "ok",
        knobs: Mapping[str, Scalar] | None = None,
        phase: TrialPhase = TrialPhase.TUNE,
        policies: frozenset[Policy] = frozenset(),
        start_checkpoint: str = "",
    ) -> str:
        """Assigns a trial, without knobs one of `Line`; returns its lease token."""
        self.trials += 1
        token = f"lease-{self.trials}"
        trial = Trial(
            name=f"{STUDY}/trials/{self.trials}",
            phase=phase,
            knobs=dict(LINE) | {"mode": mode} if knobs is None else dict(knobs),
            policies=policies,
            start_checkpoint=start_checkpoint,
        )
        session.send(
            advisor_pb2.StreamTrialsResponse(
                assignment=advisor_pb2.TrialAssignment(
                    trial=trial_to_proto(trial),
                    lease=advisor_pb2.Lease(token=token),
                    evaluate=True,
                    save=True,
                )
            )
        )
        return token

    def stop(self, session: FakeSession, token: str, reason: StopReason) -> None:
        session.send(
            advisor_pb2.StreamTrialsResponse(
                stop=advisor_pb2.StopTrial(lease_token=token, reason=enum_to_proto(reason))
            )
        )

    def close(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        self.server.stop()


def children(pid: int) -> list[int]:
    """The processes that a process has started and that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found
