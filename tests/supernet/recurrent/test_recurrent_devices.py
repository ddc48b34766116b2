"""Language models on several devices, and in the arithmetic of accelerators."""

import json
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from rafiki.model import Vocabulary
from rafiki.supernet import programs
from rafiki.supernet.recurrent import (
    LanguageModel,
    Minibatch,
    Recipe,
    RecurrentArchitecture,
    RecurrentSpace,
    language_model,
)

pytestmark = pytest.mark.slow

# Trains, scores and asks a small model; prints what came of it, and of the program.
PROCESS = """
import json
import jax
import numpy as np
from rafiki.model import Vocabulary
from rafiki.supernet.recurrent import (
    LanguageModel, Recipe, RecurrentArchitecture, RecurrentSpace, minibatches
)
from rafiki.supernet.recurrent import language_model, programs

taken = []
build = language_model.language_programs

def keep_arguments(space, recipe):
    made = build(space, recipe)

    def train(*arguments):
        taken.append(made.train.lower(*arguments).compile().as_text())
        return made.train(*arguments)

    return made._replace(train=train)

language_model.language_programs = keep_arguments
space = RecurrentSpace(words=9, hidden=6, nodes=3, is_shared=True)
recipe = Recipe(rows=8, evaluation_rows=8, weight_decay=1e-3, clip_norm=0.5, slowness=1.0)
model = LanguageModel(Vocabulary(("<unk>", "<eos>", *"abcdefg")), space, recipe)
model.reset(0)
text = np.random.default_rng(0).integers(9, size=300).astype(np.int32)
arch = RecurrentArchitecture.of([0, "tanh", 1, "relu", 0, "sigmoid"])
losses = model.train(
    minibatches(text, 8, 4, 0), [arch] * 3, [2.0] * 3, [0.0] * 3, lambda share, surprise: False
)
batch = next(minibatches(text, 8, 4, 1)).words
scores = model.surprise([arch] * 2, [(batch, np.ones((4, 8), bool))] * 2)
asked = model.next_words(arch, [text[:3]] * 2, 4)
print(json.dumps({
    "devices": jax.device_count(),
    "results": losses + scores + asked.ravel().tolist(),
    "weights": model.dump()["cell/input"].tolist(),
    "program": taken[0],
}))
"""


def run_process(devices: int) -> dict[str, object]:
    flags = f"--xla_force_host_platform_device_count={devices}"
    done = subprocess.run(
        [sys.executable, "-c", PROCESS],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags},
        timeout=280,
    )
    result: dict[str, object] = json.loads(done.stdout)
    return result


def test_rows_are_shared_out_over_devices_with_the_results_of_one() -> None:
    one, four = run_process(1), run_process(4)
    assert [one["devices"], four["devices"]] == [1, 4]
    assert "all-reduce" in str(four["program"])
    assert "all-reduce" not in str(one["program"])
    # A quarter of the eight rows on each.
    assert "s32[16,5,2]" in str(four["program"])
    for name in ("results", "weights"):
        found, expected = (np.array(some[name], np.float64) for some in (four, one))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_it_learns_in_bfloat16_with_float32_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (programs, language_model):
        monkeypatch.setattr(module, "compute_dtype", lambda: np.dtype(jnp.bfloat16))
    # Sizes of its own: no other test must find these programs.
    space = RecurrentSpace(words=5, hidden=6, nodes=2, is_shared=False)
    recipe = Recipe(rows=2, evaluation_rows=2, weight_decay=0.0, clip_norm=1.0, is_averaged=True)
    model = LanguageModel(Vocabulary(("<unk>", "<eos>", *"abc")), space, recipe)
    model.reset(0)
    words = np.array([[1, 2], [3, 4], [1, 2], [3, 4]], np.int32)
    arch = RecurrentArchitecture.of([0, "relu", 0, "identity"])
    steps = 200
    batches = iter([Minibatch(words, True, 0)] * steps)
    losses = model.train(batches, [arch] * steps, [5.0] * steps, [0.0] * steps, lambda *told: False)
    assert losses[-1] < 0.5 * losses[0]
    assert model.dump()["embedding"].dtype == np.float32
    assert model.surprise([arch], [(words, np.ones((3, 2), bool))])[0] < 0.5 * losses[0]
    assert model.next_words(arch, [words[:1, 0]], 3).shape == (1, 5)
