"""The final phases: score finalists and controls on all data, then train the best in full.

On request, some are also trained briefly from fresh parameters, to see how well scores on
shared weights rank them.
"""

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rafiki.resources import ControlArm, Direction, TrialState
from rafiki.server.advisors.enas.best_seen import BestSeen
from rafiki.server.advisors.enas.learner import Learner
from rafiki.server.advisors.enas.plan import Layout
from rafiki.server.advisors.enas.rank import kendall_tau_b
from rafiki.server.advisors.scores import score_stats
from rafiki.server.advisors.space import ArchSpace, Choices
from rafiki.server.domain.seeds import derive_seed

# A FINAL_EVAL of several finalists that fails is proposed so often in all, and so many
# finalists may fail in FINAL_TRAIN.
ATTEMPTS = 3

# Draws to find fresh samples that are not among the finalists yet.
FINALIST_DRAWS = 20

# Of fewer candidates a rank correlation says nothing.
MIN_RANKED = 3


@dataclass(slots=True, kw_only=True)
class Chunk:
    """The candidates `start` to `stop` of an arm: one FINAL_EVAL trial."""

    start: int
    stop: int
    is_running: bool = False
    is_done: bool = False
    errors: int = 0


@dataclass(slots=True, kw_only=True)
class FinalArm:
    """One arm: its candidates, their scores, and which of them are trained in full.

    `trained` holds the state of the FINAL_TRAIN trial by index of the candidate, as text:
    JSON has no other keys.
    """

    candidates: list[Choices]
    scores: list[float | None]
    chunks: list[Chunk]
    trained: dict[str, TrialState] = field(default_factory=dict)

    def count(self, state: TrialState) -> int:
        """The FINAL_TRAIN trials in `state`."""
        return sum(trained is state for trained in self.trained.values())

    @property
    def open_chunk(self) -> int | None:
        """The first chunk to be proposed; None if there is none."""
        for number, chunk in enumerate(self.chunks):
            if not chunk.is_running and not chunk.is_done:
                return number
        return None


@dataclass(slots=True, kw_only=True)
class Finals:
    """Both arms. Chosen candidates are the best finalists; controls are taken in order.

    `briefs` holds the score after brief training by number in `to_rank`, as text: None while
    it is trained, and if it has none to compare.
    """

    search: FinalArm
    control: FinalArm
    briefs: dict[str, float | None] = field(default_factory=dict)

    @property
    def is_scored(self) -> bool:
        """Whether every FINAL_EVAL has ended."""
        return all(chunk.is_done for arm in (self.search, self.control) for chunk in arm.chunks)

    def ranking(self, direction: Direction) -> list[int]:
        """The scored finalists, best first; of equals the earlier."""
        scores = self.search.scores
        scored = [index for index, score in enumerate(scores) if score is not None]
        factor = -1 if direction is Direction.MAXIMIZE else 1
        return sorted(scored, key=lambda index: factor * (scores[index] or 0.0))

    def next_training(self, shape: Layout, direction: Direction) -> tuple[FinalArm, int] | None:
        """The arm and candidate to train next; None if none is to be trained (for now)."""
        search = self.search
        wanted = shape.final_trains - search.count(TrialState.COMPLETED)
        wanted -= search.count(TrialState.RUNNING)
        if wanted > 0 and search.count(TrialState.ERRORED) < ATTEMPTS:
            for index in self.ranking(direction):
                if str(index) not in search.trained:
                    return search, index
        for index in range(shape.final_controls):
            if str(index) not in self.control.trained:
                return self.control, index
        return None

    def to_rank(self, count: int) -> list[tuple[Choices, float]]:
        """The candidates to train briefly, at most `count`, with their scores in FINAL_EVAL.

        Controls come first: the finalists are all good, so that their order says less.
        """
        scored: dict[Choices, float] = {}
        for arm in (self.control, self.search):
            for choices, score in zip(arm.candidates, arm.scores, strict=True):
                if score is not None:
                    scored.setdefault(choices, score)
        return list(scored.items())[:count]

    def next_brief(self, shape: Layout) -> int | None:
        """The number in `to_rank` of the candidate to train briefly next; None for none."""
        count = len(self.to_rank(shape.rank_trains))
        return next((number for number in range(count) if str(number) not in self.briefs), None)

    def control_arm(self, shape: Layout, direction: Direction) -> ControlArm | None:
        """Both arms in FINAL_EVAL, once all of it has ended."""
        if not self.is_scored:
            return None
        search, control = (
            score_stats([score for score in arm.scores if score is not None], direction)
            for arm in (self.search, self.control)
        )
        pairs = [
            (shared, brief)
            for number, (_, shared) in enumerate(self.to_rank(shape.rank_trains))
            if (brief := self.briefs.get(str(number))) is not None
        ]
        tau = kendall_tau_b(pairs) if len(pairs) >= MIN_RANKED else None
        return ControlArm(
            search=search, control=control, rank_correlation=tau, rank_count=len(pairs)
        )

    def dump(self) -> dict[str, Any]:
        """The final phases as plain JSON."""
        return asdict(self)

    @classmethod
    def load(cls, values: dict[str, Any]) -> "Finals":
        """Restores what `dump` gave, from JSON."""
        arms = {name: _load_arm(values[name]) for name in ("search", "control")}
        return cls(**values | arms)


def choose_finalists(
    learner: Learner, seen: BestSeen, space: ArchSpace, count: int, seed: int
) -> list[Choices]:
    """`count` distinct finalists, or as many as there are.

    Half of them are the best seen, one is greedy, the rest fresh samples. Where those repeat
    one another, the next best seen and then uniform ones step in.
    """
    best = seen.best(2 * count)
    finalists = dict.fromkeys(best[: count // 2])
    finalists[learner.greedy()] = None
    for draw in range(FINALIST_DRAWS):
        if len(finalists) < count:
            drawn = learner.sample(count, derive_seed(seed, "finalists", draw))
            finalists |= dict.fromkeys(drawn[: count - len(finalists)])
    finalists |= dict.fromkeys(best)
    chosen = list(finalists)[:count]
    fill = random.Random(derive_seed(seed, "finalists"))
    return chosen + space.draw_distinct(count - len(chosen), fill, chosen)


def start_finals(search: Sequence[Choices], control: Sequence[Choices], per_trial: int) -> Finals:
    """Finals of which nothing has been proposed."""
    return Finals(search=_start_arm(search, per_trial), control=_start_arm(control, per_trial))


def _start_arm(candidates: Sequence[Choices], per_trial: int) -> FinalArm:
    count = len(candidates)
    return FinalArm(
        candidates=list(candidates),
        scores=[None] * count,
        chunks=[
            Chunk(start=start, stop=min(start + per_trial, count))
            for start in range(0, count, per_trial)
        ],
    )


def _load_arm(values: dict[str, Any]) -> FinalArm:
    return FinalArm(
        candidates=[tuple(choices) for choices in values["candidates"]],
        scores=values["scores"],
        chunks=[Chunk(**chunk) for chunk in values["chunks"]],
        trained={index: TrialState(state) for index, state in values["trained"].items()},
    )
