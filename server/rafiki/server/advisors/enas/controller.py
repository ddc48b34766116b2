"""The controller of ENAS: an LSTM that writes architectures and learns by REINFORCE.

Source: "Efficient Neural Architecture Search via Parameter Sharing", arXiv 1802.03268,
sections 2.1-2.4 and the authors' CIFAR code: its micro search, and of its macro search the
prior on skips. Departures, each with a setting that undoes it: Adam with beta1 0.9 and epsilon
1e-8, and a baseline that starts at the first batch's mean.

Letters: B architectures, P positions, T steps and C choices (see `tables`), S node
states, V tokens, H hidden units. Everything here is a pure function of its arguments;
floats are float32.

At a step, the LSTM reads the embedding of the token chosen before, or the state of the
node chosen before. A token is scored by its output vector, a node by attention over its
state: v . tanh(W1 h + W2 state). A node that no position builds, such as an input of a
cell, has a learned state.
"""

from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rafiki.server.advisors.enas.tables import Tables

Params: TypeAlias = dict[str, jax.Array]

# Parameters start uniform in [-INIT_RANGE, INIT_RANGE] (paper).
INIT_RANGE = 0.1

# Stands for the logit of a choice that a step does not have.
IMPOSSIBLE = -1e30


class Options(NamedTuple):
    """Settings, as in `EnasOptions`: hashable, fixed when a program is compiled."""

    hidden_size: int = 64
    learning_rate: float = 0.0035
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_epsilon: float = 1e-8
    entropy_weight: float = 1e-4
    baseline_decay: float = 0.95
    baseline_from_zero: bool = False
    tanh_constant: float = 2.5
    temperature: float = 5.0
    op_logit_scale: float = 1.0
    skip_target: float = 0.4
    skip_weight: float = 0.0

    def optimizer(self) -> optax.GradientTransformation:
        """Adam."""
        return optax.adam(self.learning_rate, self.adam_beta1, self.adam_beta2, self.adam_epsilon)


class ControllerState(NamedTuple):
    """What learning changes; a pytree."""

    params: Params
    optimizer: optax.OptState
    baseline: jax.Array  # [] the moving average of rewards; NaN before the first batch
    updates: jax.Array  # [] int32


class UpdateStats(NamedTuple):
    """What one update saw; a pytree of scalars, NaN for a batch that teaches nothing."""

    reward: jax.Array  # mean, without the entropy term
    entropy: jax.Array  # mean of the trajectories', in nats
    log_prob: jax.Array  # mean of the trajectories', in nats


def init_params(seed: int, *, token_count: int, state_count: int, hidden_size: int) -> Params:
    """Fresh parameters. Drawn by NumPy: nothing has to be compiled for it."""
    shapes: dict[str, tuple[int, ...]] = {
        "lstm": (2 * hidden_size, 4 * hidden_size),  # input then h, to gates i, f, o, g
        "embedding": (token_count, hidden_size),  # the last row is the start token's
        "output": (token_count, hidden_size),
    }
    if state_count:
        shapes |= {
            "node_state": (state_count, hidden_size),  # before the node is built
            "attention_query": (hidden_size, hidden_size),  # W1
            "attention_key": (hidden_size, hidden_size),  # W2
            "attention": (hidden_size,),  # v
        }
    rng = np.random.Generator(np.random.PCG64(seed))
    return {
        name: jnp.asarray(rng.uniform(-INIT_RANGE, INIT_RANGE, shape).astype(np.float32))
        for name, shape in shapes.items()
    }


def init_state(params: Params, options: Options) -> ControllerState:
    """A controller that has learned nothing."""
    return ControllerState(
        params=params,
        optimizer=_init_optimizer(params, options=options),
        baseline=jnp.asarray(np.float32(0.0 if options.baseline_from_zero else np.nan)),
        updates=jnp.asarray(np.int32(0)),
    )


@partial(jax.jit, static_argnames="options")
def _init_optimizer(params: Params, *, options: Options) -> optax.OptState:
    return options.optimizer().init(params)


def seed_key(seed: int) -> jax.Array:
    """A key from all bits of a seed in [0, 2**63): `jax.random.key` would drop half of them."""
    words = jnp.asarray(np.array([seed >> 32, seed & 0xFFFFFFFF], np.uint32))
    key: jax.Array = jax.random.wrap_key_data(words, impl="threefry2x32")
    return key


@partial(jax.jit, static_argnames=("options", "count"))
def sample(
    params: Params, tables: Tables, key: jax.Array, *, options: Options, count: int
) -> tuple[jax.Array, jax.Array]:
    """Draws `count` architectures from the policy. `key` is consumed.

    Returns:
        The choices, int32 `[count, P]`, and the log-probability of each, `[count]`.
    """
    shape = (tables.mask.shape[0], count, tables.mask.shape[1])
    return _argmax_walk(params, tables, jax.random.gumbel(key, shape), options)


