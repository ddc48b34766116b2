"""Networks trained from scratch on several devices."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest


@pytest.mark.slow
@pytest.mark.parametrize("space", ["cells", "macro"])
def test_four_devices_train_what_one_does(space: str, tmp_path: Path) -> None:
    tensors = []
    for devices in (1, 4):
        file = tmp_path / f"{devices}.npz"
        flags = f"--xla_force_host_platform_device_count={devices}"
        done = subprocess.run(
            [sys.executable, "-m", "tests.zoo.final_on_devices", space, str(file)],
            env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert int(done.stdout.split()[-1]) == (4 if devices == 4 else 0)
        with np.load(file) as saved:
            tensors.append(dict(saved))
    assert tensors[0].keys() == tensors[1].keys()
    for path, value in tensors[0].items():
        np.testing.assert_allclose(tensors[1][path], value, rtol=0, atol=1e-5, err_msg=path)
