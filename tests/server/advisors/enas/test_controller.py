"""The controller's programs: sampling, teacher forcing, attention over nodes, learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rafiki.model.knobs import ArchKnob, KnobConfig, KnobValue, NodeRef
from rafiki.resources import EnasOptions
from rafiki.server.advisors.enas import controller
from rafiki.server.advisors.enas.controller import ControllerState, Options, Params
from rafiki.server.advisors.enas.learner import Learner
from rafiki.server.advisors.enas.tables import NO_STATE, Space, build_space

if TYPE_CHECKING:
    from rafiki.server.domain.advisor import AdvisorConfig

OPTIONS = Options(hidden_size=8, entropy_weight=0.0)
COUNT = 10

_conditionals = jax.jit(controller.conditionals, static_argnames="options")


@pytest.fixture
def space(make_enas: Callable[..., AdvisorConfig]) -> Space:
    return build_space(make_enas().knob_config)


@pytest.fixture
def params(space: Space) -> Params:
    return fresh_params(space)


def fresh_params(space: Space, scale: float = 10.0) -> Params:
    """Parameters `scale` times as large as fresh ones, so that the policy is not uniform."""
    small = controller.init_params(
        3, token_count=space.token_count, state_count=space.state_count, hidden_size=8
    )
    return {name: scale * value for name, value in small.items()}


def sample(params: Params, space: Space, seed: int = 1) -> tuple[jax.Array, jax.Array]:
    key = controller.seed_key(seed)
    choices, log_p = controller.sample(params, space.tables, key, options=OPTIONS, count=COUNT)
    return choices, log_p


def conditionals(params: Params, space: Space, choices: jax.Array) -> jax.Array:
    log_p: jax.Array = _conditionals(params, space.tables, choices, options=OPTIONS)
    return log_p


def zeros(positions: int) -> jax.Array:
    """The architectures of every first choice, as many as all tests use at once."""
    return jnp.zeros((COUNT, positions), jnp.int32)


def test_a_token_is_an_instance_wherever_it_occurs() -> None:
    shared, equal = KnobValue("conv"), KnobValue("conv")
    config = {"a": ArchKnob([[shared, equal]]), "b": ArchKnob([[equal, shared]])}
    tables = build_space(config).tables
    assert tables.token.tolist() == [[0, 1], [1, 0]]


def test_a_node_is_written_after_its_last_position_and_inputs_never(space: Space) -> None:
    write = space.tables.write.tolist()
    assert len(space.tables.positions) == 16
    assert len(write) == 16 + 4  # two nodes in each of two cells
    assert [state for state in write if state != NO_STATE] == [
        space.states["normal", 2],
        space.states["normal", 3],
        space.states["reduction", 2],
        space.states["reduction", 3],
    ]
    assert write[4] == space.states["normal", 2]  # after the four positions of node 2


def test_teacher_forced_log_probabilities_equal_the_samplers(space: Space, params: Params) -> None:
    choices, sampled = sample(params, space)
    forced = controller.log_prob(conditionals(params, space, choices), choices)
    np.testing.assert_allclose(forced, sampled, rtol=1e-5)


def test_only_choices_that_a_position_has_are_drawn_and_probable(
    space: Space, params: Params
) -> None:
    choices, _ = sample(params, space)
    sizes = space.tables.mask.sum(1)[space.tables.positions]
    assert (choices >= 0).all() and (choices < sizes).all()
    probabilities = jnp.exp(conditionals(params, space, choices))
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    mask = space.tables.mask[space.tables.positions]
    assert (jnp.where(mask, 0, probabilities) == 0).all()


def test_draws_follow_the_probabilities_that_teacher_forcing_gives() -> None:
    a, b, c = (KnobValue(value) for value in "abc")
    space = build_space({"arch": ArchKnob([[a, b, c]])})
    params = fresh_params(space)
    draws = np.concatenate([np.asarray(sample(params, space, n)[0])[:, 0] for n in range(200)])
    shares = np.bincount(draws, minlength=3) / len(draws)
    expected = jnp.exp(conditionals(params, space, zeros(1)))[0, 0]
    np.testing.assert_allclose(shares, expected, atol=0.04)


def test_the_same_seed_draws_the_same_and_another_draws_others(
    space: Space, params: Params
) -> None:
    first, second, other = (sample(params, space, seed)[0] for seed in (1, 1, 1 + 2**40))
    assert (first == second).all()
    assert (first != other).any()


def test_choices_of_one_token_share_an_embedding_and_an_output(space: Space) -> None:
    knob_values = [KnobValue("a"), KnobValue("b")]
    shared = build_space({"x": ArchKnob([knob_values] * 3), "y": ArchKnob([knob_values])})
    params = fresh_params(shared)
    assert params["embedding"].shape == params["output"].shape == (2 + 1, 8)
    choices = zeros(4)
    before = conditionals(params, shared, choices)
    moved = {**params, "output": params["output"].at[0].add(1.0)}
    changed = (conditionals(moved, shared, choices) != before).any(-1)
    assert changed.all()  # one vector scores the token at every position of both knobs


@pytest.mark.parametrize("node", [0, 1])
def test_changing_a_nodes_state_changes_the_probability_of_choosing_it(
    space: Space, params: Params, node: int
) -> None:
    choices, _ = sample(params, space)
    slot = space.states["normal", node]
    moved = {**params, "node_state": params["node_state"].at[slot].add(1.0)}
    before = conditionals(params, space, choices)[:, 0]  # the first input of the first node
    after = conditionals(moved, space, choices)[:, 0]
    assert (before[:, node] != after[:, node]).all()


def test_the_state_of_a_built_node_depends_on_its_choices(space: Space, params: Params) -> None:
    """Of two architectures that differ in node 2, node 3 attends to different states."""
    log_p = conditionals(params, space, zeros(16).at[1, 1].set(2))
    first_input_of_node_3 = 4
    assert log_p[0, first_input_of_node_3, 2] != log_p[1, first_input_of_node_3, 2]


def test_a_node_attends_within_its_own_arch_knob(space: Space, params: Params) -> None:
    slots = [space.states["reduction", node] for node in (0, 1)]
    moved = {**params, "node_state": params["node_state"].at[jnp.array(slots)].add(1.0)}
    choices = zeros(16)
    before, after = (conditionals(p, space, choices)[0] for p in (params, moved))
    np.testing.assert_array_equal(before[:8], after[:8])
    assert (before[8] != after[8]).any()


def test_logits_are_bounded_by_the_tanh_constant(space: Space) -> None:
    params = fresh_params(space, scale=1e4)
    choices, _ = sample(params, space)
    log_p = conditionals(params, space, choices)
    mask = space.tables.mask[space.tables.positions]
    largest = jnp.where(mask, log_p, -jnp.inf).max(-1)
    smallest = jnp.where(mask, log_p, jnp.inf).min(-1)
    assert (largest - smallest).max() <= 2 * OPTIONS.tanh_constant + 1e-4


def test_greedy_takes_the_likeliest_choice_under_its_own_prefix(
    space: Space, params: Params
) -> None:
    choices = controller.greedy(params, space.tables, options=OPTIONS)
    log_p = conditionals(params, space, jnp.tile(choices, (COUNT, 1)))
    assert (log_p.argmax(-1) == choices).all()


def test_the_entropy_is_that_of_every_position_on_the_trajectory(space: Space) -> None:
    params = fresh_params(space, scale=0.0)  # uniform everywhere
    log_p = conditionals(params, space, zeros(16))
    sizes = space.tables.mask.sum(1)[space.tables.positions]
    np.testing.assert_allclose(controller.entropy(log_p), jnp.log(sizes).sum(), rtol=1e-5)


@pytest.mark.slow
def test_the_first_step_goes_along_the_gradient_of_the_evaluated_trajectories(
    space: Space, params: Params
) -> None:
    choices, _ = sample(params, space)
    rewards = jnp.linspace(0, 1, COUNT)
    learned = step(controller.init_state(params, OPTIONS), space, choices, rewards, OPTIONS)

    def objective(params: Params) -> jax.Array:
        log_p = controller.conditionals(params, space.tables, choices, OPTIONS)
        return ((rewards - rewards.mean()) * controller.log_prob(log_p, choices)).mean()

    # The first step of Adam is the learning rate along the sign of the gradient.
    for name, gradient in jax.jit(jax.grad(objective))(params).items():
        clear = jnp.abs(gradient) > 1e-5
        assert clear.any()
        steps = (learned.params[name] - params[name]) / OPTIONS.learning_rate
        np.testing.assert_allclose(steps[clear], jnp.sign(gradient)[clear], atol=0.01)


def test_the_first_baseline_is_the_first_batch_and_later_ones_move(
    space: Space, params: Params
) -> None:
    state = controller.init_state(params, OPTIONS)
    choices, _ = sample(params, space)
    first = step(state, space, choices, jnp.full(COUNT, 0.5), OPTIONS)
    assert first.baseline == pytest.approx(0.5)
    second = step(first, space, choices, jnp.full(COUNT, 1.0), OPTIONS)
    assert second.baseline == pytest.approx(0.95 * 0.5 + 0.05 * 1.0)
    # A batch of equal rewards says nothing against itself.
    unchanged = jax.tree.map(lambda new, old: jnp.allclose(new, old), first.params, params)
    assert all(jax.tree.leaves(unchanged))


@pytest.mark.slow
def test_entropy_is_a_part_of_the_reward_without_gradient(space: Space, params: Params) -> None:
    options = OPTIONS._replace(entropy_weight=2.0)
    choices, _ = sample(params, space)
    entropies = controller.entropy(conditionals(params, space, choices))
    with_term = step(
        controller.init_state(params, options), space, choices, jnp.zeros(COUNT), options
    )
    plain = OPTIONS._replace(entropy_weight=0.0)
    as_reward = step(controller.init_state(params, plain), space, choices, 2.0 * entropies, plain)
    assert with_term.baseline == pytest.approx(float(2 * entropies.mean()), rel=1e-5)
    for name in params:
        np.testing.assert_allclose(with_term.params[name], as_reward.params[name], atol=1e-5)


def test_an_unscored_candidate_counts_as_the_worst_of_its_batch(
    space: Space, params: Params
) -> None:
    state = controller.init_state(params, OPTIONS)
    choices, _ = sample(params, space)
    rewards = jnp.linspace(0.2, 0.8, COUNT)
    with_nan = step(state, space, choices, rewards.at[5].set(jnp.nan), OPTIONS)
    with_worst = step(state, space, choices, rewards.at[5].set(0.2), OPTIONS)
    for name in params:
        np.testing.assert_array_equal(with_nan.params[name], with_worst.params[name])


def test_a_batch_without_scores_changes_nothing(space: Space, params: Params) -> None:
    state = controller.init_state(params, OPTIONS)
    choices, _ = sample(params, space)
    learned = step(state, space, choices, jnp.full(COUNT, jnp.nan), OPTIONS)
    same = jax.tree.map(lambda a, b: np.array_equal(a, b, equal_nan=True), learned, state)
    assert all(jax.tree.leaves(same))


def test_every_parameter_of_a_cell_space_is_learned(space: Space, params: Params) -> None:
    choices, _ = sample(params, space)
    state = controller.init_state(params, OPTIONS)
    learned = step(state, space, choices, jnp.linspace(0, 1, COUNT), OPTIONS)
    assert all((learned.params[name] != params[name]).any() for name in params)


def test_a_dumped_learner_goes_on_bit_for_bit(make_enas: Callable[..., AdvisorConfig]) -> None:
    config: KnobConfig = make_enas().knob_config
    options = EnasOptions(hidden_size=8, entropy_weight=0.0)
    learner, restored = (Learner(config, options, seed) for seed in (1, 2))
    batch = learner.sample(10, 5)
    learner.learn(batch, [0.1 * number for number in range(10)])
    restored.load(learner.dump())
    for rewards in ([0.5] * 9 + [0.9], [0.1] * 10):
        assert learner.sample(25, 7) == restored.sample(25, 7)
        assert learner.learn(batch, rewards) == restored.learn(batch, rewards)
    assert learner.greedy() == restored.greedy()
    assert learner.baseline == restored.baseline


def test_an_arch_knob_may_mix_nodes_and_tokens() -> None:
    skip = KnobValue("none")
    space = build_space({"arch": ArchKnob([[NodeRef(0), skip], [NodeRef(1), NodeRef(0), skip]])})
    params = fresh_params(space)
    choices, sampled = sample(params, space)
    forced = controller.log_prob(conditionals(params, space, choices), choices)
    np.testing.assert_allclose(forced, sampled, rtol=1e-5)


def step(
    state: ControllerState,
    space: Space,
    choices: jax.Array,
    rewards: jax.Array,
    options: Options,
) -> ControllerState:
    learned: ControllerState
    rewards = jnp.asarray(rewards, jnp.float32)  # not weakly typed: one program for all
    learned, _ = controller.update(state, space.tables, choices, rewards, options=options)
    return learned
