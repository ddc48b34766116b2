"""A round in progress: a SEARCH_TRAIN in shards, then SEARCH_EVALs of two arms."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rafiki.resources import Archs, Candidate, Direction, ScoreStats, StudyRound, TrialState
from rafiki.server.advisors.enas.plan import Layout, RoundCosts
from rafiki.server.advisors.scores import score_stats
from rafiki.server.advisors.space import ArchSpace, Choices
from rafiki.server.domain.advisor import Ended, Merged

# SEARCH_EVALs, beyond one per worker, whose times are taken for those of the round.
MEASURED_EVALS = 5


@dataclass(slots=True, kw_only=True)
class Arm:
    """The SEARCH_EVAL trials of one arm in a round: proposed (and not cancelled), ended."""

    proposed: int = 0
    ended: int = 0
    scores: list[float] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Part:
    """One shard of a SEARCH_TRAIN; `checkpoint` is what it saved, once it is done."""

    is_running: bool = False
    is_done: bool = False
    checkpoint: str = ""


@dataclass(slots=True, kw_only=True)
class Round:
    """What is known of round `number`; times are those of the budget, in seconds.

    A round of a single part has no shards: what it saves is the next weight version, and
    nothing is merged. `last_trained` is the last of the parts' trials to end.
    `train_compile_s` is the longest compilation of a part, as they run side by side.
    `eval_ends_s` are the times at which SEARCH_EVALs ended, in order. `buffer` holds the
    candidates scored that the controller has not learned from, each with its reward (None:
    unscored).
    """

    number: int
    train_from_s: float
    parts: list[Part] = field(default_factory=lambda: [Part()])
    last_trained: int = 0
    train_to_s: float = 0.0
    train_compile_s: float = 0.0
    merge_s: float = 0.0
    is_trained: bool = False
    eval_from_s: float | None = None
    eval_ends_s: list[float] = field(default_factory=list)
    eval_compile_s: float = 0.0
    workers: int = 1
    search: Arm = field(default_factory=Arm)
    control: Arm = field(default_factory=Arm)
    buffer: list[tuple[Choices, float | None]] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)  # of the updates, in nats
    best: tuple[Choices, float] | None = None  # of the search arm, with its score

    @property
    def open_parts(self) -> list[int]:
        """The shards to be proposed."""
        return [n for n, part in enumerate(self.parts) if not (part.is_running or part.is_done)]

    @property
    def is_merge_due(self) -> bool:
        """Whether all shards have been trained and are still to be merged."""
        return not self.is_trained and all(part.is_done for part in self.parts)

    def end_part(self, index: int, event: Ended) -> None:
        """Takes in the end of a shard; one that has failed is open again."""
        part = self.parts[index]
        part.is_running = False
        if event.state is not TrialState.COMPLETED:
            return
        part.is_done = True
        part.checkpoint = event.checkpoint
        self.last_trained = event.number
        self.train_to_s = event.at_s
        self.train_compile_s = max(self.train_compile_s, event.compile_s)
        # Without shards there is nothing to merge.
        self.is_trained = len(self.parts) == 1

    def end_merge(self, event: Merged) -> None:
        """Takes in a merge; after one that failed all shards are open again."""
        self.merge_s = event.merge_s
        self.is_trained = not event.error
        if event.error:
            self.parts = [Part() for _ in self.parts]

    def next_arm(self, shape: Layout) -> Arm | None:
        """The arm whose turn it is: both are spread over the round. None if all are proposed."""
        search, control = self.search, self.control
        due = (search.proposed + control.proposed + 1) * shape.control_evals
        if control.proposed < due // max(1, shape.round_evals):
            return control
        if search.proposed < shape.search_evals:
            return search
        return control if control.proposed < shape.control_evals else None

    def is_complete(self, shape: Layout) -> bool:
        """Whether every trial of the round has ended."""
        return (
            self.is_trained
            and self.search.ended >= shape.search_evals
            and self.control.ended >= shape.control_evals
        )

    def score(
        self, arm: Arm, candidates: Sequence[tuple[Choices, float | None]], direction: Direction
    ) -> None:
        """Adds the scores of a trial that ended to its arm."""
        scored = [(choices, score) for choices, score in candidates if score is not None]
        arm.scores += [score for _, score in scored]
        if arm is not self.search or not scored:
            return
        better = max if direction is Direction.MAXIMIZE else min
        known = [self.best] if self.best is not None else []
        self.best = better([*known, *scored], key=lambda entry: entry[1])

    @property
    def is_measured(self) -> bool:
        """Whether its costs can be told although it is not complete."""
        return self.is_trained and len(self.eval_ends_s) >= self.workers + MEASURED_EVALS

    def costs(self) -> RoundCosts:
        """What the round took."""
        train_s = max(0.0, self.train_to_s - self.train_from_s - self.train_compile_s)
        return RoundCosts(
            train_s=train_s * len(self.parts), merge_s=self.merge_s, eval_s=self._eval_s()
        )

    def _eval_s(self) -> float:
        """Seconds of one worker per SEARCH_EVAL, the gap before it included.

        With w workers, a trial takes as long as from the end of the w-th before it to its own.
        The median leaves out what comes once, such as compilation on either side.
        """
        ends_s = self.eval_ends_s
        spans_s = [end - start for start, end in zip(ends_s, ends_s[self.workers :], strict=False)]
        if spans_s:
            return max(0.0, statistics.median(spans_s))
        span_s = (ends_s[-1] if ends_s else 0.0) - (self.eval_from_s or 0.0)
        return max(0.0, span_s * self.workers - self.eval_compile_s) / max(1, len(ends_s))

    def summary(
        self,
        study: str,
        checkpoint: str,
        baseline: float,
        space: ArchSpace,
        direction: Direction,
    ) -> StudyRound:
        """The round as it is reported; `baseline` in terms of scores."""
        best = self.best
        scores = self.search.scores
        entropies = self.entropies
        return StudyRound(
            study=study,
            round=self.number,
            checkpoint=checkpoint,
            mean_reward=sum(scores) / len(scores) if scores else 0.0,
            baseline=baseline,
            entropy=sum(entropies) / len(entropies) if entropies else 0.0,
            best=Candidate(archs=space.archs(best[0]), score=best[1]) if best else None,
            control=score_stats(self.control.scores, direction) if self.control.ended else None,
            train_s=self.train_to_s - self.train_from_s,
            merge_s=self.merge_s,
            evaluate_s=self.eval_ends_s[-1] - (self.eval_from_s or 0.0),
        )

    def dump(self) -> dict[str, Any]:
        """The round as plain JSON."""
        return asdict(self)

    @classmethod
    def load(cls, values: dict[str, Any]) -> "Round":
        """Restores what `dump` gave, from JSON."""
        best = values["best"]
        return cls(
            **values
            | {
                "parts": [Part(**part) for part in values["parts"]],
                "search": Arm(**values["search"]),
                "control": Arm(**values["control"]),
                "buffer": [(tuple(choices), reward) for choices, reward in values["buffer"]],
                "best": (tuple(best[0]), best[1]) if best else None,
            }
        )


def dump_summary(summary: StudyRound) -> dict[str, Any]:
    """A summary as plain JSON."""
    return asdict(summary)


def load_summary(values: dict[str, Any]) -> StudyRound:
    """Restores what `dump_summary` gave, from JSON."""
    best, control = values["best"], values["control"]
    archs: Archs = {name: tuple(v) for name, v in best["archs"].items()} if best else {}
    return StudyRound(
        **values
        | {
            "best": Candidate(archs=archs, score=best["score"]) if best else None,
            "control": ScoreStats(**control) if control else None,
        }
    )
