"""Which checkpoints are kept."""

from rafiki.resources import TrialPhase, TrialState
from rafiki.server.domain.retention import SavedCheckpoint, collectable


def saved(
    name: str,
    *,
    trial: int = 1,
    phase: TrialPhase = TrialPhase.TUNE,
    state: TrialState = TrialState.COMPLETED,
    round: int = 0,
    control: bool = False,
    is_merged: bool = False,
    is_final: bool = True,
    is_shard: bool = False,
) -> SavedCheckpoint:
    return SavedCheckpoint(
        name=name,
        trial=trial,
        phase=phase,
        state=state,
        round=round,
        control=control,
        is_merged=is_merged,
        is_final=is_final,
        is_shard=is_shard,
    )


def free(
    *items: SavedCheckpoint,
    starts: tuple[str, ...] = (),
    needed: tuple[str, ...] = (),
    best: tuple[str, ...] = (),
) -> set[str]:
    return collectable(items, starts=starts, needed=needed, best=best)


def test_a_tune_trial_that_is_neither_best_nor_used_is_collected() -> None:
    assert free(saved("a"), saved("b"), best=("b",)) == {"a"}


def test_what_an_unfinished_trial_saved_is_kept_whatever_its_attempt() -> None:
    for state in (TrialState.PENDING, TrialState.RUNNING):
        assert free(saved("a", state=state, is_final=False)) == set()


def test_what_failed_attempts_saved_is_collected_once_the_trial_has_ended() -> None:
    ended = (TrialState.COMPLETED, TrialState.ERRORED, TrialState.CANCELLED)
    for state in ended:
        assert free(saved("a", state=state, is_final=False)) == {"a"}


def test_what_unfinished_trials_start_from_is_kept() -> None:
    assert free(saved("a"), starts=("a",)) == set()


def test_what_the_advisor_needs_is_kept() -> None:
    assert free(saved("a"), needed=("a",)) == set()


def test_what_was_trained_to_be_used_is_kept_but_not_that_of_control_arms() -> None:
    final = TrialPhase.FINAL_TRAIN
    items = (saved("a", phase=final), saved("b", phase=final, control=True))
    assert free(*items) == {"b"}


def test_only_the_latest_weight_version_is_kept() -> None:
    train = TrialPhase.SEARCH_TRAIN
    items = [saved(f"v{n}", trial=n, phase=train, round=n) for n in (1, 2, 3)]
    assert free(*items) == {"v1", "v2"}


def test_merged_shards_are_collected_and_what_they_were_merged_into_is_kept() -> None:
    train = TrialPhase.SEARCH_TRAIN
    shards = [saved(f"s{n}", trial=n, phase=train, round=1, is_shard=True) for n in (1, 2)]
    merged = saved("m", trial=2, phase=train, round=1, is_merged=True, is_final=False)
    assert free(*shards, merged) == {"s1", "s2"}


def test_the_weights_that_shards_start_from_are_kept_until_these_are_merged() -> None:
    train = TrialPhase.SEARCH_TRAIN
    version = saved("v1", phase=train, round=1)
    shards = [saved(f"s{n}", trial=n, phase=train, round=2, is_shard=True) for n in (2, 3)]
    assert free(version, *shards, needed=("v1", "s2", "s3")) == set()
