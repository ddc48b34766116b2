"""Workers of one machine share their compiled programs."""

import pytest
from tests.worker.worker_bench import WorkerBench

pytestmark = pytest.mark.slow


def measures(bench: WorkerBench, worker_id: str) -> dict[str, float]:
    """What a new worker reports of a trial of the template `Compiled`."""
    bench.server.reports.clear()
    bench.start("--worker-id", worker_id)
    session = bench.server.session()
    bench.study(session, "compiled.py", "Compiled")
    bench.assign(session, knobs={"width": 8})
    assert bench.server.outcome().WhichOneof("outcome") == "completed"
    return {
        name: value
        for report in bench.server.reports
        for entry in report.metrics
        for name, value in entry.values.items()
    }


def test_what_one_worker_compiled_another_takes_from_the_cache(bench: WorkerBench) -> None:
    first = measures(bench, "first")
    second = measures(bench, "second")

    assert first["compilations/heavy_step"] == 1
    assert "compilation_cache_hits" not in first
    assert "compilations/heavy_step" not in second
    assert second["compilation_cache_hits"] == 1
