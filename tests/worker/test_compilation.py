"""What JAX compiles in a child is counted, by name, and kept out of all other times."""

import pytest
from tests.worker.child_bench import Bench, Make

from rafiki.resources import TrialPhase
from rafiki.worker.child.compilation import CompilationWatch

TRACE = "/jax/core/compile/jaxpr_trace_duration"
COMPILE = "/jax/core/compile/backend_compile_duration"


def test_time_in_nested_spans_counts_once() -> None:
    watch = CompilationWatch()

    watch._on_span(TRACE, 1.0, 2.0, fun_name="inner")
    watch._on_span(TRACE, 2.5, 3.0, fun_name="inner")
    watch._on_span(TRACE, 0.5, 3.5, fun_name="outer")
    watch._on_span(COMPILE, 4.0, 6.0, fun_name="jit(outer)")

    assert watch.seconds == 5.0


def test_a_program_from_the_cache_was_not_compiled() -> None:
    watch = CompilationWatch()

    watch._on_event("/jax/compilation_cache/cache_hits")
    watch._on_span(COMPILE, 0.0, 0.5, fun_name="jit(step)")
    watch._on_span(COMPILE, 1.0, 2.0, fun_name="jit(step)")
    compiled = watch.end()

    assert compiled.programs == {"step": 1}
    assert compiled.cache_hits == 1


def test_counting_starts_over_with_each_run() -> None:
    watch = CompilationWatch()
    watch._on_span(COMPILE, 0.0, 0.5, fun_name="jit(step)")

    watch.begin()

    assert watch.seconds == 0.0
    assert watch.end().programs == {}


@pytest.fixture
def compiled(make_bench: Make) -> Bench:
    return make_bench("compiled.py", "Compiled")


@pytest.mark.slow
def test_programs_are_compiled_once_and_their_time_is_told_apart(compiled: Bench) -> None:
    first, _ = compiled.run(TrialPhase.TUNE, knobs={"width": 8})
    again, _ = compiled.run(TrialPhase.TUNE, knobs={"width": 8})
    other, _ = compiled.run(TrialPhase.TUNE, knobs={"width": 9})

    assert first.error is None
    assert first.compilations["heavy_step"] == 1
    assert first.timings.compile_s > 0.2
    assert first.timings.train_s < first.timings.compile_s
    assert again.compilations == {}
    assert again.timings.compile_s < 0.05
    assert other.compilations["heavy_step"] == 1


@pytest.mark.slow
def test_another_child_finds_the_programs_of_the_first_on_disk(compiled: Bench) -> None:
    compiled.run(TrialPhase.TUNE, knobs={"width": 8})
    compiled.child.kill()
    compiled.start()

    ended, _ = compiled.run(TrialPhase.TUNE, knobs={"width": 8})

    assert "heavy_step" not in ended.compilations
    assert ended.cache_hits >= 1


@pytest.mark.slow
def test_a_program_that_cannot_be_loaded_is_compiled_and_kept_anew_without_a_word(
    compiled: Bench,
) -> None:
    compiled.run(TrialPhase.TUNE, knobs={"width": 8})
    compiled.child.kill()
    for program in compiled.folder.glob("data/jax-cache/*/*-cache"):
        program.write_bytes(program.read_bytes()[:100])
    compiled.start()

    ended, _ = compiled.run(TrialPhase.TUNE, knobs={"width": 8})

    assert ended.error is None
    assert ended.compilations["heavy_step"] == 1
    assert compiled.record.lines == []

    compiled.child.kill()
    compiled.start()
    again, _ = compiled.run(TrialPhase.TUNE, knobs={"width": 8})
    assert "heavy_step" not in again.compilations
    assert again.cache_hits >= 1
