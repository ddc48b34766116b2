"""Using the model that the demo found: its checkpoint in its template, in a subprocess."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rafiki.client.cli.checkpoints import save
from rafiki.client.demo.outcome import DemoFailed
from rafiki.model.knobs import model_arguments
from rafiki.resources import Model, Trial

TIMEOUT_S = 120.0


def predict(
    template: Path,
    model: Model,
    trial: Trial,
    params: Mapping[str, np.ndarray],
    images: np.ndarray,
    folder: Path,
) -> list[int]:
    """The class that the trained model gives each image.

    Args:
        template: Its Python file.
        model: As registered.
        trial: What was trained: its knobs and architecture.
        params: What it saved.
        images: `[N, H, W, C]` uint8.
        folder: Keeps `model.safetensors`, and the request.

    Raises:
        DemoFailed: The process failed.
    """
    checkpoint = folder / "model.safetensors"
    save(dict(params), checkpoint, {"trial": trial.name, "checkpoint": trial.final_checkpoint})
    archs = trial.candidates[0].archs if trial.candidates else {}
    request = folder / "predict.json"
    request.write_text(
        json.dumps(
            {
                "source": str(template),
                "model_class": model.model_class,
                "knobs": model_arguments(model.knob_config, trial.knobs, archs, trial.policies),
                "parameters": str(checkpoint),
                "queries": images.tolist(),
            }
        ),
        encoding="utf-8",
    )
    try:
        done = subprocess.run(
            [sys.executable, "-m", "rafiki.client.demo.predict", str(request)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            env={"JAX_PLATFORMS": "cpu", **os.environ},
            check=True,
        )
        answers = json.loads(done.stdout.splitlines()[-1])
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().splitlines()[-1:] or ["no message"]
        raise DemoFailed(f"predicting failed: {last[0]}") from error
    except subprocess.TimeoutExpired as error:
        raise DemoFailed(f"predicting took more than {TIMEOUT_S:.0f} s") from error
    return [
        int(np.argmax(answer)) if isinstance(answer, list) else int(answer) for answer in answers
    ]
