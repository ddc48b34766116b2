"""How many trials and how much time an ENAS study takes, and what fits its budget."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from rafiki.resources import EnasOptions, TrialCosts
from rafiki.server.advisors.space import ArchSpace
from rafiki.server.domain.advisor import AdvisorConfig
from rafiki.server.domain.errors import InfeasibleBudget

# Costs are the median of so many of the latest rounds.
RECENT_ROUNDS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The trials of a study, by number; a batch is what the controller learns from at once.

    `batch` candidates make a batch, and `per_trial` of them fit a trial (the last trial
    of a batch may hold fewer). `final_per_trial` is the same for FINAL_EVAL.
    """

    batch: int
    per_trial: int
    search_batches: int
    control_batches: int
    finalists: int
    final_per_trial: int
    final_trains: int
    final_controls: int
    rank_trains: int

    @property
    def batch_trials(self) -> int:
        """SEARCH_EVAL trials per batch."""
        return math.ceil(self.batch / self.per_trial)

    @property
    def search_evals(self) -> int:
        """SEARCH_EVAL trials of a round whose candidates the controller draws."""
        return self.search_batches * self.batch_trials

    @property
    def control_evals(self) -> int:
        """SEARCH_EVAL trials of a round with uniform candidates."""
        return self.control_batches * self.batch_trials

    @property
    def round_evals(self) -> int:
        """SEARCH_EVAL trials of a round."""
        return self.search_evals + self.control_evals

    def round_trials(self, shards: int = 1) -> int:
        """Trials of a round."""
        return shards + self.round_evals

    @property
    def round_candidates(self) -> int:
        """Candidates scored in a round."""
        return (self.search_batches + self.control_batches) * self.batch

    @property
    def final_evals(self) -> int:
        """FINAL_EVAL trials of both arms."""
        return 2 * math.ceil(self.finalists / self.final_per_trial)

    @property
    def full_trains(self) -> int:
        """FINAL_TRAIN trials, controls included."""
        return self.final_trains + self.final_controls

    @property
    def final_trials(self) -> int:
        """Trials of the final phases, if none has to be repeated."""
        return self.final_evals + self.full_trains + self.rank_trains

    @property
    def minimum_trials(self) -> int:
        """Trials of the smallest plan: one round and the final phases."""
        return self.round_trials() + self.final_trials

    def eval_size(self, number: int) -> int:
        """The candidates of the SEARCH_EVAL trial `number` of one arm in a round, from 0."""
        if (number + 1) % self.batch_trials:
            return self.per_trial
        return self.batch - self.per_trial * (self.batch_trials - 1)


def layout(config: AdvisorConfig) -> Layout:
    """The layout of a study with resolved settings.

    Controls are `control_fraction` of a round's batches, beside the batches that teach.
    """
    options = config.settings.enas or EnasOptions()
    fraction = config.settings.control_fraction
    controls = round(options.batches_per_round * fraction / (1 - fraction))
    finalists = min(options.final_evals, ArchSpace(config.knob_config).count)
    return Layout(
        batch=options.candidates_per_batch,
        per_trial=min(config.batch_size, options.candidates_per_batch),
        search_batches=options.batches_per_round,
        control_batches=max(controls, 1) if fraction else 0,
        finalists=finalists,
        final_per_trial=min(config.batch_size, finalists),
        final_trains=min(options.final_trains, finalists),
        final_controls=min(options.final_controls, finalists),
        rank_trains=min(options.rank_trains, 2 * finalists),
    )


def check_enas_budget(config: AdvisorConfig) -> None:
    """Checks the trial count; what time is needed only the PROBE can tell.

    Raises:
        InfeasibleBudget: The trials do not suffice for one round and the final phases.
    """
    minimum = layout(config).minimum_trials
    if config.model_trial_count is not None and config.model_trial_count < minimum:
        raise InfeasibleBudget(
            subject=config.study,
            limit="model_trial_count",
            available=str(config.model_trial_count),
            minimum_model_trial_count=minimum,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundCosts:
    """What a round took, in seconds without compilation.

    `train_s` and `eval_s` are of one worker: for all of the SEARCH_TRAIN, and per
    SEARCH_EVAL trial, gaps between trials included.
    """

    train_s: float
    eval_s: float
    merge_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """How many work: on evaluations and trainings, and on the SEARCH_TRAIN of a round."""

    workers: int
    shards: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What the parts of a plan take with a crew, in seconds."""

    train_s: float  # the SEARCH_TRAIN of a round, and the merge if it has shards
    eval_s: float  # one SEARCH_EVAL trial
    round_s: float
    reserve_s: float  # the final phases
    full_train_s: float  # the part of them that is FINAL_TRAIN
    rank_train_s: float  # and that is brief training for the rank correlation


def estimate(
    shape: Layout,
    probe: TrialCosts,
    rounds: Sequence[RoundCosts],
    briefs_s: Sequence[float],
    crew: Crew,
) -> Estimate:
    """Costs by the PROBE, then by the latest rounds: their median, as one may have stalled.

    Final trainings are networks that were not compiled before: each wave of them is
    given the compilation time of the PROBE. A study without PROBE supposes that full
    training takes as long as a SEARCH_TRAIN. Brief trainings are taken to last as long as a
    SEARCH_TRAIN too, until some have ended in `briefs_s`, compilation included.
    """
    recent = rounds[-RECENT_ROUNDS:] or [
        RoundCosts(train_s=probe.search_train_s, eval_s=probe.search_eval_s)
    ]
    work_s = statistics.median(costs.train_s for costs in recent)
    eval_s = statistics.median(costs.eval_s for costs in recent)
    merges_s = [costs.merge_s for costs in recent if costs.merge_s]
    merge_s = statistics.median(merges_s) if merges_s and crew.shards > 1 else 0.0
    train_s = work_s / crew.shards + merge_s
    waves = math.ceil(shape.full_trains / crew.workers)
    full_train_s = waves * ((probe.final_train_s or work_s) + probe.compile_s)
    brief_s = statistics.fmean(briefs_s) if briefs_s else work_s + probe.compile_s
    rank_train_s = math.ceil(shape.rank_trains / crew.workers) * brief_s
    final_eval_s = math.ceil(shape.final_evals / crew.workers) * (probe.final_eval_s or eval_s)
    return Estimate(
        train_s=train_s,
        eval_s=eval_s,
        round_s=train_s + max(1.0, shape.round_evals / crew.workers) * eval_s,
        reserve_s=final_eval_s + full_train_s + rank_train_s,
        full_train_s=full_train_s,
        rank_train_s=rank_train_s,
    )


def minimum_time_s(cost: Estimate, elapsed_s: float) -> int:
    """The smallest whole time limit with which one round and the final phases fit."""
    return math.ceil(elapsed_s + cost.round_s + cost.reserve_s)
