"""REINFORCE: the controller of ENAS over architectures that are each trained on their own.

Pham et al. 2018 (arXiv 1802.03268), section 2.2 without the shared weights, which is the search
of Zoph & Le 2017. Departures, of which docs/benchmarks.md has the figures:

- No architecture is tried twice: a controller that draws only known ones has one of these
  changed in a place. A trial that failed is rewarded as the worst of its batch.
- A reward is the rank of the score within its batch, in [0, 1]: what is learned does not
  depend on the unit of scores, nor on how bad the worst architectures are.
- After each step of REINFORCE the controller imitates the best architectures so far: priority
  queue training, Abolafia et al. 2018 (arXiv 1801.03526, section 3), in steps of its own. A
  trial costs minutes, a step milliseconds.

Imports jax.
"""

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from rafiki.model.knobs import KnobConfig
from rafiki.resources import Archs, Candidate, Direction, EnasOptions, ReinforceOptions, StudyRound
from rafiki.server.advisors.enas.learner import Learner
from rafiki.server.advisors.sampling import fixed_values
from rafiki.server.advisors.scores import sign
from rafiki.server.advisors.space import Choices
from rafiki.server.advisors.tuning.evolution import Mutation
from rafiki.server.advisors.tuning.history import History
from rafiki.server.advisors.tuning.points import Point
from rafiki.server.advisors.tuning.random import draw_free
from rafiki.server.advisors.tuning.sampler import Sampler
from rafiki.server.domain.advisor import AdvisorState
from rafiki.server.domain.seeds import derive_seed

# Batches of architectures drawn that may all be taken, before one near by is used.
DRAWS = 10

# The architectures that are imitated (as many as in the paper), and how often per batch.
QUEUE_SIZE = 10
IMITATIONS = 6


class ReinforceSampler(Sampler):
    """Draws from a controller, which learns from every `batch_size` points that ended.

    Args:
        knob_config: The space: fixed, policy and arch knobs.
        options: Settings.
        study: The name of the study, for its rounds.
        direction: Of the scores, for its rounds.
        seed: Of the first parameters.
    """

    def __init__(
        self,
        knob_config: KnobConfig,
        options: ReinforceOptions,
        *,
        study: str,
        direction: Direction,
        seed: int,
    ) -> None:
        self._knobs = fixed_values(knob_config)
        self._options = options
        self._study = study
        self._sign = sign(direction)
        self._mutation = Mutation(knob_config)
        self._learner = Learner(knob_config, _controller(options), seed)
        self._buffer: list[tuple[Point, float | None]] = []
        self._queue: list[tuple[Choices, float]] = []  # the best first
        self._baseline: float | None = None  # the moving average of rewards, for the rounds
        self._rounds: list[StudyRound] = []
        self._archs = History(knob_config).grid.archs.archs

    def propose(self, history: History, count: int, seed: int) -> list[Point]:
        drawn: dict[Choices, Point] = {}
        for draw in range(DRAWS):
            width = max(count, self._options.batch_size)
            points = [
                Point(self._knobs, choices)
                for choices in self._learner.sample(width, derive_seed(seed, draw))
            ]
            drawn |= {point.choices: point for point in points if not history.is_taken(point)}
            if len(drawn) >= count:
                break
        if drawn:
            return list(drawn.values())[:count]
        rng = random.Random(seed)
        child = self._mutation.free_child(history, points[-1], rng)
        return [child] if child is not None else draw_free(history, count, rng)

    def basis(self, history: History, seed: int) -> Mapping[str, float]:
        return {"controller_updates": float(self._learner.updates)}

    def learn(self, ended: Sequence[tuple[Point, float | None]]) -> None:
        self._buffer += ended
        size = self._options.batch_size
        while len(self._buffer) >= size:
            batch, self._buffer = self._buffer[:size], self._buffer[size:]
            if any(reward is not None for _, reward in batch):
                self._learn_batch(batch)

    def _learn_batch(self, batch: Sequence[tuple[Point, float | None]]) -> None:
        scored = [(point, reward) for point, reward in batch if reward is not None]
        entropy = self._learner.learn(
            [point.choices for point, _ in batch], ranks([reward for _, reward in batch])
        )
        self._queue += [(point.choices, reward) for point, reward in scored]
        self._queue = sorted(self._queue, key=lambda entry: -entry[1])[:QUEUE_SIZE]
        # One size, one program.
        best = [self._queue[n % len(self._queue)][0] for n in range(QUEUE_SIZE)]
        for _ in range(IMITATIONS):
            self._learner.imitate(best)
        self._rounds.append(self._round(scored, entropy))

    def _round(self, scored: Sequence[tuple[Point, float]], entropy: float) -> StudyRound:
        """What an update is reported as, in terms of scores."""
        best, reward = max(scored, key=lambda entry: entry[1])
        mean = math.fsum(reward for _, reward in scored) / len(scored)
        decay = 0.0 if self._baseline is None else self._options.baseline_decay
        self._baseline = decay * (self._baseline or 0.0) + (1 - decay) * mean
        return StudyRound(
            study=self._study,
            round=len(self._rounds) + 1,
            checkpoint="",
            mean_reward=self._sign * mean,
            baseline=self._sign * self._baseline,
            entropy=entropy,
            best=Candidate(archs=self._archs(best.choices), score=self._sign * reward),
        )

    def rounds(self) -> tuple[StudyRound, ...]:
        return tuple(self._rounds)

    def dump(self) -> AdvisorState:
        values = {
            "buffer": [[point.choices, reward] for point, reward in self._buffer],
            "queue": self._queue,
            "baseline": self._baseline,
            "rounds": [asdict(summary) for summary in self._rounds],
        }
        return AdvisorState(values=values, arrays=self._learner.dump())

    def load(self, state: AdvisorState) -> None:
        self._buffer = [
            (Point(self._knobs, tuple(choices)), reward)
            for choices, reward in state.values["buffer"]
        ]
        self._queue = [(tuple(choices), reward) for choices, reward in state.values["queue"]]
        self._baseline = state.values["baseline"]
        self._rounds = [_load_round(values) for values in state.values["rounds"]]
        self._learner.load(state.arrays)


def ranks(rewards: Sequence[float | None]) -> list[float]:
    """The share of the scored rewards that each beats, ties by half; NaN for None."""
    scored = [reward for reward in rewards if reward is not None]
    return [
        math.nan
        if reward is None
        else sum((other < reward) + (other <= reward) for other in scored) / (2 * len(scored))
        for reward in rewards
    ]


def _controller(options: ReinforceOptions) -> EnasOptions:
    """The settings of the controller; what REINFORCE has no option for is that of ENAS."""
    return EnasOptions(
        candidates_per_batch=options.batch_size,
        controller_learning_rate=options.controller_learning_rate,
        entropy_weight=options.entropy_weight,
        baseline_decay=options.baseline_decay,
        tanh_constant=options.tanh_constant,
        temperature=options.temperature,
    )


def _load_round(values: dict[str, Any]) -> StudyRound:
    best = values["best"]
    archs: Archs = {name: tuple(choices) for name, choices in best["archs"].items()}
    return StudyRound(**values | {"best": Candidate(archs=archs, score=best["score"])})
