"""A template that compiles one program per method, and another one per width."""

import jax
import jax.numpy as jnp
import numpy as np

from rafiki.model import BaseModel, IntegerKnob, KnobConfig, Params


@jax.jit
def heavy_step(x: jax.Array) -> jax.Array:
    """Takes a while to compile and no time to run: a long chain of different operations."""
    for number in range(30):
        x = jnp.tanh(x @ x + number) / (1.0 + jnp.abs(jnp.roll(x, number % 7, axis=0)))
    return x


class Compiled(BaseModel):
    """Its score says nothing."""

    task = "NUMBERS"

    def __init__(self, **knobs: int) -> None:
        self.width = knobs["width"]

    @staticmethod
    def get_knob_config() -> KnobConfig:
        return {"width": IntegerKnob(2, 64)}

    def train(
        self, dataset_path: str, shared_params: Params | None = None, **train_args: object
    ) -> None:
        for _ in range(3):
            heavy_step(jnp.ones((self.width, self.width))).block_until_ready()

    def evaluate(self, dataset_path: str) -> float:
        return float(heavy_step(jnp.ones((self.width, self.width))).sum())

    def predict(self, queries: list[object]) -> list[object]:
        return [0 for _ in queries]

    def dump_parameters(self) -> dict[str, np.ndarray]:
        return {"width": np.asarray(self.width)}

    def load_parameters(self, params: Params) -> None:
        self.width = int(params["width"])