@partial(jax.jit, static_argnames="options")
def greedy(params: Params, tables: Tables, *, options: Options) -> jax.Array:
    """The architecture of the likeliest choice at every position, int32 `[P]`."""
    noise = jnp.zeros((tables.mask.shape[0], 1, tables.mask.shape[1]))
    return _argmax_walk(params, tables, noise, options)[0][0]


def conditionals(params: Params, tables: Tables, choices: jax.Array, options: Options) -> jax.Array:
    """The log-probability of every choice at every position, under the prefix in `choices`.

    Args:
        params: Of the controller.
        tables: Of the space.
        choices: int32 `[B, P]`; the controller is fed these (teacher forcing).
        options: Of the controller.

    Returns:
        `[B, P, C]`, with about -1e30 for choices that a position does not have.
    """
    steps = jnp.zeros((choices.shape[0], tables.mask.shape[0]), jnp.int32)
    steps = steps.at[:, tables.positions].set(choices)

    def step(carry: _Carry, row: tuple[Tables, jax.Array]) -> tuple[_Carry, jax.Array]:
        table, chosen = row
        carry, log_p = _advance(params, table, carry, options)
        return _feed(params, table, carry, chosen), log_p

    carry = _start(params, choices.shape[0])
    _, log_p = jax.lax.scan(step, carry, (_rows(tables), steps.T))  # [T, B, C]
    return log_p[tables.positions].transpose(1, 0, 2)


def log_prob(log_p: jax.Array, choices: jax.Array) -> jax.Array:
    """The log-probability of each trajectory `[B]`, given `conditionals` `[B, P, C]`."""
    return jnp.take_along_axis(log_p, choices[..., None], axis=-1)[..., 0].sum(-1)


def entropy(log_p: jax.Array) -> jax.Array:
    """The sum over positions of the entropy there, `[B]` in nats, given `conditionals`."""
    return -(jnp.exp(log_p) * jnp.maximum(log_p, IMPOSSIBLE)).sum((-1, -2))


def skip_penalty(log_p: jax.Array, tables: Tables, target: float) -> jax.Array:
    """How far the skips of each trajectory are from the prior `[B]`, given `conditionals`.

    The Kullback-Leibler divergence of (no, take) from (1 - target, target), summed over the
    skips of a layer, and the mean of that over layers: `src/cifar10/general_controller.py` of
    the authors' code. The probabilities here are those that are sampled from.
    """
    prior = jnp.log(jnp.array([1 - target, target]))
    two = log_p[..., :2]
    divergence = (jnp.exp(two) * (two - prior)).sum(-1)
    return (tables.skip[tables.positions] * divergence).sum(-1)


def reinforce(
    state: ControllerState,
    tables: Tables,
    choices: jax.Array,
    rewards: jax.Array,
    options: Options,
) -> tuple[ControllerState, UpdateStats]:
    """One REINFORCE step on the evaluated trajectories themselves.

    The gradient is that of -mean_i (R_i - b) log p(a_i), where R_i includes the entropy
    of the trajectory, without gradient, and b is the moving average that includes this
    batch, as in the authors' code; plus that of the prior on skips, if it has a weight.

    Args:
        state: Of the controller.
        tables: Of the space.
        choices: The architectures evaluated, int32 `[B, P]`.
        rewards: `[B]`, higher is better. NaN, for unscored, counts as the lowest of the
            batch; a batch of nothing else leaves the state as it is.
        options: Of the controller.
    """
    is_scored = ~jnp.isnan(rewards)
    worst = jnp.min(jnp.where(is_scored, rewards, jnp.inf))
    filled = jnp.where(is_scored, rewards, worst)

    def loss(params: Params) -> tuple[jax.Array, tuple[jax.Array, UpdateStats]]:
        log_p = conditionals(params, tables, choices, options)
        entropies = jax.lax.stop_gradient(entropy(log_p))
        total = filled + options.entropy_weight * entropies
        decay = options.baseline_decay
        moved = decay * state.baseline + (1 - decay) * total.mean()
        baseline = jnp.where(jnp.isnan(state.baseline), total.mean(), moved)
        log_probs = log_prob(log_p, choices)
        stats = UpdateStats(filled.mean(), entropies.mean(), log_probs.mean())
        value = -((total - baseline) * log_probs).mean()
        if options.skip_weight:
            penalty = skip_penalty(log_p, tables, options.skip_target).mean()
            value += options.skip_weight * penalty
        return value, (baseline, stats)

    (_, (baseline, stats)), gradients = jax.value_and_grad(loss, has_aux=True)(state.params)
    steps, optimizer = options.optimizer().update(gradients, state.optimizer, state.params)
    learned = ControllerState(
        params=optax.apply_updates(state.params, steps),
        optimizer=optimizer,
        baseline=baseline,
        updates=state.updates + 1,
    )
    teaches = is_scored.any()
    state = jax.tree.map(lambda new, old: jnp.where(teaches, new, old), learned, state)
    return state, jax.tree.map(lambda value: jnp.where(teaches, value, jnp.nan), stats)


