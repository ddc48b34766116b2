"""Which checkpoints are kept, and which may be collected."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from rafiki.resources import TrialPhase, TrialState


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedCheckpoint:
    """A checkpoint of a study, and what there is to know of the trial that it is of.

    `is_merged`: the server made it, of the shards of a round. `is_final`: the trial has
    completed with it. `is_shard`: it is a part of the weights of a round.
    """

    name: str
    trial: int
    phase: TrialPhase
    state: TrialState
    round: int
    control: bool
    is_merged: bool
    is_final: bool
    is_shard: bool

    @property
    def is_weight_version(self) -> bool:
        """Whether it holds the weights of a round."""
        is_whole = self.phase is TrialPhase.SEARCH_TRAIN and self.is_final and not self.is_shard
        return self.is_merged or is_whole


def collectable(
    saved: Iterable[SavedCheckpoint],
    *,
    starts: Collection[str],
    needed: Collection[str],
    best: Collection[str],
) -> set[str]:
    """The checkpoints of one study that nobody needs any more.

    A checkpoint is kept

    1. while the trial that saved it has not ended, whichever attempt it was,
    2. while a trial that has not ended starts from it (`starts`),
    3. while the advisor of a running study may yet have a trial start from it, or may yet have
       it merged (`needed`),
    4. as the result of one of the best trials of its study (`best`: the best so many
       deployable ones, by which the best of the job is kept too),
    5. as the result of a FINAL_TRAIN trial, unless that was of a control arm,
    6. as the latest weight version of its study.

    What is left is superseded weight versions, merged shards, attempts that failed, results of
    control arms, and TUNE trials that are neither among the best nor started from.
    """
    saved = list(saved)
    versions = [item for item in saved if item.is_weight_version]
    latest = max(versions, key=lambda item: (item.round, item.trial), default=None)
    kept = {*starts, *needed, *best}
    return {
        item.name
        for item in saved
        if item.state.is_end
        and item.name not in kept
        and item is not latest
        and not (item.phase is TrialPhase.FINAL_TRAIN and item.is_final and not item.control)
    }
