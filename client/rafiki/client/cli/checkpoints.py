"""`rafiki checkpoint`: trained parameters."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from rafiki.client import names
from rafiki.client.cli.failures import CommandFailed
from rafiki.client.cli.options import DEFAULT_SERVER, JsonOption, ServerOption, connect
from rafiki.client.cli.output import print_json, print_table, size_text, time_text
from rafiki.client.client import Client

_WHAT = "A job (its best trial), a trial, or a checkpoint, such as a1b2c3d4/1/7-1."

app = typer.Typer(no_args_is_help=True, help="Checkpoints: the parameters that trials save.")


@app.command("download")
def download(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help=_WHAT,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", dir_okay=False, help="The safetensors file to write."),
    ] = Path("checkpoint.safetensors"),
    job: Annotated[str, typer.Option("--job", help="The job of a trial given by number.")] = "",
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Write a checkpoint to a safetensors file, every tensor verified.

    Example: `rafiki checkpoint download a1b2c3d4 -o best.safetensors`
    """
    with connect(server) as client:
        name, trial = find_checkpoint(client, what, job)
        params = client.download_checkpoint(name)
    save(params, output, {"checkpoint": name, "trial": trial})
    size = sum(array.nbytes for array in params.values())
    print(f"wrote {output}: {len(params)} tensors, {size_text(size)}, of {name}")


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(metavar="JOB|STUDY", help="Such as a1b2c3d4/1.")],
    as_json: JsonOption = False,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """List the checkpoints that are kept, newest first.

    Example: `rafiki checkpoint list a1b2c3d4`
    """
    with connect(server) as client:
        found = [
            item for study in _studies(client, what) for item in client.list_checkpoints(study)
        ]
    if as_json:
        print_json(found)
        return
    print_table(
        ["CHECKPOINT", "TRIAL", "SIZE", "SHARD", "STARTED FROM", "CREATED"],
        [
            (
                names.short(item.name),
                names.short(item.trial) if item.trial else "merged",
                size_text(item.size_bytes),
                f"{item.shard.index + 1} of {item.shard.count}" if item.shard else "",
                ", ".join(map(names.short, item.parents)),
                time_text(item.create_time),
            )
            for item in found
        ],
        empty="No checkpoints are kept; trials save them, and what nobody needs is collected.",
    )


@app.command("show")
def show(
    what: Annotated[str, typer.Argument(metavar="WHAT", help=_WHAT)],
    job: Annotated[str, typer.Option("--job", help="The job of a trial given by number.")] = "",
    as_json: JsonOption = False,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Show the tensors of a checkpoint.

    Example: `rafiki checkpoint show a1b2c3d4/1/7-1`
    """
    with connect(server) as client:
        checkpoint = client.get_checkpoint(find_checkpoint(client, what, job)[0])
    if as_json:
        print_json(checkpoint)
        return
    print(f"{checkpoint.name}: {len(checkpoint.tensors)} tensors, ", end="")
    print(f"{size_text(checkpoint.size_bytes)}, saved {time_text(checkpoint.create_time)}")
    print_table(
        ["TENSOR", "DTYPE", "SHAPE", "SIZE", "UPDATES", "SHA-256"],
        [
            (
                tensor.path,
                tensor.dtype,
                "x".join(map(str, tensor.shape)) or "scalar",
                size_text(tensor.digest.size_bytes),
                str(tensor.updates or ""),
                tensor.digest.sha256[:12],
            )
            for tensor in checkpoint.tensors
        ],
        empty="It has no tensors.",
    )


@app.command("diff")
def diff(
    old: Annotated[str, typer.Argument(metavar="A", help=_WHAT)],
    new: Annotated[str, typer.Argument(metavar="B", help=_WHAT)],
    as_json: JsonOption = False,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Compare two checkpoints by the digests of their tensors.

    Example: `rafiki checkpoint diff a1b2c3d4/1/7-1 a1b2c3d4/1/9-1`
    """
    with connect(server) as client:
        first, second = (find_checkpoint(client, what)[0] for what in (old, new))
        found = client.diff_checkpoints(first, second)
    if as_json:
        print_json(found)
        return
    for sign, paths in (("+", found.added), ("-", found.removed), ("~", found.changed)):
        for path in paths:
            print(f"{sign} {path}")
    print(
        f"{len(found.added)} added, {len(found.removed)} removed, {len(found.changed)} changed, "
        f"{len(found.unchanged)} unchanged; {size_text(found.moved_bytes)} would move"
    )


def collect(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Remove nothing, say what would be removed.")
    ] = False,
    as_json: JsonOption = False,
    server: ServerOption = DEFAULT_SERVER,
) -> None:
    """Remove the checkpoints that nobody needs, and the blobs that nothing names.

    The server does so by itself every ten minutes, unless it was told otherwise.

    Example: `rafiki gc --dry-run`
    """
    with connect(server) as client:
        found = client.collect_garbage(dry_run=dry_run)
    if as_json:
        print_json(found)
        return
    for name in found.checkpoints:
        print(name)
    print(
        f"{'would remove' if dry_run else 'removed'} {found.checkpoint_count} checkpoints and "
        f"{found.blob_count} blobs, {size_text(found.size_bytes)}"
    )


def _studies(client: Client, what: str) -> list[str]:
    if "/" in what.removeprefix("trainJobs/"):
        return [names.study_name(what)]
    return [study.name for study in client.list_studies(names.job_name(what))]


def find_checkpoint(client: Client, what: str, job: str = "") -> tuple[str, str]:
    """The name of a checkpoint and of its trial ("" unless known) from what was typed.

    Raises:
        CommandFailed: The job or trial has none.
        InvalidName: It names nothing.
    """
    named = names.checkpoint_name(what)
    if named:
        return named, ""
    if not job and "/" not in what.removeprefix("trainJobs/"):
        best = next(client.list_best_trials(names.job_name(what)), None)
        if best is None or not best.final_checkpoint:
            raise CommandFailed(
                f"job {what} has no trained model yet; see `rafiki job show {what}`"
            )
        return best.final_checkpoint, best.name
    trial = client.get_trial(names.trial_name(what, job))
    if not trial.final_checkpoint:
        raise CommandFailed(f"{trial.name} has saved no checkpoint (it is {trial.state})")
    return trial.final_checkpoint, trial.name


def save(params: dict[str, np.ndarray], path: Path, metadata: dict[str, str]) -> None:
    """Writes tensors of every dtype of Rafiki, bfloat16 and float8 included."""
    from safetensors.numpy import save_file

    # Not np.ascontiguousarray, which makes a 0-d array 1-d.
    tensors = {name: np.asarray(array, order="C") for name, array in params.items()}
    save_file(tensors, str(path), {key: value for key, value in metadata.items() if value})
