"""`rafiki checkpoint`: trained parameters."""

from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from rafiki.client import names
from rafiki.client.cli.failures import CommandFailed
from rafiki.client.cli.options import DEFAULT_SERVER, ServerOption, connect
from rafiki.client.cli.output import size_text
from rafiki.client.client import Client

app = typer.Typer(no_args_is_help=True, help="Checkpoints: the parameters that trials save.")


@app.command("download")
def download(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="A job (its best trial), a trial, or the full name of a checkpoint.",
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


def find_checkpoint(client: Client, what: str, job: str = "") -> tuple[str, str]:
    """The name of a checkpoint and of its trial ("" unless known) from what was typed.

    Raises:
        CommandFailed: The job or trial has none.
        InvalidName: It names nothing.
    """
    if names.is_checkpoint(what):
        return what, ""
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
