"""How a network is trained from scratch: what makes it general, beside gradient descent.

All that is random is drawn on the host, minibatch by minibatch from one source: it does not
depend on the devices, nor on how many minibatches a program takes at once.

Letters as in `rafiki.supernet.cells`.
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax import Array

from rafiki.supernet.cells.architecture import EDGES, Architecture
from rafiki.supernet.cells.shape import Shape
from rafiki.supernet.image_data import augment_minibatch, draw_moves
from rafiki.supernet.operations import OPERATIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings of a training from scratch. As they are here, all are off.

    Attributes:
        weight_decay: Times a weight is added to its gradient.
        shift: Images are moved by up to so many pixels.
        flip: Whether half of them are mirrored.
        cutout: The side of a square of pixels that become the mean pixel (arXiv 1708.04552:
            its centre is anywhere in the image). 0 for none.
        drop_path_keep: With what probability the result of an operation of the last cell is
            kept in the last minibatch; see `drop_path_masks`.
        dropout_keep: With what probability a feature that is classified is kept.
        auxiliary_weight: Times the loss of the auxiliary head is added. 0 for no such head.
    """

    weight_decay: float = 0.0
    shift: int = 0
    flip: bool = False
    cutout: int = 0
    drop_path_keep: float = 1.0
    dropout_keep: float = 1.0
    auxiliary_weight: float = 0.0


# On the host, or an argument of a program.
Numbers: TypeAlias = np.ndarray | Array


class Noise(NamedTuple):
    """What is random of one minibatch, or of several with a further first axis.

    Attributes:
        shifts: `[B, 2]` int32 in [0, 2 shift]: rows and columns.
        flips: `[B]` bool.
        holes: `[B, 2]` int32, centres of the squares cut out; None without cutout.
        masks: `[cells, E, B]` float32, factors of the results of edges; None without drop path.
        dropout: `[B, C]` float32, factors of features; None without dropout.
    """

    shifts: Numbers
    flips: Numbers
    holes: Numbers | None
    masks: Numbers | None
    dropout: Numbers | None


def draw_noise(
    recipe: Recipe,
    shape: Shape,
    arch: Architecture,
    rng: np.random.Generator,
    batch_size: int,
    progress: float,
) -> Noise:
    """The noise of the next minibatch, when `progress` in (0, 1] of a training is done with it."""
    shifts, flips = draw_moves(rng, batch_size, recipe.shift, recipe.flip)
    holes = masks = dropout = None
    if recipe.cutout:
        sides = (shape.height, shape.width)
        holes = rng.integers(sides, size=(batch_size, 2), dtype=np.int32)
    if recipe.drop_path_keep < 1.0:
        masks = drop_path_masks(recipe.drop_path_keep, shape, arch, rng, batch_size, progress)
    if recipe.dropout_keep < 1.0:
        size = (batch_size, shape.stage_channels(len(shape.stages) - 1))
        dropout = _keep(np.float32(recipe.dropout_keep), rng, size)
    return Noise(shifts, flips, holes, masks, dropout)


def drop_path_masks(
    keep: float,
    shape: Shape,
    arch: Architecture,
    rng: np.random.Generator,
    batch_size: int,
    progress: float,
) -> np.ndarray:
    """0 where the result of an edge is dropped, otherwise 1 over the probability to be kept.

    Every image of a minibatch has its own. What is dropped more often the deeper a cell is and
    the further the training, each linearly, is every operation but the identity.

    Source: `_apply_drop_path` of `src/cifar10/micro_child.py` in the authors' code, which
    follows NASNet (arXiv 1707.07012).

    Returns:
        `[cells, E, B]` float32.
    """
    kinds = np.concatenate([shape.stage_kinds(stage) for stage in range(len(shape.stages))])
    depth = np.arange(1, len(kinds) + 1) / len(kinds)
    of_cells = (1.0 - progress * depth * (1.0 - keep)).astype(np.float32)
    masks = _keep(of_cells[:, None, None], rng, (len(kinds), EDGES, batch_size))
    operations = arch.choices[kinds][:, :, 2:].reshape(len(kinds), EDGES)
    masks[operations == OPERATIONS.index("identity")] = 1.0
    return masks


def _keep(
    probability: np.ndarray | np.float32, rng: np.random.Generator, size: tuple[int, ...]
) -> np.ndarray:
    kept = rng.random(size, dtype=np.float32) < probability
    return kept.astype(np.float32) / probability


def augmented(recipe: Recipe, images: Array, noise: Noise) -> Array:
    """uint8 images `[B, H, W, depth]`, moved and mirrored."""
    if not recipe.shift and not recipe.flip:
        return images
    changed: Array = augment_minibatch(images, noise.shifts, noise.flips, recipe.shift)
    return changed


def cut_out(images: Array, holes: Numbers, side: int) -> Array:
    """Images `[B, H, W, depth]` with 0 in a square around each of `holes` `[B, 2]`.

    What of a square is outside of its image is lost.
    """

    def along(axis: int) -> Array:
        first = holes[:, axis, None] - side // 2
        pixels = jnp.arange(images.shape[axis + 1])
        return (pixels >= first) & (pixels < first + side)

    inside = along(0)[:, :, None] & along(1)[:, None, :]
    return jnp.where(inside[..., None], jnp.zeros_like(images), images)
