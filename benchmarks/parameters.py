"""Measures the parameter store: checkpoints to a server of its own and back, by the worker's code.

The server is a process on 127.0.0.1; the workers are processes too, each with the client side
that the released worker uses. Both sides verify the digest of every tensor. Beside it, in the
same rounds: the same tensors to a safetensors file and back, and as lists of numbers through
msgpack, as systems without a parameter store pass weights on.

    .venv/bin/python benchmarks/parameters.py --rounds 5

Of every measurement the wall time is that of the slowest worker; the CPU time is that of the
workers and the server together, which other load on the machine changes little.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.parameter_workers import ParameterWorkers, Transfer
from benchmarks.parameters_client import make_params

CHANGED = 5  # an update changes one tensor in so many

# What must hold for one worker: MB/s, and bytes sent as a share of those of all tensors.
FLOOR_MB_PER_S = 300.0
MOST_AGAIN = 0.0
MOST_UPDATE = 1 / CHANGED


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Medians over the rounds. `sent` are the tensor bytes that went over the wire."""

    what: str
    workers: int
    mb: float
    wall_s: float
    best_wall_s: float
    cpu_s: float
    sent_mb: float

    @property
    def mb_per_s(self) -> float:
        return self.mb / self.wall_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Floor:
    """A figure that must be reached: at least `floor`, or at most where `is_most`."""

    what: str
    value: float
    floor: float
    is_most: bool = False

    @property
    def is_ok(self) -> bool:
        return self.value <= self.floor if self.is_most else self.value >= self.floor


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints the report and writes the JSON; returns 1 if a floor is missed."""
    options = _parser().parse_args(arguments)
    tensor_bytes = int(options.megabytes * 1e6 / options.tensors)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        rows = measure(
            Path(folder),
            tensors=options.tensors,
            tensor_bytes=tensor_bytes,
            workers=options.workers,
            rounds=options.rounds,
        )
    floors = check(rows)
    print(f"{options.tensors} float32 tensors of {tensor_bytes:,} bytes, {options.rounds} rounds")
    for line in report(rows, floors):
        print(line)
    if options.json is not None:
        content = {
            "rows": [asdict(row) | {"mb_per_s": row.mb_per_s} for row in rows],
            "floors": [asdict(floor) | {"ok": floor.is_ok} for floor in floors],
        }
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0 if all(floor.is_ok for floor in floors) else 1


def measure(
    folder: Path, *, tensors: int, tensor_bytes: int, workers: Sequence[int], rounds: int
) -> list[Row]:
    """The rows of the report, from rounds in which everything is measured once."""
    taken: dict[tuple[str, int], list[Transfer]] = {}
    with ParameterWorkers(folder, max(workers)) as pool:
        for number in range(-1, rounds):
            for what, count, transfer in _round(
                pool, folder, number, tensors, tensor_bytes, workers
            ):
                if number >= 0:  # the first round only warms up
                    taken.setdefault((what, count), []).append(transfer)
    return [_row(what, count, transfers) for (what, count), transfers in taken.items()]


def _round(
    pool: ParameterWorkers,
    folder: Path,
    number: int,
    tensors: int,
    tensor_bytes: int,
    workers: Sequence[int],
) -> list[tuple[str, int, Transfer]]:
    measured = []
    for count in workers:
        seed = (number + 1) * 100 + count
        measured.append(("upload", count, pool.push(count, seed, tensors, tensor_bytes)))
        measured.append(("download", count, pool.pull(count, tensors, tensor_bytes)))
        measured.append(("the same again", count, pool.push(count, seed, tensors, tensor_bytes)))
        update = pool.push(count, seed, tensors, tensor_bytes, every=CHANGED)
        measured.append(("a fifth changed", count, update))
    params = make_params(number + 1, tensors, tensor_bytes)
    for what, work in _peers(params, folder).items():
        measured.append((what, 1, _timed(work, tensors * tensor_bytes)))
    return measured


def check(rows: Sequence[Row]) -> list[Floor]:
    """The floors, for one worker."""
    one = {row.what: row for row in rows if row.workers == 1}
    floors = [
        Floor(what=f"{what}, MB/s", value=one[what].mb_per_s, floor=FLOOR_MB_PER_S)
        for what in ("upload", "download")
    ]
    for what, most in (("the same again", MOST_AGAIN), ("a fifth changed", MOST_UPDATE)):
        share = one[what].sent_mb / one[what].mb
        floors.append(Floor(what=f"{what}, share sent", value=share, floor=most, is_most=True))
    return floors


def report(rows: Sequence[Row], floors: Sequence[Floor]) -> list[str]:
    """The report, line by line."""
    lines = [
        f"{'':34}{'workers':>8}{'MB/s':>8}{'best':>8}{'wall ms':>9}{'CPU ms':>8}{'sent MB':>9}"
    ]
    for row in rows:
        figures = (row.mb_per_s, row.mb / row.best_wall_s, row.wall_s * 1e3, row.cpu_s * 1e3)
        cells = "".join(
            f"{figure:>{w}.0f}" for figure, w in zip(figures, (8, 8, 9, 8), strict=True)
        )
        lines.append(f"{row.what:34}{row.workers:>8}{cells}{row.sent_mb:>9.1f}")
    for floor in floors:
        sign = "<=" if floor.is_most else ">="
        verdict = "ok" if floor.is_ok else "MISSED"
        lines.append(f"{floor.what:34}{floor.value:10.2f} {sign} {floor.floor:.2f}  {verdict}")
    return lines


def _row(what: str, workers: int, transfers: Sequence[Transfer]) -> Row:
    return Row(
        what=what,
        workers=workers,
        mb=transfers[0].size_bytes / 1e6,
        wall_s=median(transfer.wall_s for transfer in transfers),
        best_wall_s=min(transfer.wall_s for transfer in transfers),
        cpu_s=median(transfer.cpu_s for transfer in transfers),
        sent_mb=median(transfer.sent_bytes for transfer in transfers) / 1e6,
    )


def _peers(params: dict[str, np.ndarray], folder: Path) -> dict[str, Callable[[], object]]:
    """Writing and reading the same tensors in other ways, each with the bytes on the disk."""
    import msgpack
    from safetensors.numpy import load_file, save_file

    file = folder / "peer"

    def safetensors_write() -> None:
        save_file(params, file)
        _sync(file)

    def lists_write() -> None:
        packed = msgpack.packb({path: array.tolist() for path, array in params.items()})
        file.write_bytes(packed)
        _sync(file)

    def lists_read() -> object:
        lists = msgpack.unpackb(file.read_bytes())
        return {path: np.array(values, np.float32) for path, values in lists.items()}

    return {
        "safetensors file, write": safetensors_write,
        "safetensors file, read": lambda: load_file(file),
        "msgpack of lists, write": lists_write,
        "msgpack of lists, read": lists_read,
    }


def _sync(file: Path) -> None:
    with file.open("rb") as opened:
        os.fsync(opened.fileno())


def _timed(work: Callable[[], object], size_bytes: int) -> Transfer:
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return Transfer(
        size_bytes=size_bytes,
        sent_bytes=0,
        wall_s=time.perf_counter() - start,
        cpu_s=time.process_time() - cpu,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=100.0, help="of all tensors")
    parser.add_argument("--tensors", type=int, default=100)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="at once")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the data folder is made")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
