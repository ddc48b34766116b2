"""The search space of recurrent cells: what is shared, what is active, what is computed.

Letters as in `rafiki.supernet.recurrent`.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from rafiki.supernet.banks import Bank, Row, Rows, Tensors
from rafiki.supernet.recurrent.architecture import RecurrentArchitecture, bank_row
from rafiki.supernet.recurrent.cell import run_cell
from rafiki.supernet.recurrent.dropout import Masks

# Of fresh weights; enas_lm has 0.04 in search and 0.05 in a final training.
INIT_RANGE = 0.04


@dataclass(frozen=True, kw_only=True)
class RecurrentSpace:
    """All language models of one size, with shared weights or each with its own.

    Tensors of a checkpoint:
        embedding `[V, H]`, output/bias `[V]`: The embedding is that of the output, too.
        cell/input, cell/state `[H, 2 H]`: Of node 0; values in the first half, gates in the
            second, as in all of the cell.
        cell/node_{k}/from_{j} `[H, 2 H]`: Where weights are shared.
        cell/nodes `[N, H, 2 H]`: Where they are not: those of the one cell there is.

    Attributes:
        words: V.
        hidden: H.
        nodes: N.
        is_shared: Whether there are weights for all cells; a program for one cell of its own
            serves all of them as well.
    """

    words: int
    hidden: int
    nodes: int
    is_shared: bool

    def init(self, seed: int) -> dict[str, np.ndarray]:
        """Fresh weights, uniform in a small range."""
        rng = np.random.default_rng(seed)
        hidden = self.hidden
        rows = bank_row(self.nodes + 1, 0) if self.is_shared else self.nodes
        sizes = {
            "embedding": (self.words, hidden),
            "cell/input": (hidden, 2 * hidden),
            "cell/state": (hidden, 2 * hidden),
            "cell/nodes": (rows, hidden, 2 * hidden),
        }
        params = {
            name: rng.uniform(-INIT_RANGE, INIT_RANGE, size).astype(np.float32)
            for name, size in sizes.items()
        }
        return params | {"output/bias": np.zeros(self.words, np.float32)}

    def banks(self) -> Mapping[str, Bank]:
        """The nodes, if their weights are shared."""
        return _banks(self.nodes, self.hidden) if self.is_shared else {}

    def rows(self, arch: RecurrentArchitecture) -> Rows:
        """The row of every node."""
        return {"cell/nodes": (arch.rows,)} if self.is_shared else {}

    def outputs(
        self,
        active: Tensors,
        arch: RecurrentArchitecture,
        words: Array,
        state: Array,
        masks: Masks,
    ) -> tuple[Array, Array]:
        """The cell's outputs `[T, B, H]` along a text and the state after it `[B, H]`.

        Args:
            active: What `gather_active` took.
            arch: The cell.
            words: int32 `[T, B]`.
            state: `[B, H]` before the first words.
            masks: What is dropped.
        """
        x = active["embedding"][words] * masks.inputs
        if not isinstance(masks.words, float):
            x = x * masks.words[words]
        return run_cell(active, arch, x, state, masks.nodes)

    def logits(self, active: Tensors, outputs: Array) -> Array:
        """Scores `[..., V]` of the next words, of outputs `[..., H]`."""
        return jnp.matmul(outputs, active["embedding"].T) + active["output/bias"]


@functools.cache
def _banks(nodes: int, hidden: int) -> dict[str, Bank]:
    rows = tuple(
        Row(
            index=(bank_row(node, earlier),), path=f"cell/node_{node}/from_{earlier}", length=hidden
        )
        for node in range(1, nodes + 1)
        for earlier in range(node)
    )
    return {"cell/nodes": Bank(rows=rows)}
