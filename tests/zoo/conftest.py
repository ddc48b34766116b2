from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from rafiki.model import write_images


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """The paths of 600 training and 300 validation images of scikit-learn's digits."""
    folder: Path = tmp_path_factory.mktemp("digits")
    data = load_digits()
    images = (data.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(images))
    train, validation = folder / "train.zip", folder / "validation.zip"
    write_images(train, images[order[:600]], data.target[order[:600]])
    write_images(validation, images[order[600:900]], data.target[order[600:900]])
    return str(train), str(validation)
