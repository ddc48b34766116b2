"""IMAGE_CLASSIFICATION: images of one size, each of one class."""

from pathlib import Path

import numpy as np

from rafiki.model.image_classification import load_images, write_images
from rafiki.model.tasks.task_format import TaskFormat

CLASS_COUNT = 4
IMAGE_SIZE = 8


def check(path: Path) -> None:
    """Raises InvalidDataset unless `load_images` can read the file."""
    load_images(path)


def write_sample(path: Path, count: int, seed: int) -> str:
    """Writes grey images of four classes: noise, one quarter of it bright."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % CLASS_COUNT
    images = generator.integers(0, 120, (count, IMAGE_SIZE, IMAGE_SIZE))
    half = IMAGE_SIZE // 2
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 2)
        image[row * half : (row + 1) * half, column * half : (column + 1) * half] += 130
    write_images(path, images.astype(np.uint8), labels)
    return f"{count} made-up grey {IMAGE_SIZE}x{IMAGE_SIZE} images of {CLASS_COUNT} classes"


def read_queries(path: Path, count: int) -> list[object]:
    """The first images as nested lists."""
    queries: list[object] = load_images(path).images[:count].tolist()
    return queries


IMAGE_CLASSIFICATION = TaskFormat(
    task="IMAGE_CLASSIFICATION",
    data="a zip of image files and images.csv (path,class); .npz; a zip of two IDX files",
    suffix=".zip",
    check=check,
    write_sample=write_sample,
    read_queries=read_queries,
)
