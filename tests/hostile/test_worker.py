"""A server that is hostile, or newer than the worker: the worker stays in control of itself."""

import subprocess
from collections.abc import Mapping
from random import Random

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from tests.e2e.processes import wait_until
from tests.hostile.cases import SEED
from tests.hostile.forge import Forge, nested_struct
from tests.worker.fake_server import FakeSession
from tests.worker.worker_bench import STUDY, WorkerBench

from rafiki.resources import Trial, TrialPhase
from rafiki.v1 import advisor_pb2, knobs_pb2, params_pb2, trials_pb2
from rafiki.wire.trials import trial_to_proto

pytestmark = pytest.mark.slow

RANDOM_CASES = 40
# Of a worker whose session has been broken off again and again.
PATIENCE_S = 60.0
_Response = advisor_pb2.StreamTrialsResponse


def assignment(name: str = f"{STUDY}/trials/1000", **fields: object) -> _Response:
    """A trial of the study that the worker knows, whose `fields` are hostile."""
    message = advisor_pb2.TrialAssignment(
        trial=trial_to_proto(Trial(name=name, phase=TrialPhase.TUNE)),
        lease=advisor_pb2.Lease(token=f"hostile-{name}"),
    )
    for field, value in fields.items():
        setattr(message, field, value)
    return _Response(assignment=message)


def trial(**fields: object) -> _Response:
    """The same, the hostile fields being those of the trial."""
    response = assignment(f"{STUDY}/trials/{sorted(fields)[0]}")
    response.assignment.trial.MergeFrom(trials_pb2.Trial(**fields))  # type: ignore[arg-type]
    return response


def study(**fields: object) -> _Response:
    """A study of another name, whose `fields` are hostile."""
    name = "trainJobs/0badcafe/studies/2"
    return _Response(study=advisor_pb2.StudyInfo(**({"name": name} | fields)))  # type: ignore[arg-type]


def opened(**fields: object) -> _Response:
    """A second opening of the session."""
    return _Response(opened=advisor_pb2.SessionOpened(**fields))  # type: ignore[arg-type]


TEXT = knobs_pb2.KnobValue(string_value="../../etc/passwd")
# Of which the worker can make nothing: it breaks the session off and says why.
BROKEN_OFF: Mapping[str, list[_Response]] = {
    "a trial of no study": [assignment("trainJobs/0badcafe/studies/9/trials/1")],
    "a trial without a name": [assignment("")],
    "a trial of no phase": [trial(phase=77)],
    "a shard of none": [trial(shard=params_pb2.Shard(index=5, count=2))],
    "a negative seed": [trial(seed=-1)],
    "a knob of no value": [trial(knobs={"rate": knobs_pb2.KnobValue()})],
    "a knob that is not a number": [trial(knobs={"rate": knobs_pb2.KnobValue(float_value=1e999)})],
    "policies twice": [trial(policies=[1, 1])],
    "a study with a digest of no digits": [
        study(train_dataset=params_pb2.Digest(sha256="../../x", size_bytes=1))
    ],
    "a quarantine without an end": [
        _Response(quarantined=advisor_pb2.SessionQuarantined(until=Timestamp(seconds=2**62)))
    ],
    "accelerators below none": [assignment(f"{STUDY}/trials/2", gpu_count=-5)],
    "accelerators beyond number": [assignment(f"{STUDY}/trials/3", gpu_count=2**31 - 1)],
    "a second opening": [opened()],
    "a stop for an unknown reason": [_Response.FromString(b"\x2a\x02\x10\x63")],
}
# What the worker can live with, or reports as the error of the trial.
BORNE: Mapping[str, list[_Response]] = {
    "no event": [_Response()],
    "an event of a later release": [_Response.FromString(b"\xca\x3e\x03abc")],
    "a knob of another type": [trial(knobs={"rate": TEXT, "epochs": TEXT, "mode": TEXT})],
    "knobs that nobody declared": [trial(knobs={"../x": TEXT, "": TEXT, "__class__": TEXT})],
    "no knobs": [assignment(f"{STUDY}/trials/none")],
    "a checkpoint that leads elsewhere": [trial(start_checkpoint="../../etc/passwd")],
    "a study with deep arguments": [study(train_args=nested_struct(30))],
    "a hundred thousand lost leases": [
        _Response(renewed=advisor_pb2.LeasesRenewed(lost_lease_tokens=["x"] * 100_000))
    ],
    "a stop of an unknown lease": [_Response(stop=advisor_pb2.StopTrial(lease_token="x"))],
    "a study without a model": [
        study(),
        assignment("trainJobs/0badcafe/studies/2/trials/1"),
    ],
    "dependencies that are no names": [
        study(
            name="trainJobs/0badcafe/studies/3",
            model=advisor_pb2.ModelRef(
                model_class="m:C",
                source=params_pb2.Digest(sha256="0" * 64, size_bytes=1),
                dependencies={"": "", "../..": "1", "\0": "\0", "a b": "x"},
            ),
        ),
        assignment("trainJobs/0badcafe/studies/3/trials/1"),
    ],
    "a source that is not there, and enormous": [
        study(
            name="trainJobs/0badcafe/studies/4",
            model=advisor_pb2.ModelRef(
                model_class="../../m:C",
                source=params_pb2.Digest(sha256="1" * 64, size_bytes=2**62),
            ),
        ),
        assignment("trainJobs/0badcafe/studies/4/trials/1"),
    ],
}


