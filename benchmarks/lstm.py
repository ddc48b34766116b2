"""An LSTM language model to compare cells with: same data, same recipe, in plain JAX and optax.

One layer with a tied embedding. Letters: V words, H hidden units, T words of B rows.
"""

import functools
import math
import time
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array, lax

from rafiki.supernet.recurrent import averaging_shares, evaluation_minibatches, minibatches

Params: TypeAlias = dict[str, Array]
INIT_RANGE = 0.04
TIMED_STEPS = 20

# Parameters, their mean, the state.
Step: TypeAlias = tuple[dict[str, Array], dict[str, Array], Array]


class Trained(NamedTuple):
    """What a training came to; perplexities by the part of the data."""

    parameters: int
    hidden: int
    steps: int
    seconds: float
    perplexity: dict[str, float]


class LstmRecipe(NamedTuple):
    """As the knobs of `EnasRnn` of these names."""

    batch_size: int
    evaluation_batch_size: int
    steps: int
    learning_rate: float
    clip_norm: float
    weight_decay: float
    average_from: float


def equal_hidden(parameters: int, words: int) -> int:
    """The H with which an LSTM has closest to so many parameters."""
    return min(range(1, 4096), key=lambda hidden: abs(count(words, hidden) - parameters))


def count(words: int, hidden: int) -> int:
    """The parameters of an LSTM."""
    return words * (hidden + 1) + 8 * hidden**2 + 4 * hidden


def train_lstm(
    texts: dict[str, np.ndarray],
    words: int,
    hidden: int,
    recipe: LstmRecipe,
    seed: int,
    *,
    steps: int | None = None,
    seconds: float | None = None,
) -> Trained:
    """Trains for so many steps, or for so long without compilation.

    Args:
        texts: Numbers of words, of "train" and of the parts to score.
        words: V.
        hidden: H.
        recipe: How it is trained.
        seed: Of weights and minibatches.
        steps: How many.
        seconds: How long, if `steps` is None: as many steps as take it, judged by a few.
    """
    optimizer = optax.chain(
        optax.add_decayed_weights(recipe.weight_decay),
        optax.clip_by_global_norm(recipe.clip_norm),
        optax.sgd(recipe.learning_rate),
    )
    batches = minibatches(texts["train"], recipe.batch_size, recipe.steps, seed)

    @jax.jit
    def step(params: Params, mean: Params, state: Array, batch: Array, share: Array) -> Step:
        (_, state), grads = jax.value_and_grad(loss, has_aux=True)(params, batch, state)
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        params = optax.apply_updates(params, updates)
        return params, jax.tree.map(lambda m, p: m + share * (p - m), mean, params), state

    def run(shares: list[float]) -> tuple[Params, float]:
        params = init(words, hidden, seed)
        zeros = jnp.zeros((2, recipe.batch_size, hidden))
        mean, state = params, zeros
        seconds = 0.0
        for number, (share, batch) in enumerate(zip(shares, batches, strict=False)):
            began = time.perf_counter()
            state = zeros if batch.is_fresh else state
            params, mean, state = step(params, mean, state, batch.words, np.float32(share))
            state.block_until_ready()
            # The first step compiles.
            seconds += time.perf_counter() - began if number else 0.0
        return mean, seconds

    if steps is None:
        assert seconds is not None
        _, timed = run([0.0] * (TIMED_STEPS + 1))
        steps = max(1, int(seconds * TIMED_STEPS / timed))
    mean, spent = run(averaging_shares(steps, recipe.average_from))
    scored = {part: perplexity(mean, text, recipe) for part, text in texts.items()}
    del scored["train"]
    return Trained(count(words, hidden), hidden, steps, spent, scored)


def init(words: int, hidden: int, seed: int) -> Params:
    """Fresh parameters; the forget gates begin open."""
    rng = np.random.default_rng(seed)
    sizes = {"embedding": (words, hidden), "kernel": (2 * hidden, 4 * hidden)}
    params = {
        name: jnp.asarray(rng.uniform(-INIT_RANGE, INIT_RANGE, size), jnp.float32)
        for name, size in sizes.items()
    }
    gates = jnp.zeros(4 * hidden).at[hidden : 2 * hidden].set(1.0)
    return params | {"gates": gates, "bias": jnp.zeros(words)}


def surprises(params: Params, batch: Array, state: Array) -> tuple[Array, Array]:
    """-log p `[T, B]` of the words `[T + 1, B]` but the first, and the state `[2, B, H]`."""

    def step(state: Array, x: Array) -> tuple[Array, Array]:
        hidden, memory = state
        gates = jnp.concatenate([x, hidden], axis=-1) @ params["kernel"] + params["gates"]
        enter, forget, value, leave = jnp.split(gates, 4, axis=-1)
        memory = jax.nn.sigmoid(forget) * memory + jax.nn.sigmoid(enter) * jnp.tanh(value)
        hidden = jax.nn.sigmoid(leave) * jnp.tanh(memory)
        return jnp.stack([hidden, memory]), hidden

    state, outputs = lax.scan(step, state, params["embedding"][batch[:-1]])
    logits = outputs @ params["embedding"].T + params["bias"]
    return optax.softmax_cross_entropy_with_integer_labels(logits, batch[1:]), state


def loss(params: Params, batch: Array, state: Array) -> tuple[Array, Array]:
    """The mean of -log p, and the state."""
    each, state = surprises(params, batch, state)
    return jnp.mean(each), state


def perplexity(params: Params, text: np.ndarray, recipe: LstmRecipe) -> float:
    """Of a whole text, as the template scores it."""
    rows = recipe.evaluation_batch_size
    state = jnp.zeros((2, rows, params["kernel"].shape[1] // 4))
    total = 0.0
    for words, counted in evaluation_minibatches(text, rows, recipe.steps):
        each, state = _jitted()(params, words, state)
        total += float(np.sum(np.asarray(each, np.float64) * counted))
    return math.exp(total / len(text))


@functools.cache
def _jitted() -> jax.stages.Wrapped:
    return jax.jit(surprises)
