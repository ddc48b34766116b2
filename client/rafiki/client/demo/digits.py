"""Images in the terminal."""

from collections.abc import Sequence

import numpy as np

_SHADES = " ░▒▓█"


def image_lines(image: np.ndarray) -> list[str]:
    """A grey image `[H, W]` or `[H, W, 1]` uint8 in block characters, two for each pixel."""
    levels = image.reshape(image.shape[:2]).astype(int) * len(_SHADES) // 256
    return ["".join(2 * _SHADES[level] for level in row) for row in levels]


def gallery(images: Sequence[np.ndarray], captions: Sequence[Sequence[str]]) -> list[str]:
    """Images side by side, each with lines of text below.

    Args:
        images: All of one height.
        captions: Per image, the same number of lines.
    """
    columns = [[*image_lines(image), *lines] for image, lines in zip(images, captions, strict=True)]
    widths = [max(map(len, column)) for column in columns]
    return [
        "   ".join(part.ljust(width) for part, width in zip(row, widths, strict=True)).rstrip()
        for row in zip(*columns, strict=True)
    ]