class Victim:
    """A worker that is sent something hostile, and after it a trial that it can run."""

    def __init__(self, bench: WorkerBench) -> None:
        self._bench = bench
        self.process: subprocess.Popen[str] = bench.start()
        self.session: FakeSession | None = None

    def bears(self, responses: list[_Response]) -> bool:
        """Whether the session outlives them; the worker does in any case, and goes on."""
        bench = self._bench
        if self.session is None:
            self.session = bench.server.sessions.get(timeout=PATIENCE_S)
        session = self.session
        bench.study(session)
        for response in responses:
            session.send(response)
        token = bench.assign(session)
        tokens: list[str] = []

        def settled() -> bool:
            assert self.process.poll() is None, "the worker has died"
            while not bench.server.outcomes.empty():
                tokens.append(bench.server.outcomes.get().lease_token)
            return token in tokens or session.ended.is_set()

        wait_until(settled, "the worker runs the trial, or breaks the session off", PATIENCE_S)
        if token in tokens:
            return True
        self.session = None
        return False

    def last_words(self) -> str:
        """Ends the worker; what it has logged."""
        self.process.terminate()
        _, log = self.process.communicate(timeout=PATIENCE_S)
        return log


def test_a_worker_survives_what_it_cannot_read_and_says_why(bench: WorkerBench) -> None:
    victim = Victim(bench)
    for name, responses in BROKEN_OFF.items():
        assert not victim.bears(responses), name
    assert victim.bears([])
    log = victim.last_words()
    assert "Traceback" not in log, log[-5000:]
    assert log.count("session broken off: ") == len(BROKEN_OFF)


def test_a_worker_bears_what_it_can_read_but_not_do(bench: WorkerBench) -> None:
    victim = Victim(bench)
    for name, responses in BORNE.items():
        assert victim.bears(responses), name
    log = victim.last_words()
    assert "Traceback" not in log, log[-5000:]
    assert "session broken off" not in log


@pytest.mark.parametrize("interval", [Duration(nanos=1), Duration(seconds=300_000_000_000)])
def test_a_worker_keeps_to_sensible_intervals(bench: WorkerBench, interval: Duration) -> None:
    bench.server.interval = interval
    victim = Victim(bench)
    assert victim.bears([])
    assert victim.session is not None
    log = victim.last_words()
    assert "Traceback" not in log, log[-5000:]
    assert victim.session.heartbeats.qsize() < 500


def test_a_worker_survives_messages_at_random(bench: WorkerBench) -> None:
    print(f"seed {SEED} (RAFIKI_HOSTILE_SEED)")
    forge = Forge(Random(SEED), [STUDY, f"{STUDY}/trials/1", "lease-1", "plain:Line"])
    samples = [response for some in (BROKEN_OFF, BORNE) for x in some.values() for response in x]
    victim = Victim(bench)
    random = Random(SEED)
    borne = 0
    for number in range(RANDOM_CASES):
        response = forge.tampered(random.choice(samples))
        assert isinstance(response, _Response)
        # That one would be an order to end.
        response.drain.reason = advisor_pb2.DRAIN_REASON_UNSPECIFIED
        if response.WhichOneof("event") == "drain":
            response.ClearField("drain")
        print(number, str(response)[:300])
        borne += victim.bears([response])
    print(f"{borne} of {RANDOM_CASES} borne")
    assert victim.bears([])
    log = victim.last_words()
    assert "Traceback" not in log, log[-5000:]
