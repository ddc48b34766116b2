"""A whole search through a real server and real workers."""

from dataclasses import replace
from pathlib import Path

import pytest
from tests.e2e.processes import SMALL_BUDGET, SMALL_ENAS, System

from rafiki.resources import Budget, EnasOptions, TrainJobState, Trial, TrialPhase, TrialState
from rafiki.server.advisors.enas.rank import kendall_tau_b

pytestmark = pytest.mark.slow


def of_phase(trials: list[Trial], phase: TrialPhase) -> list[Trial]:
    return [trial for trial in trials if trial.phase is phase]


def test_a_search_runs_through_all_phases_and_spends_the_budget_exactly(
    system: System, images: Path
) -> None:
    system.start_worker("worker-1")
    system.start_worker("worker-2")
    with system.client() as client:
        job = system.create_job(client, images)
        job = system.wait_for_end(client, job.name)
        trials = system.trials(client, job.name)
        study = client.get_study(f"{job.name}/studies/1")
        rounds = list(client.list_study_rounds(study.name))
        best = list(client.list_best_trials(study.name))

    assert job.state is TrainJobState.SUCCEEDED
    assert {trial.state for trial in trials} == {TrialState.COMPLETED}
    counts = {phase: len(of_phase(trials, phase)) for phase in TrialPhase}
    assert counts[TrialPhase.PROBE] == 1
    assert counts[TrialPhase.SEARCH_TRAIN] == len(rounds) == study.plan.completed_rounds == 3
    assert counts[TrialPhase.SEARCH_EVAL] == 24
    assert counts[TrialPhase.FINAL_EVAL] == 2
    assert counts[TrialPhase.FINAL_TRAIN] == 2
    assert sum(counts.values()) - 1 == SMALL_BUDGET.model_trial_count
    assert [t.phase for t in best] == [TrialPhase.FINAL_TRAIN]
    assert not best[0].control
    assert job.best_trial == best[0].name


def test_every_evaluation_uses_the_weights_of_its_round(system: System, images: Path) -> None:
    system.start_worker("worker-1")
    system.start_worker("worker-2")
    with system.client() as client:
        job = system.create_job(client, images)
        job = system.wait_for_end(client, job.name)
        trials = system.trials(client, job.name)
        digests = {}
        for trial in of_phase(trials, TrialPhase.SEARCH_TRAIN):
            checkpoint = client.get_checkpoint(trial.final_checkpoint)
            digests[trial.round] = {t.path: t.digest for t in checkpoint.tensors}

    weights = {t.round: t.final_checkpoint for t in of_phase(trials, TrialPhase.SEARCH_TRAIN)}
    for trial in of_phase(trials, TrialPhase.SEARCH_EVAL):
        assert trial.start_checkpoint == weights[trial.round]
    for trial in of_phase(trials, TrialPhase.SEARCH_TRAIN):
        assert trial.start_checkpoint == weights.get(trial.round - 1, "")
    for trial in of_phase(trials, TrialPhase.FINAL_TRAIN):
        assert trial.start_checkpoint == ""
    assert digests[1] != digests[2]


def test_the_rank_correlation_is_that_of_the_scores_recorded(system: System, images: Path) -> None:
    options = replace(SMALL_ENAS.enas or EnasOptions(), rank_trains=8)
    system.start_worker("worker-1")
    system.start_worker("worker-2")
    with system.client() as client:
        job = system.create_job(
            client,
            images,
            advisor=replace(SMALL_ENAS, enas=options),
            budget=Budget(model_trial_count=9 + 4 + 8),
        )
        job = system.wait_for_end(client, job.name)
        trials = system.trials(client, job.name)
        study = client.get_study(f"{job.name}/studies/1")
        best = list(client.list_best_trials(study.name))

    briefs = of_phase(trials, TrialPhase.TUNE)
    assert {(trial.state, trial.control) for trial in briefs} == {(TrialState.COMPLETED, True)}
    assert {trial.start_checkpoint for trial in briefs} == {""}
    shared = {
        tuple(candidate.archs["path"]): candidate.score or 0.0
        for trial in of_phase(trials, TrialPhase.FINAL_EVAL)
        for candidate in trial.candidates
    }
    alone = {tuple(t.candidates[0].archs["path"]): t.score or 0.0 for t in briefs}
    assert study.control_arm is not None
    assert study.control_arm.rank_count == len(alone) == 8
    tau = kendall_tau_b([(shared[arch], score) for arch, score in alone.items()])
    assert study.control_arm.rank_correlation == pytest.approx(tau)
    # Both scores are mostly the share of positions that match the planted architecture.
    assert tau is not None and tau > 0
    assert [trial.phase for trial in best] == [TrialPhase.FINAL_TRAIN]


def test_the_final_architecture_is_the_choice_of_the_search(system: System, images: Path) -> None:
    system.start_worker()
    with system.client() as client:
        job = system.create_job(client, images)
        job = system.wait_for_end(client, job.name)
        trials = system.trials(client, job.name)

    chosen, control = of_phase(trials, TrialPhase.FINAL_TRAIN)
    if chosen.control:
        chosen, control = control, chosen
    search, uniform = sorted(of_phase(trials, TrialPhase.FINAL_EVAL), key=lambda t: t.control)
    best = max(search.candidates, key=lambda candidate: candidate.score or float("-inf"))
    assert chosen.candidates[0].archs == best.archs
    assert control.candidates[0].archs in [candidate.archs for candidate in uniform.candidates]
    archs = [replace(c, score=None) for c in search.candidates]
    assert len({tuple(a.archs["path"]) for a in archs}) == len(archs)
