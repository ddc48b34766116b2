"""A controller with its state: draws architectures, learns from rewards, can be dumped."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from rafiki.model.knobs import KnobConfig
from rafiki.resources import EnasOptions
from rafiki.server.advisors.enas import controller
from rafiki.server.advisors.enas.tables import build_space
from rafiki.server.advisors.space import Choices
from rafiki.server.domain.seeds import derive_seed

# Architectures drawn per call of the one compiled program, at least.
DRAWN_AT_ONCE = 10


class Learner:
    """The controller of one study. Not thread-safe."""

    def __init__(self, knob_config: KnobConfig, options: EnasOptions, seed: int) -> None:
        space = build_space(knob_config)
        self._tables = space.tables
        self._batch = options.candidates_per_batch
        self._options = controller.Options(
            hidden_size=options.hidden_size,
            learning_rate=options.controller_learning_rate,
            adam_beta1=options.adam_beta1,
            adam_beta2=options.adam_beta2,
            adam_epsilon=options.adam_epsilon,
            entropy_weight=options.entropy_weight,
            baseline_decay=options.baseline_decay,
            baseline_from_zero=options.baseline_from_zero,
            tanh_constant=options.tanh_constant,
            temperature=options.temperature,
            op_logit_scale=options.op_logit_scale,
            skip_target=options.skip_target,
            skip_weight=options.skip_weight,
        )
        params = controller.init_params(
            seed,
            token_count=space.token_count,
            state_count=space.state_count,
            hidden_size=options.hidden_size,
        )
        self._state = controller.init_state(params, self._options)

    @property
    def updates(self) -> int:
        """The batches learned from so far."""
        return int(self._state.updates)

    @property
    def baseline(self) -> float:
        """The moving average of rewards; before the first batch NaN, or 0 if it starts there."""
        return float(self._state.baseline)

    def sample(self, count: int, seed: int) -> list[Choices]:
        """Draws `count` architectures, a pure function of the state and `seed`."""
        width = max(self._batch, DRAWN_AT_ONCE)
        drawn: list[Choices] = []
        for number in range(-(-count // width)):
            choices, _ = controller.sample(
                self._state.params,
                self._tables,
                controller.seed_key(derive_seed(seed, number)),
                options=self._options,
                count=width,
            )
            drawn.extend(map(tuple, np.asarray(choices).tolist()))
        return drawn[:count]

    def greedy(self) -> Choices:
        """The architecture of the likeliest choices."""
        choices = controller.greedy(self._state.params, self._tables, options=self._options)
        return tuple(np.asarray(choices).tolist())

    def learn(self, batch: Sequence[Choices], rewards: Sequence[float]) -> float:
        """Learns from a batch of evaluated architectures; NaN rewards are unscored.

        Returns:
            The mean entropy of their trajectories in nats; NaN if the batch taught nothing.
        """
        self._state, stats = controller.update(
            self._state,
            self._tables,
            jnp.array(batch, jnp.int32),
            jnp.array(rewards, jnp.float32),
            options=self._options,
        )
        return float(stats.entropy)

    def imitate(self, batch: Sequence[Choices]) -> None:
        """Makes architectures likelier, by one step."""
        choices = jnp.array(batch, jnp.int32)
        self._state = controller.imitate(self._state, self._tables, choices, self._options)

    def dump(self) -> dict[str, NDArray[np.generic]]:
        """All parameters, optimizer state, baseline and count as arrays."""
        leaves = jax.tree.leaves(self._state.optimizer)
        arrays = {f"params/{name}": value for name, value in self._state.params.items()}
        arrays |= {f"optimizer/{number}": value for number, value in enumerate(leaves)}
        arrays |= {"baseline": self._state.baseline, "updates": self._state.updates}
        return {name: np.asarray(value) for name, value in arrays.items()}

    def load(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Restores what `dump` gave."""
        leaves, tree = jax.tree.flatten(self._state.optimizer)
        self._state = controller.ControllerState(
            params={name: jnp.asarray(arrays[f"params/{name}"]) for name in self._state.params},
            optimizer=jax.tree.unflatten(
                tree, [jnp.asarray(arrays[f"optimizer/{number}"]) for number in range(len(leaves))]
            ),
            baseline=jnp.asarray(arrays["baseline"]),
            updates=jnp.asarray(arrays["updates"]),
        )
