"""A language model: weights, shared or of one cell, with a vocabulary.

Letters as in `rafiki.supernet.recurrent`.
"""

from collections.abc import Callable, Iterator, Sequence

import jax
import numpy as np

from rafiki.model import Params, Vocabulary
from rafiki.supernet.devices import compute_dtype, over_batch
from rafiki.supernet.programs import (
    MOST_CANDIDATES,
    MOST_STEPS,
    Calls,
    Weights,
    filled,
    stack_archs,
)
from rafiki.supernet.recurrent.architecture import RecurrentArchitecture
from rafiki.supernet.recurrent.programs import Steps, language_programs
from rafiki.supernet.recurrent.recipe import Recipe
from rafiki.supernet.recurrent.space import RecurrentSpace
from rafiki.supernet.recurrent.text_data import Minibatch
from rafiki.supernet.shared_weights import SharedWeights


class LanguageModel:
    """Weights of all cells of a space, or of one cell, and the words they are about.

    Tensors of a checkpoint: those of `SharedWeights`, and
        vocabulary: uint8, as of `Vocabulary.to_tensor`.
    """

    def __init__(self, vocabulary: Vocabulary, space: RecurrentSpace, recipe: Recipe) -> None:
        self.vocabulary = vocabulary
        self.space = space
        self.recipe = recipe
        self.weights: SharedWeights[RecurrentArchitecture] = SharedWeights(space, ())
        self._programs = language_programs(space, recipe)
        self._calls = Calls()

    def reset(self, seed: int) -> None:
        """Fresh weights."""
        self.weights.reset(seed)

    def dump(self) -> dict[str, np.ndarray]:
        """The tensors of a checkpoint."""
        return {"vocabulary": self.vocabulary.to_tensor(), **self.weights.dump()}

    def load(self, params: Params) -> None:
        """Takes what `dump` gave, for the same vocabulary."""
        self.weights.load(params)

    def train(
        self,
        batches: Iterator[Minibatch],
        archs: Sequence[RecurrentArchitecture],
        rates: Sequence[float],
        shares: Sequence[float],
        is_stopped: Callable[[float, float], bool],
    ) -> list[float]:
        """Trains minibatch k with `archs[k]` and the learning rate `rates[k]`.

        Args:
            batches: As many minibatches as there are cells are taken.
            archs: Cells.
            rates: Learning rates.
            shares: How much the weights after minibatch k count in the mean of weights that
                they are replaced by in the end; where all are 0, they are kept.
            is_stopped: Told now and then the share that is done, and the mean of -log p in the
                last call; whether to stop there.

        Returns:
            The mean of -log p in every minibatch that was trained.
        """
        shape = (self.recipe.rows, self.space.hidden)
        state = jax.device_put(np.zeros(shape, compute_dtype()), over_batch(shape[0]))
        params = self.weights.current.params
        # A copy: the program takes both over.
        mean = jax.tree.map(lambda value: value + 0, params) if self.recipe.is_averaged else {}
        surprises: list[float] = []
        for part in self._calls.cut(len(archs)):
            taken = [next(batches) for _ in archs[part]]
            self.weights.current, mean, state, found = self._programs.train(
                self.weights.current,
                mean,
                state,
                stack_archs(archs[part], MOST_STEPS),
                _steps(taken, rates[part], shares[part]),
                np.int32(len(taken)),
                self._placed(np.stack([batch.words for batch in _filled(taken)]), shape[0]),
            )
            surprises += [float(value) for value in np.asarray(found)[: len(taken)]]
            if is_stopped(len(surprises) / len(archs), float(np.mean(surprises[part]))):
                break
        self.weights.steps += len(surprises)
        if self.recipe.is_averaged and any(shares[: len(surprises)]):
            self.weights.current = Weights(mean, {})
        return surprises

    def surprise(
        self,
        archs: Sequence[RecurrentArchitecture],
        batches: Sequence[tuple[np.ndarray, np.ndarray]],
    ) -> list[float]:
        """The mean of -log p of every cell; NaN or infinity if the weights have diverged.

        Args:
            archs: Cells.
            batches: Words `[T + 1, B]` and which next words count `[T, B]`; each goes on where
                that before it ended.
        """
        found: list[float] = []
        for start in range(0, len(archs), MOST_CANDIDATES):
            found += self._surprise(archs[start : start + MOST_CANDIDATES], batches)
        return found

    def next_words(
        self, arch: RecurrentArchitecture, texts: Sequence[np.ndarray], steps: int
    ) -> np.ndarray:
        """Probabilities `[len(texts), V]` of the word after each text.

        Args:
            arch: The cell.
            texts: int32 `[at least 1]` each; the last `steps` words of each count.
            steps: T.
        """
        rows = self.recipe.evaluation_rows
        found = []
        for start in range(0, len(texts), rows):
            some = [text[-steps:] for text in texts[start : start + rows]]
            words, lengths = np.zeros((steps, rows), np.int32), np.ones(rows, np.int32)
            for row, text in enumerate(some):
                words[: len(text), row], lengths[row] = text, len(text)
            params = self.weights.current.params
            probabilities = self._programs.predict(params, arch, self._placed(words, rows), lengths)
            found.append(np.asarray(probabilities)[: len(some)])
        return np.concatenate(found)

    def _surprise(
        self,
        archs: Sequence[RecurrentArchitecture],
        batches: Sequence[tuple[np.ndarray, np.ndarray]],
    ) -> list[float]:
        rows = self.recipe.evaluation_rows
        zeros = np.zeros((MOST_CANDIDATES, rows, self.space.hidden), compute_dtype())
        states = jax.device_put(zeros, over_batch(rows, 1))
        stacked = stack_archs(archs, MOST_CANDIDATES)
        sums = []
        for words, counted in batches:
            states, found = self._programs.evaluate(
                self.weights.current.params,
                stacked,
                states,
                np.int32(len(archs)),
                self._placed(words, rows),
                self._placed(counted, rows),
            )
            sums.append(found)
        total = np.sum([np.asarray(found, np.float64) for found in sums], axis=0)
        words_counted = sum(int(counted.sum()) for _, counted in batches)
        return [float(value) / words_counted for value in total[: len(archs)]]

    @staticmethod
    def _placed(value: np.ndarray, rows: int) -> jax.Array:
        """An array whose last axis are rows of a minibatch."""
        placed: jax.Array = jax.device_put(value, over_batch(rows, value.ndim - 1))
        return placed


def _filled(taken: Sequence[Minibatch]) -> list[Minibatch]:
    """MOST_STEPS minibatches: the last is repeated."""
    return [taken[number] for number in filled(len(taken), MOST_STEPS)]


def _steps(taken: Sequence[Minibatch], rates: Sequence[float], shares: Sequence[float]) -> Steps:
    return Steps(
        rates=np.resize(np.array(rates, np.float32), MOST_STEPS),
        shares=np.resize(np.array(shares, np.float32), MOST_STEPS),
        is_fresh=np.array([batch.is_fresh for batch in _filled(taken)]),
        seeds=np.array([batch.seed for batch in _filled(taken)], np.int32),
    )
