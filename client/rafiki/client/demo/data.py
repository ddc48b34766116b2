"""The data of the demo: the digits that come with scikit-learn.

1,797 images of handwritten digits, 8x8 pixels in 17 shades of grey, from the test set of
E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine
Learning Repository (1998).
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

# scikit-learn carries no types.
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from rafiki.model.image_classification import write_images

TASK = "IMAGE_CLASSIFICATION"
SPLIT_SEED = 0
HELD_OUT = 300  # images each to validate and to test with


@dataclass(frozen=True, slots=True)
class Part:
    """Images `[N, 8, 8, 1]` uint8 with labels `[N]` int, and the zip that holds them."""

    images: np.ndarray
    labels: np.ndarray
    path: Path


@dataclass(frozen=True, slots=True)
class Digits:
    """The three parts, disjoint, each with the same shares of digits."""

    train: Part
    validation: Part
    test: Part


def write_digits(folder: Path) -> Digits:
    """Splits the digits and writes `train.zip`, `validation.zip` and `test.zip`."""
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    labels = digits.target.astype(np.int32)
    rest, held = train_test_split(
        np.arange(len(labels)), test_size=2 * HELD_OUT, stratify=labels, random_state=SPLIT_SEED
    )
    validation, test = train_test_split(
        held, test_size=HELD_OUT, stratify=labels[held], random_state=SPLIT_SEED
    )

    def part(name: str, chosen: np.ndarray) -> Part:
        path = folder / f"{name}.zip"
        write_images(path, images[chosen], labels[chosen])
        return Part(images[chosen], labels[chosen], path)

    return Digits(part("train", rest), part("validation", validation), part("test", test))


def plain_scores(digits: Digits) -> tuple[float, float]:
    """Validation and test accuracy of logistic regression on the same training images."""
    model = LogisticRegression(max_iter=5000)
    model.fit(_flat(digits.train), digits.train.labels)
    return (
        float(model.score(_flat(digits.validation), digits.validation.labels)),
        float(model.score(_flat(digits.test), digits.test.labels)),
    )


def _flat(part: Part) -> np.ndarray:
    return part.images.reshape(len(part.images), -1) / 255.0
