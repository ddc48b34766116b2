"""The controller's update rule on a problem with exact rewards, beside two wrong rules.

The problem: 8 positions over 4 shared values; the reward of an architecture is the share
of positions with a[t] = a[t - 1] + 1 mod 4, where a[-1] = 0. A policy at random has 0.25.
The wrong rules are those of two public services: one takes the log-probabilities of the
evaluated choices under the prefix of a freshly sampled architecture, the other reinforces
fresh samples with the mean of all past rewards. All three run under the same settings:
the default ones (learning rate 0.0035, tanh constant 2.5, temperature 5), 600 updates with
batches of 10, 10 seeds. They differ in nothing but the update.
"""

from functools import partial
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from numpy.typing import NDArray

from rafiki.model.knobs import ArchKnob, KnobValue
from rafiki.server.advisors.enas import controller
from rafiki.server.advisors.enas.controller import ControllerState, Options, Params
from rafiki.server.advisors.enas.tables import build_space

POSITIONS, CHOICES, BATCH, UPDATES, SEEDS = 8, 4, 10, 600, 10
OPTIONS = Options()
VALUES = [KnobValue(value) for value in range(CHOICES)]
SPACE = build_space({"arch": ArchKnob([VALUES] * POSITIONS)})
TABLES = SPACE.tables


class Update(Protocol):
    """The next state, given evaluated architectures and their rewards."""

    def __call__(
        self, state: ControllerState, choices: jax.Array, rewards: jax.Array, key: jax.Array
    ) -> ControllerState: ...


def shipped(
    state: ControllerState, choices: jax.Array, rewards: jax.Array, key: jax.Array
) -> ControllerState:
    """The update that the advisor uses; it needs no key."""
    return controller.reinforce(state, TABLES, choices, rewards, OPTIONS)[0]


def under_a_fresh_prefix(
    state: ControllerState, choices: jax.Array, rewards: jax.Array, key: jax.Array
) -> ControllerState:
    """The evaluated choices, scored under one freshly sampled prefix."""
    fresh, _ = controller.sample(state.params, TABLES, key, options=OPTIONS, count=1)
    decay = OPTIONS.baseline_decay
    moved = decay * state.baseline + (1 - decay) * rewards.mean()
    baseline = jnp.where(jnp.isnan(state.baseline), rewards.mean(), moved)

    def loss(params: Params) -> jax.Array:
        prefix = jnp.broadcast_to(fresh, choices.shape)
        log_p = controller.conditionals(params, TABLES, prefix, OPTIONS)
        return -((rewards - baseline) * controller.log_prob(log_p, choices)).mean()

    return _step(state, jax.grad(loss)(state.params), baseline)


def fresh_samples_with_the_mean_of_the_past(
    state: ControllerState, choices: jax.Array, rewards: jax.Array, key: jax.Array
) -> ControllerState:
    """Fresh samples, all with the mean of all rewards so far."""
    fresh, _ = controller.sample(state.params, TABLES, key, options=OPTIONS, count=BATCH)
    past = jnp.where(state.updates == 0, 0.0, state.baseline)
    mean = past + (rewards.mean() - past) / (state.updates + 1)

    def loss(params: Params) -> jax.Array:
        log_p = controller.conditionals(params, TABLES, fresh, OPTIONS)
        return -((mean - rewards.mean()) * controller.log_prob(log_p, fresh)).mean()

    return _step(state, jax.grad(loss)(state.params), mean)


def _step(state: ControllerState, gradients: Params, baseline: jax.Array) -> ControllerState:
    steps, optimizer = OPTIONS.optimizer().update(gradients, state.optimizer, state.params)
    params = optax.apply_updates(state.params, steps)
    return ControllerState(params, optimizer, baseline, state.updates + 1)


def reward(choices: jax.Array) -> jax.Array:
    """The share of right positions of each architecture, `[B]`."""
    before = jnp.pad(choices[:, :-1], ((0, 0), (1, 0)))
    return (choices == (before + 1) % CHOICES).mean(1)


def learn(update: Update) -> NDArray[np.float32]:
    """The mean reward of the policy that `update` learns, for each of the seeds."""

    def one(state: ControllerState, key: jax.Array) -> jax.Array:
        def body(state: ControllerState, key: jax.Array) -> tuple[ControllerState, None]:
            drawing, updating = jax.random.split(key)
            draw = partial(controller.sample, state.params, TABLES, drawing)
            choices, _ = draw(options=OPTIONS, count=BATCH)
            return update(state, choices, reward(choices), updating), None

        state, _ = jax.lax.scan(body, state, jax.random.split(key, UPDATES))
        choices, _ = controller.sample(state.params, TABLES, key, options=OPTIONS, count=500)
        return reward(choices).mean()

    states = [
        controller.init_state(
            controller.init_params(
                seed,
                token_count=SPACE.token_count,
                state_count=SPACE.state_count,
                hidden_size=OPTIONS.hidden_size,
            ),
            OPTIONS,
        )
        for seed in range(SEEDS)
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    keys = jax.random.split(jax.random.key(0), SEEDS)
    return np.asarray(jax.jit(jax.vmap(one))(stacked, keys))


@pytest.mark.slow
def test_the_shipped_update_solves_the_problem_for_every_seed() -> None:
    shares = learn(shipped)
    assert shares.min() >= 0.95, shares


@pytest.mark.slow
@pytest.mark.parametrize("mutant", [under_a_fresh_prefix, fresh_samples_with_the_mean_of_the_past])
def test_a_wrong_update_fails_the_same_problem(mutant: Update) -> None:
    shares = learn(mutant)
    assert shares.min() < 0.95, shares
