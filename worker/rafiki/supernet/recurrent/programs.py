"""The programs of language models, each compiled once for all cells.

Letters as in `rafiki.supernet.recurrent`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from rafiki.supernet.banks import Tensors, gather_active
from rafiki.supernet.devices import over_batch, replicated
from rafiki.supernet.programs import (
    MOST_CANDIDATES,
    MOST_STEPS,
    Weights,
    computing,
    each,
    pick,
    search_step,
)
from rafiki.supernet.recurrent.architecture import RecurrentArchitecture
from rafiki.supernet.recurrent.dropout import Masks, draw_masks
from rafiki.supernet.recurrent.recipe import Recipe, clipped_descent
from rafiki.supernet.recurrent.space import RecurrentSpace
from rafiki.supernet.training import cross_entropy


class Steps(NamedTuple):
    """What the minibatches of one call differ in, each `[MOST_STEPS]`.

    Attributes:
        rates: float32 learning rates.
        shares: float32, how much the weights after the step count in their mean.
        is_fresh: bool, whether the state is zero before it.
        seeds: int32, of its masks.
    """

    rates: np.ndarray
    shares: np.ndarray
    is_fresh: np.ndarray
    seeds: np.ndarray


class LanguagePrograms(NamedTuple):
    """The programs of a space and a recipe."""

    train: Callable[..., tuple[Weights, Tensors, Array, Array]]
    evaluate: Callable[..., tuple[Array, Array]]
    predict: Callable[..., Array]


@functools.cache
def language_programs(space: RecurrentSpace, recipe: Recipe) -> LanguagePrograms:
    """The programs; all models of a process share them."""
    over_rows = over_batch(recipe.rows)
    over_states = over_batch(recipe.evaluation_rows, 1)
    return LanguagePrograms(
        train=jax.jit(
            train_program(space, recipe),
            donate_argnums=(0, 1, 2),
            out_shardings=(replicated(), replicated(), over_rows, replicated()),
        ),
        evaluate=jax.jit(
            evaluate_program(space),
            donate_argnums=2,
            out_shardings=(over_states, replicated()),
        ),
        predict=jax.jit(predict_program(space), out_shardings=replicated()),
    )


def language_loss(
    space: RecurrentSpace, recipe: Recipe
) -> Callable[..., tuple[Array, tuple[Array, Array]]]:
    """The loss of a minibatch as `search_step` takes it, with the state after and its part.

    That part is the mean of -log p alone, without what the recipe adds.
    """

    def loss(
        active: Tensors, arch: RecurrentArchitecture, words: Array, state: Array, seed: Array
    ) -> tuple[Array, tuple[Array, Array]]:
        rows, dtype = words.shape[1], active["embedding"].dtype
        masks = draw_masks(recipe.dropout, seed, space.words, rows, space.hidden, dtype)
        outputs, state = space.outputs(active, arch, words[:-1], state, masks)
        surprise = cross_entropy(space.logits(active, outputs * masks.outputs), words[1:])
        changes = jnp.mean(jnp.square(outputs[1:] - outputs[:-1])) if len(words) > 2 else 0.0
        return surprise + recipe.slowness * changes, (state, surprise)

    return loss


def train_program(
    space: RecurrentSpace, recipe: Recipe
) -> Callable[..., tuple[Weights, Tensors, Array, Array]]:
    """The function that trains many minibatches, each with its own cell."""
    optimizer = clipped_descent(recipe.weight_decay, recipe.clip_norm)
    step = search_step(space, language_loss(space, recipe), optimizer)

    def language_train_steps(
        weights: Weights,
        mean: Tensors,
        state: Array,
        archs: RecurrentArchitecture,
        steps: Steps,
        count: Array,
        words: Array,
    ) -> tuple[Weights, Tensors, Array, Array]:
        """Trains `count` minibatches of `[MOST_STEPS, T + 1, B]`.

        Returns:
            The weights, their mean (if the recipe keeps it), the state `[B, H]` and the means
            of -log p `[MOST_STEPS]`.
        """

        def train(
            carry: tuple[Weights, Tensors, Array], number: Array
        ) -> tuple[tuple[Weights, Tensors, Array], Array]:
            weights, mean, state = carry
            rates, shares, is_fresh, seeds = pick(steps, number)
            state = jnp.where(is_fresh, jnp.zeros_like(state), state)
            weights, _, (state, surprise) = step(
                weights, pick(archs, number), rates, words[number], state, seeds
            )
            mean = {
                name: value + shares * (weights.params[name] - value)
                for name, value in mean.items()
            }
            return (weights, mean, state), surprise

        (weights, mean, state), surprises = each(train, (weights, mean, state), count, MOST_STEPS)
        return weights, mean, state, surprises

    return language_train_steps


def evaluate_program(space: RecurrentSpace) -> Callable[..., tuple[Array, Array]]:
    """The function that scores many cells on one minibatch."""

    def language_evaluate(
        params: Tensors,
        archs: RecurrentArchitecture,
        states: Array,
        count: Array,
        words: Array,
        counted: Array,
    ) -> tuple[Array, Array]:
        """The states after it `[MOST_CANDIDATES, B, H]` and sums of -log p, of `count` cells.

        Args:
            params: All weights.
            archs: Stacked.
            states: Those before it.
            count: How many cells there are.
            words: `[T + 1, B]`.
            counted: bool `[T, B]`, which of the next words are summed up.
        """

        def score(states: Array, number: Array) -> tuple[Array, Array]:
            arch = pick(archs, number)
            active = computing(gather_active(params, space.rows(arch)))
            outputs, state = space.outputs(active, arch, words[:-1], states[number], Masks())
            logits = space.logits(active, outputs)
            logits = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
            surprises = optax.softmax_cross_entropy_with_integer_labels(logits, words[1:])
            return states.at[number].set(state), jnp.sum(surprises * counted)

        return each(score, states, count, MOST_CANDIDATES)

    return language_evaluate


def predict_program(space: RecurrentSpace) -> Callable[..., Array]:
    """The function that asks one cell for the words after texts."""

    def language_predict(
        params: Tensors, arch: RecurrentArchitecture, words: Array, lengths: Array
    ) -> Array:
        """Probabilities `[B, V]` of what follows the first `lengths` `[B]` of words `[T, B]`."""
        active = computing(gather_active(params, space.rows(arch)))
        state = jnp.zeros((words.shape[1], space.hidden), active["embedding"].dtype)
        outputs, _ = space.outputs(active, arch, words, state, Masks())
        last = outputs[lengths - 1, jnp.arange(words.shape[1])]
        return jax.nn.softmax(space.logits(active, last).astype(jnp.float32), axis=-1)

    return language_predict
