import os
from pathlib import Path

import pytest

from rafiki.program import SettingsError, read_settings
from rafiki.worker.config import WorkerConfig, parse_cores
from rafiki.worker.devices import find_devices
from rafiki.worker.environment import child_environment, missing_dependencies
from rafiki.worker.memory import oom_kills, resident_bytes, usable_bytes


def read(*flags: str) -> WorkerConfig:
    return read_settings(WorkerConfig, flags)[0]


def test_the_data_folder_of_a_worker_can_be_named_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAFIKI_DATA_DIR", "/srv/server")
    monkeypatch.setenv("RAFIKI_WORKER_DATA_DIR", "/srv/worker")

    assert read().data_dir == Path("/srv/worker")


def test_a_worker_runs_trials_of_several_studies(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read().studies == ()
    assert read("--studies", "a", "b").studies == ("a", "b")
    monkeypatch.setenv("RAFIKI_STUDIES", "c d")
    assert read().studies == ("c", "d")


def test_workers_make_up_different_names() -> None:
    assert read().worker_id != read().worker_id


def test_sizes_are_given_in_gib() -> None:
    config = read("--memory-limit-gib", "1.5", "--disk-cache-gib", "2")

    assert config.memory_limit_bytes == 3 << 29
    assert config.disk_cache_bytes == 2 << 30


def test_a_model_may_use_most_of_the_memory_there_is() -> None:
    assert 0 < read().memory_limit_bytes < usable_bytes()


def test_cores_are_a_list_of_numbers_and_ranges() -> None:
    first = min(os.sched_getaffinity(0))

    assert parse_cores(f"{first},{first}-{first}") == (first,)
    assert parse_cores("") == ()
    assert read("--cores", str(first)).cores == (first,)


@pytest.mark.parametrize("text", ["a", "0-", "1,,x", "9999"])
def test_cores_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"cores .* --cores"):
        read("--cores", text)


def test_a_child_without_gpus_sees_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")

    environment = child_environment(tmp_path, 0)

    assert environment["JAX_PLATFORMS"] == "cpu"
    assert environment["CUDA_VISIBLE_DEVICES"] == ""
    assert environment["JAX_COMPILATION_CACHE_DIR"].startswith(str(tmp_path))


def test_a_child_sees_only_the_gpus_assigned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,9")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")

    environment = child_environment(tmp_path, 2)

    assert environment["CUDA_VISIBLE_DEVICES"] == "4,7"
    assert "JAX_PLATFORMS" not in environment


def test_dependencies_must_be_there_in_the_exact_version() -> None:
    missing = missing_dependencies({"numpy": "0.0.1", "no-such-project": "1.0"})

    assert missing[0] == "no-such-project 1.0 is needed and not installed"
    assert missing[1].startswith("numpy 0.0.1 is needed, ")


def test_a_worker_always_has_a_cpu() -> None:
    cpu = find_devices()[0]

    assert cpu.platform == "CPU"
    assert cpu.count == len(os.sched_getaffinity(0))
    assert cpu.memory_bytes == usable_bytes()


def test_memory_is_read_from_the_system() -> None:
    assert 1 << 20 < resident_bytes(os.getpid()) < usable_bytes()
    assert resident_bytes(1 << 22) == 0
    assert oom_kills() >= 0
