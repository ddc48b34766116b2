import numpy as np

from rafiki.client.demo.digits import gallery, image_lines


def test_brighter_pixels_are_fuller() -> None:
    image = np.array([[0, 60, 120, 180, 255]], np.uint8)
    assert image_lines(image) == ["  ░░▒▒▓▓██"]


def test_images_stand_side_by_side_over_their_captions() -> None:
    image = np.full((2, 2, 1), 255, np.uint8)
    assert gallery([image, image], [["says 7"], ["says 12"]]) == [
        "████     ████",
        "████     ████",
        "says 7   says 12",
    ]
