from pathlib import Path

import numpy as np
import pytest

from rafiki.client.demo.outcome import DemoFailed
from rafiki.client.demo.predictions import predict
from rafiki.model.knobs import CategoricalKnob, FixedKnob
from rafiki.resources import Digest, Model, Trial, TrialPhase

TINY = Path(__file__).parent / "templates" / "tiny.py"
MODEL = Model(
    display_name="Tiny",
    task="IMAGE_CLASSIFICATION",
    model_class="tiny:Tiny",
    source=Digest("0" * 64, 1),
    knob_config={"scale": CategoricalKnob([1.0, 0.5]), "depth": FixedKnob(2)},
)
TRIAL = Trial(
    name="trainJobs/a1b2c3d4/studies/1/trials/5",
    phase=TrialPhase.FINAL_TRAIN,
    knobs={"scale": 1.0, "depth": 2},
    final_checkpoint="trainJobs/a1b2c3d4/studies/1/checkpoints/5-1",
)


def test_a_downloaded_model_predicts_in_a_process_of_its_own(tmp_path: Path) -> None:
    means = np.stack([np.full(4, level, np.float32) for level in (0, 100, 200)])
    images = np.stack([np.full((2, 2, 1), level, np.uint8) for level in (190, 10, 110)])
    assert predict(TINY, MODEL, TRIAL, {"means": means}, images, tmp_path) == [2, 0, 1]
    assert (tmp_path / "model.safetensors").is_file()


def test_a_model_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    images = np.zeros((1, 2, 2, 1), np.uint8)
    with pytest.raises(DemoFailed, match="means"):
        predict(TINY, MODEL, TRIAL, {"other": np.zeros(1)}, images, tmp_path)
