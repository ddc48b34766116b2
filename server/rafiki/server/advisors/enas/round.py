"""A round in progress: one SEARCH_TRAIN, then SEARCH_EVALs of two arms."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rafiki.resources import Archs, Candidate, Direction, ScoreStats, StudyRound
from rafiki.server.advisors.enas.plan import Layout, RoundCosts
from rafiki.server.advisors.enas.scores import score_stats
from rafiki.server.advisors.space import ArchSpace, Choices


@dataclass(slots=True, kw_only=True)
class Arm:
    """The SEARCH_EVAL trials of one arm in a round: proposed (and not cancelled), ended."""

    proposed: int = 0
    ended: int = 0
    scores: list[float] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Round:
    """What is known of round `number`; times are those of the budget, in seconds.

    `buffer` holds the candidates scored that the controller has not learned from, each
    with its reward (None: unscored).
    """

    number: int
    train_from_s: float
    train_to_s: float = 0.0
    train_compile_s: float = 0.0
    is_trained: bool = False
    eval_from_s: float | None = None
    eval_to_s: float = 0.0
    eval_compile_s: float = 0.0
    workers: int = 1
    search: Arm = field(default_factory=Arm)
    control: Arm = field(default_factory=Arm)
    buffer: list[tuple[Choices, float | None]] = field(default_factory=list)
    entropies: list[float] = field(default_factory=list)  # of the updates, in nats
    best: tuple[Choices, float] | None = None  # of the search arm, with its score

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

    def costs(self) -> RoundCosts:
        """What the round took."""
        trials = self.search.ended + self.control.ended
        span_s = self.eval_to_s - (self.eval_from_s or 0.0)
        return RoundCosts(
            train_s=max(0.0, self.train_to_s - self.train_from_s - self.train_compile_s),
            eval_s=max(0.0, span_s * self.workers - self.eval_compile_s) / max(1, trials),
        )

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
            evaluate_s=self.eval_to_s - (self.eval_from_s or 0.0),
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