update = partial(jax.jit, static_argnames="options")(reinforce)
"""`reinforce`, compiled."""


@partial(jax.jit, static_argnames="options")
def imitate(
    state: ControllerState, tables: Tables, choices: jax.Array, options: Options
) -> ControllerState:
    """One step that makes trajectories likelier: the gradient is that of -mean_i log p(a_i).

    Args:
        state: Of the controller; baseline and count of updates stay as they are.
        tables: Of the space.
        choices: Architectures, int32 `[B, P]`.
        options: Of the controller.
    """

    def loss(params: Params) -> jax.Array:
        return -log_prob(conditionals(params, tables, choices, options), choices).mean()

    gradients = jax.grad(loss)(state.params)
    steps, optimizer = options.optimizer().update(gradients, state.optimizer, state.params)
    return state._replace(params=optax.apply_updates(state.params, steps), optimizer=optimizer)


class _Carry(NamedTuple):
    cell: jax.Array  # [B, H]
    hidden: jax.Array  # [B, H]
    read: jax.Array  # [B, H] the next input
    states: jax.Array  # [B, S, H]
    keys: jax.Array  # [B, S, H] W2 state


def _rows(tables: Tables) -> Tables:
    """Tables with T as the first axis of every leaf, to scan over."""
    return tables._replace(positions=tables.write)  # nobody reads them step by step


def _start(params: Params, count: int) -> _Carry:
    hidden_size = params["embedding"].shape[1]
    zeros = jnp.zeros((count, hidden_size))
    read = jnp.broadcast_to(params["embedding"][-1], zeros.shape)
    if "node_state" not in params:
        return _Carry(zeros, zeros, read, zeros[:, None, :0], zeros[:, None, :0])
    states = params["node_state"]
    keys = states @ params["attention_key"]
    shape = (count, *states.shape)
    return _Carry(
        zeros, zeros, read, jnp.broadcast_to(states, shape), jnp.broadcast_to(keys, shape)
    )


def _advance(
    params: Params, table: Tables, carry: _Carry, options: Options
) -> tuple[_Carry, jax.Array]:
    """Runs the LSTM for one step; returns the log-probabilities of its choices, `[B, C]`."""
    gates = jnp.concatenate([carry.read, carry.hidden], axis=-1) @ params["lstm"]
    i, f, o, g = jnp.split(gates, 4, axis=-1)
    cell = jax.nn.sigmoid(f) * carry.cell + jax.nn.sigmoid(i) * jnp.tanh(g)
    hidden = jax.nn.sigmoid(o) * jnp.tanh(cell)
    carry = carry._replace(cell=cell, hidden=hidden)
    logits = hidden @ params["output"][table.token].T  # [B, C]
    if "node_state" in params:
        query = hidden @ params["attention_query"]
        attended = jnp.tanh(query[:, None] + carry.keys[:, table.state])  # [B, C, H]
        logits = jnp.where(table.is_node, attended @ params["attention"], logits)
        is_written = jnp.arange(carry.states.shape[1])[None, :, None] == table.write
        key = hidden @ params["attention_key"]
        carry = carry._replace(
            states=jnp.where(is_written, hidden[:, None], carry.states),
            keys=jnp.where(is_written, key[:, None], carry.keys),
        )
    logits = options.tanh_constant * jnp.tanh(logits / options.temperature)
    if options.op_logit_scale != 1.0:
        logits = jnp.where(table.is_node, logits, options.op_logit_scale * logits)
    return carry, jax.nn.log_softmax(jnp.where(table.mask, logits, IMPOSSIBLE))


def _feed(params: Params, table: Tables, carry: _Carry, chosen: jax.Array) -> _Carry:
    """Makes the choices `chosen`, int32 `[B]`, the next input."""
    read = params["embedding"][table.token[chosen]]
    if "node_state" in params:
        state = jnp.take_along_axis(carry.states, table.state[chosen][:, None, None], axis=1)
        read = jnp.where(table.is_node[chosen][:, None], state[:, 0], read)
    return carry._replace(read=read)


def _argmax_walk(
    params: Params, tables: Tables, noise: jax.Array, options: Options
) -> tuple[jax.Array, jax.Array]:
    """Takes the choice of the largest log-probability plus `noise` `[T, B, C]` at each step."""

    def step(
        carry: _Carry, row: tuple[Tables, jax.Array]
    ) -> tuple[_Carry, tuple[jax.Array, jax.Array]]:
        table, added = row
        carry, log_p = _advance(params, table, carry, options)
        chosen = jnp.argmax(log_p + added, axis=-1).astype(jnp.int32)
        chosen_log_p = jnp.take_along_axis(log_p, chosen[:, None], axis=-1)[:, 0]
        return _feed(params, table, carry, chosen), (chosen, chosen_log_p)

    _, (choices, log_p) = jax.lax.scan(step, _start(params, noise.shape[1]), (_rows(tables), noise))
    return choices[tables.positions].T, log_p.sum(0)
