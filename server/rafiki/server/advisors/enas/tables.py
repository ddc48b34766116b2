"""The positions of a search space as arrays, which one compiled program walks.

Letters: T steps, C choices (the most of any step), S node states, V tokens.

A step is a position of an arch knob, or the end of a node: a step with a single choice,
the start token, whose only effect is to write the state of the node (the authors' code
does the same: one more step of the LSTM, and the next input is the start embedding).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rafiki.model.knobs import ArchKnob, KnobConfig, NodeRef, arch_knobs, choice_tokens

NO_STATE = -1


class Tables(NamedTuple):
    """What there is to choose at each step; a pytree of arrays.

    `positions` are the steps that are positions, in their order. In unused entries of
    `token` and `state` is 0; `mask` says which choices a step has.
    """

    token: jax.Array  # int32 [T, C] the token of a choice that is one, else 0
    state: jax.Array  # int32 [T, C] the node state of a choice that is a node, else 0
    is_node: jax.Array  # bool [T, C]
    mask: jax.Array  # bool [T, C]
    write: jax.Array  # int32 [T] the node state written at this step, or NO_STATE
    skip: jax.Array  # float32 [T] the weight of a skip in the prior: 1 / layers, else 0
    positions: jax.Array  # int32 [P] the steps that are positions


class Space(NamedTuple):
    """Tables, and the sizes of what they index. `token_count` includes the start token."""

    tables: Tables
    token_count: int
    state_count: int
    states: dict[tuple[str, int], int]  # by arch knob and node

    @property
    def start_token(self) -> int:
        """The token of the first input, and of the input after a node has ended."""
        return self.token_count - 1


class _Step(NamedTuple):
    choices: Sequence[tuple[bool, int]]  # (is a node, its state or token)
    write: int
    is_position: bool
    is_skip: bool = False


def build_space(config: KnobConfig) -> Space:
    """The tables of all arch knobs of a config, in declared order: one trajectory."""
    tokens = choice_tokens(config)
    start = len(tokens)
    states: dict[tuple[str, int], int] = {}
    steps: list[_Step] = []
    for name, knob in arch_knobs(config).items():
        for node in _nodes(knob):
            states[name, node] = len(states)
        positions = zip(knob.items, knob.nodes, knob.skips, strict=True)
        for number, (position, node_built, skip) in enumerate(positions):
            choices = [
                (True, states[name, choice.node])
                if isinstance(choice, NodeRef)
                else (False, tokens[choice])
                for choice in position
            ]
            steps.append(_Step(choices, NO_STATE, True, skip))
            if node_built is not None and node_built not in knob.nodes[number + 1 :]:
                steps.append(_Step([(False, start)], states[name, node_built], False))
    return Space(_pack(steps), start + 1, len(states), states)


def _nodes(knob: ArchKnob) -> list[int]:
    """The nodes that a knob builds or refers to, in ascending order."""
    referred = {
        choice.node for position in knob.items for choice in position if isinstance(choice, NodeRef)
    }
    return sorted(referred | {node for node in knob.nodes if node is not None})


def _pack(steps: Sequence[_Step]) -> Tables:
    shape = (len(steps), max(len(step.choices) for step in steps))
    token, state = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    is_node, mask = np.zeros(shape, np.bool_), np.zeros(shape, np.bool_)
    for number, step in enumerate(steps):
        for index, (node, value) in enumerate(step.choices):
            (state if node else token)[number, index] = value
            is_node[number, index] = node
            mask[number, index] = True
    is_skip = np.array([step.is_skip for step in steps])
    # Skips that follow one another are of one layer, as in the authors' macro space.
    layers = np.count_nonzero(np.diff(is_skip, prepend=False) & is_skip)
    return Tables(
        token=jnp.asarray(token),
        state=jnp.asarray(state),
        is_node=jnp.asarray(is_node),
        mask=jnp.asarray(mask),
        write=jnp.array([step.write for step in steps], jnp.int32),
        skip=jnp.asarray(is_skip / max(1, layers), jnp.float32),
        positions=jnp.array(np.flatnonzero([step.is_position for step in steps]), jnp.int32),
    )
