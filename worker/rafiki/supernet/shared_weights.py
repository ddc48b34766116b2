"""The weights of a supernet between its programs: fresh, dumped, loaded, counted."""

from collections.abc import Iterator, Sequence
from typing import Generic, TypeVar

import jax.numpy as jnp
import numpy as np

from rafiki.model import Params
from rafiki.supernet.devices import on_devices
from rafiki.supernet.parameters import take_tensor
from rafiki.supernet.programs import Weights
from rafiki.supernet.space import SearchSpace

MAX_TENSORS = 4000

Arch = TypeVar("Arch")


class SharedWeights(Generic[Arch]):
    """Shared weights, their optimiser states, and how many minibatches they have seen.

    Tensors of a checkpoint:
        {path}: Of every row of a bank, and of every other weight by its name.
        optimizer/steps: int64, the minibatches trained.
        optimizer/{slot}/{path}: The states of each of the above.
    """

    def __init__(self, space: SearchSpace[Arch], slots: Sequence[str]) -> None:
        """Without values, until `reset` or `load`.

        Raises:
            ValueError: They make more tensors than a checkpoint may have.
        """
        self.space = space
        self.steps = 0
        self.current = Weights({}, {slot: {} for slot in slots})
        self._banks = space.banks()
        self._sizes = {name: value.shape for name, value in space.init(0).items()}
        tensors = sum(
            len(self._banks[name].rows) if name in self._banks else 1 for name in self._sizes
        )
        if tensors * (1 + len(slots)) > MAX_TENSORS:
            raise ValueError(
                f"{tensors * (1 + len(slots))} tensors are over the limit of {MAX_TENSORS}: "
                "fewer cells or layers are needed"
            )

    def reset(self, seed: int) -> None:
        """Fresh weights."""
        fresh = self.space.init(seed)
        self.current = Weights(
            {name: on_devices(value) for name, value in fresh.items()},
            {slot: self._zeros() for slot in self.current.slots},
        )
        self.steps = 0

    def updates(self, archs: Sequence[Arch]) -> dict[str, int]:
        """How often a step with each of `archs` updates every tensor that it does update."""
        counts = dict.fromkeys(self._sizes, len(archs))
        active = [self.space.rows(arch) for arch in archs]
        for name, bank in self._banks.items():
            # One more than there are rows: what is past the end is no row.
            rows = np.zeros([size + 1 for size in self._sizes[name][: bank.depth]], np.int64)
            for of_arch in active:
                rows[of_arch[name]] += 1
            del counts[name]
            counts |= {row.path: int(rows[row.index]) for row in bank.rows}
        counts |= {
            f"optimizer/{slot}/{path}": count
            for slot in self.current.slots
            for path, count in list(counts.items())
        }
        counts["optimizer/steps"] = len(archs)
        return {path: count for path, count in counts.items() if count}

    def dump(self) -> dict[str, np.ndarray]:
        """One tensor per row of a bank, and all the others."""
        dumped = {"optimizer/steps": np.array(self.steps, np.int64)}
        for prefix, tensors in self._by_prefix():
            for name, tensor in tensors.items():
                # A copy: the program that trains next takes the memory over.
                values = np.array(tensor)
                if name not in self._banks:
                    dumped[prefix + name] = values
                    continue
                for row in self._banks[name].rows:
                    of_row = values[row.index]
                    dumped[prefix + row.path] = of_row[: row.length] if of_row.ndim else of_row
        return dumped

    def load(self, params: Params) -> None:
        """Takes what `dump` gave; without optimiser states they begin at zero."""
        slots = self.current.slots
        if has_states := "optimizer/steps" in params:
            self.steps = int(take_tensor(params, "optimizer/steps", ()))
        else:
            self.steps = 0
        self.current = Weights(
            self._load(params, ""),
            {
                slot: self._load(params, f"optimizer/{slot}/") if has_states else self._zeros()
                for slot in slots
            },
        )

    def _by_prefix(self) -> Iterator[tuple[str, dict[str, jnp.ndarray]]]:
        yield "", self.current.params
        for slot, tensors in self.current.slots.items():
            yield f"optimizer/{slot}/", tensors

    def _zeros(self) -> dict[str, jnp.ndarray]:
        return {name: on_devices(np.zeros(s, np.float32)) for name, s in self._sizes.items()}

    def _load(self, params: Params, prefix: str) -> dict[str, jnp.ndarray]:
        tensors = {}
        for name, size in self._sizes.items():
            if name not in self._banks:
                tensors[name] = on_devices(np.array(take_tensor(params, prefix + name, size)))
                continue
            bank = self._banks[name]
            values = np.zeros(size, np.float32)
            rest = size[bank.depth :]
            for row in bank.rows:
                expected = (row.length, *rest[1:]) if rest else ()
                tensor = take_tensor(params, prefix + row.path, expected)
                if rest:
                    values[row.index][: row.length] = tensor
                else:
                    values[row.index] = tensor
            tensors[name] = on_devices(values)
        return tensors
