"""The environment of the child process."""

import hashlib
import importlib.metadata
import os
from pathlib import Path

from rafiki.worker.devices import cpu_features, cpu_model

# Programs that compile faster than this are not worth a file.
CACHE_MIN_COMPILE_S = 0.3

# A program's memory is new in every call. Had from the kernel and given back each time, its
# pages take up to a third of a supernet's step. So memory is kept instead, whatever its size
# (the thresholds are in bytes) and from one heap for all threads, as only the main one grows
# without limit; and in huge pages where the kernel has them.
MALLOC_TUNABLES = (
    "glibc.malloc.hugetlb=1",
    f"glibc.malloc.mmap_threshold={1 << 40}",
    f"glibc.malloc.trim_threshold={1 << 40}",
    "glibc.malloc.arena_max=1",
)


def child_environment(data_dir: Path, gpu_count: int) -> dict[str, str]:
    """The worker's own environment, and what a child needs that uses `gpu_count` GPUs.

    A variable that the operator has set is left as it is, but for the choice of devices.
    """
    environment = dict(os.environ)
    environment.setdefault("JAX_COMPILATION_CACHE_DIR", str(compilation_cache(data_dir)))
    environment.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", str(CACHE_MIN_COMPILE_S))
    environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    environment.setdefault("GLIBC_TUNABLES", ":".join(MALLOC_TUNABLES))
    # Lines arrive when they are printed; a crash in native code leaves a traceback.
    environment["PYTHONUNBUFFERED"] = "1"
    environment["PYTHONFAULTHANDLER"] = "1"
    if gpu_count:
        visible = environment.get("CUDA_VISIBLE_DEVICES", "")
        devices = [device for device in visible.split(",") if device]
        if not devices:
            devices = [str(number) for number in range(gpu_count)]
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(devices[:gpu_count])
        environment.pop("JAX_PLATFORMS", None)
    else:
        environment["JAX_PLATFORMS"] = "cpu"
        environment["CUDA_VISIBLE_DEVICES"] = ""
    return environment


def compilation_cache(data_dir: Path) -> Path:
    """XLA's persistent cache: a folder per version of JAX and type of CPU."""
    kind = hashlib.sha256(f"{cpu_model()}\0{cpu_features()}".encode()).hexdigest()
    return data_dir / "jax-cache" / f"{_version('jax')}-{_version('jaxlib')}-{kind[:12]}"


def missing_dependencies(dependencies: dict[str, str]) -> list[str]:
    """What of `dependencies` (project to exact version) is not installed here, in words."""
    missing = []
    for project, wanted in sorted(dependencies.items()):
        installed = _version(project)
        if not installed:
            missing.append(f"{project} {wanted} is needed and not installed")
        elif installed != wanted:
            missing.append(f"{project} {wanted} is needed, {installed} is installed")
    return missing


def _version(project: str) -> str:
    try:
        return importlib.metadata.version(project)
    except (importlib.metadata.PackageNotFoundError, ValueError):  # none, or no name at all
        return ""
