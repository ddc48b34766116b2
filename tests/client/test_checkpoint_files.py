from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from rafiki.client.cli.checkpoints import save


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        np.arange(6).astype(ml_dtypes.bfloat16),
        np.array([True, False]),
        np.array(3.5),
        np.zeros((0, 4), np.int8),
        np.arange(6, dtype=np.uint16).reshape(2, 3).T,
    ],
    ids=["float32", "bfloat16", "bool", "0-d", "empty", "transposed"],
)
def test_tensors_survive_the_file_bit_for_bit(array: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save({"layer/kernel": array}, path, {"trial": "trainJobs/a1b2c3d4/studies/1/trials/5"})
    loaded = load_file(path)["layer/kernel"]
    assert (loaded.dtype, loaded.shape) == (array.dtype, array.shape)
    assert loaded.tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", [ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2])
def test_float8_is_written_too(dtype: type, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save({"x": np.ones(3, dtype)}, path, {})
    assert b'"F8_E' in path.read_bytes()


def test_the_file_says_where_it_comes_from(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save({"x": np.ones(3)}, path, {"checkpoint": "some/checkpoint", "trial": ""})
    with safe_open(path, "np") as file:
        assert file.metadata() == {"checkpoint": "some/checkpoint"}
