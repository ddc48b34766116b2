"""The devices of this host, found without importing jax."""

import os
import platform
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from rafiki.resources import Platform
from rafiki.worker.memory import usable_bytes

NVIDIA_SMI_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Devices of one kind; `memory_bytes` is per device, for a CPU that of the host."""

    platform: Platform
    model: str
    count: int
    memory_bytes: int


def find_devices() -> tuple[Device, ...]:
    """The CPU (the cores this process may use), then what accelerators there are."""
    cpu = Device(
        platform=Platform.CPU,
        model=cpu_model(),
        count=len(os.sched_getaffinity(0)),
        memory_bytes=usable_bytes(),
    )
    return (cpu, *_nvidia_gpus(), *_tpus())


def cpu_model() -> str:
    """The CPU as its maker calls it."""
    return _cpu_field("model name") or platform.processor() or platform.machine()


def cpu_features() -> str:
    """The instruction sets of the CPU: what compiled programs depend on."""
    return _cpu_field("flags") or _cpu_field("Features") or platform.machine()


def _cpu_field(name: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _nvidia_gpus() -> list[Device]:
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(
            command, capture_output=True, text=True, timeout=NVIDIA_SMI_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []  # No driver: no GPU that jax could use.
    kinds = Counter(line.strip() for line in answer.stdout.splitlines() if line.strip())
    devices = []
    for kind, count in kinds.items():
        model, _, mebibytes = kind.rpartition(",")
        memory_bytes = int(mebibytes) << 20 if mebibytes.strip().isdigit() else 0
        devices.append(
            Device(
                platform=Platform.GPU,
                model=model.strip(),
                count=count,
                memory_bytes=memory_bytes,
            )
        )
    return devices


def _tpus() -> list[Device]:
    # One file per chip, by either driver.
    chips = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev/vfio").glob("[0-9]*")]
    if not chips or not Path("/sys/bus/pci/devices").is_dir():
        return []
    google = [
        device
        for device in Path("/sys/bus/pci/devices").iterdir()
        if _read(device / "vendor") == "0x1ae0"
    ]
    if not google:
        return []
    return [Device(platform=Platform.TPU, model="TPU", count=len(chips), memory_bytes=0)]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
