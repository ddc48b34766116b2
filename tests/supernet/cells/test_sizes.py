"""Supernets for images of any size, without compiling anything."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafiki.supernet import ImageSupernet, Inputs, gather_active
from rafiki.supernet.cells import Architecture, CellSpace, Shape

CHAIN = [
    value
    for node in range(5)
    for value in (node, node + 1, "sepconv3", ("identity", "avgpool3")[node % 2])
]


def make_inputs(height: int, width: int, depth: int) -> Inputs:
    return Inputs((height, width, depth), 10, np.zeros(depth), np.ones(depth))


@pytest.mark.parametrize(
    ("size", "stages"), [((8, 8), (1, 2)), ((15, 40), (1, 2)), ((16, 16), (1, 2, 2))]
)
def test_images_are_halved_only_down_to_four_pixels(
    size: tuple[int, int], stages: tuple[int, ...]
) -> None:
    assert Shape.of(make_inputs(*size, 1), 2, 1).stages == stages


def test_images_below_eight_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 8 pixels"):
        Shape.of(make_inputs(7, 20, 1), 2, 1)


@pytest.mark.parametrize("cells", [1, 2])
@pytest.mark.parametrize("size", [(8, 8, 1), (9, 13, 3), (32, 32, 3), (17, 31, 1)])
def test_the_supernet_takes_images_of_any_size(size: tuple[int, int, int], cells: int) -> None:
    space = CellSpace(Shape.of(make_inputs(*size), 2, cells))
    arch = Architecture.of(CHAIN, CHAIN)

    def run(images: jax.Array) -> jax.Array:
        params = jax.tree.map(jnp.asarray, space.init(0))
        return space.logits(gather_active(params, space.rows(arch)), arch, images)

    assert jax.eval_shape(run, np.zeros((3, *size), np.float32)).shape == (3, 10)


def test_a_supernet_of_too_many_tensors_is_refused() -> None:
    inputs = make_inputs(32, 32, 3)
    with pytest.raises(ValueError, match="over the limit of 4000"):
        ImageSupernet(inputs, CellSpace(Shape.of(inputs, 2, 8)), 0.0)
