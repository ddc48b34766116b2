"""The benchmark of the control plane, on studies of a few trials."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import control_plane
from benchmarks.control_plane_client import Load, Marks
from benchmarks.control_plane_growth import Growth, Restart
from benchmarks.control_plane_rates import (
    CANDIDATES,
    HEALTH,
    SQLITE,
    TRIALS,
    Rate,
    Run,
    create_study,
    medians,
    ratio,
    run_trials,
)
from benchmarks.control_plane_report import Findings, checks, report_lines
from benchmarks.server_process import rafiki_server

from rafiki.client import Client
from rafiki.resources import TrialState

TIMEOUT_S = 240

RATE = Rate(
    what=TRIALS,
    clients=1,
    per_s=700.0,
    p50_ms=1.4,
    p99_ms=3.0,
    server_cpu_ms=0.9,
    peak_mib=90.0,
)
GROWTH = Growth(
    trials=50,
    restarted_at=5,
    first_ms=[1.0, 2.0, 1.0],
    late_ms=[1.1, 2.2, 3.0],
    rss_mib=80.0,
    peak_mib=90.0,
    late_rss_mib=85.0,
    late_peak_mib=95.0,
    restarts=[Restart(start_ms=900.0, first_trial_ms=150.0, peak_mib=130.0)],
)


@pytest.mark.slow
def test_all_that_is_measured_is_in_the_table_and_the_file(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    command = [
        *(sys.executable, control_plane.__file__, "--folder", str(tmp_path), "--json", str(file)),
        *("--clients", "2", "--rounds", "1", "--seconds", "0.2", "--warm-up", "0.1"),
        *("--trials", "20", "--restart-at", "10"),
    ]
    ended = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=True
    )
    found = json.loads(file.read_text())
    assert [(rate["what"], rate["clients"]) for rate in found["rates"]] == [
        (what, 2) for what in (TRIALS, CANDIDATES, HEALTH)
    ]
    assert all(rate["per_s"] > 0 and rate["p50_ms"] > 0 for rate in found["rates"])
    assert all(rate["server_cpu_ms"] > 0 and rate["peak_mib"] > 0 for rate in found["rates"])
    assert found["growth"]["trials"] == 20
    assert len(found["growth"]["restarts"]) == 1
    verdicts = [line for line in ended.stdout.splitlines() if line.endswith((" ok", " MISSED"))]
    assert len(verdicts) == 4


@pytest.mark.slow
@pytest.mark.parametrize("what", [TRIALS, CANDIDATES])
def test_clients_hand_in_as_many_trials_as_they_are_told(tmp_path: Path, what: str) -> None:
    with rafiki_server(tmp_path) as server:
        study = create_study(server.address, what)
        load = Load(kind="rafiki", address=server.address, study=study)
        loads = [load, replace(load, number=1, in_background=True)]
        marks = run_trials(loads, [3, 4], TIMEOUT_S)
        with Client(server.address) as client:
            stored = list(client.list_trials(study, states=[TrialState.COMPLETED]))
    assert [len(mark.handed_in) for mark in marks] == [3, 4]
    assert len(stored) == 7
    assert {trial.worker for trial in stored} == {"client-0", "client-1"}
    assert {len(trial.candidates) for trial in stored} == {10 if what == CANDIDATES else 0}


@pytest.mark.slow
def test_a_client_that_fails_ends_the_benchmark(tmp_path: Path) -> None:
    with rafiki_server(tmp_path) as server:
        load = Load(kind="rafiki", address=server.address, study="trainJobs/none/studies/1")
        with pytest.raises(SystemExit, match="a client has failed"):
            run_trials([load], [1], TIMEOUT_S)


def test_only_what_comes_after_the_warm_up_counts() -> None:
    marks = Marks(
        opened=0.0, taken=[1.0, 3.0, 6.0], ended=[1.5, 4.0, 6.5], handed_in=[2.0, 5.0, 7.0]
    )
    run = Run(marks=[marks], begin=4.5, server_cpu_s=1.0)
    assert run.handed_in() == [5.0, 7.0]
    assert run.cycles_ms() == [2000.0]


def test_a_ratio_is_that_of_runs_of_the_same_round() -> None:
    ours = [replace(RATE, per_s=per_s) for per_s in (100.0, 900.0, 300.0)]
    peers = [replace(RATE, what=SQLITE, per_s=per_s) for per_s in (10.0, 90.0, 10.0)]
    assert medians(ours).per_s == 300
    assert ratio(ours, peers) == 10


@pytest.mark.parametrize(("per_s", "verdict"), [(601.0, "ok"), (599.0, "MISSED")])
def test_a_rate_must_reach_its_floor(per_s: float, verdict: str) -> None:
    lines = list(report_lines(Findings(rates=[replace(RATE, per_s=per_s)])))
    assert lines[-1].startswith("trials per second, 1 client")
    assert lines[-1].endswith(f" {verdict}")


def test_growth_is_judged_by_latency_first_trial_and_memory() -> None:
    found = list(checks(Findings(growth=GROWTH)))
    assert [(check.value, check.holds) for check in found] == [
        (pytest.approx(1.1), True),
        (150.0, False),
        (130.0, False),
    ]


def test_a_gap_is_judged_only_where_trials_wait_at_the_client() -> None:
    (check,) = checks(Findings(gaps_ms={0: [5.0], 1: [0.5, 2.0, 0.6]}))
    assert (check.value, check.holds) == (0.6, True)
