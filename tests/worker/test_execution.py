"""What the child asks of a template, phase by phase."""

import math

import numpy as np
import pytest
from tests.worker.child_bench import Bench, Make, cells, policies

from rafiki.resources import Shard, TrialErrorKind, TrialPhase

LINE = {"rate": 0.5, "mode": "ok", "epochs": 5}
WIDTH = {"width": 4}
SEARCH_TRAIN = policies("SHARE_PARAMS", "DOWNSCALE", "EARLY_STOP")
SEARCH_EVAL = policies("SHARE_PARAMS", "SKIP_TRAIN", "QUICK_EVAL", "DOWNSCALE")
FINAL_EVAL = policies("SHARE_PARAMS", "SKIP_TRAIN", "DOWNSCALE")


def test_tune_trains_evaluates_and_dumps(plain: Bench) -> None:
    ended, params = plain.run(TrialPhase.TUNE, knobs=LINE)

    assert ended.error is None
    assert ended.score == 0.5
    assert ended.test_score is None
    assert params["weight"] == 1.0
    assert "optimizer/steps" in params


def test_train_args_reach_the_template(plain: Bench) -> None:
    ended, _ = plain.run(TrialPhase.TUNE, knobs=LINE, train_args={"offset": 3})

    assert ended.score == 3.5


def test_the_seed_is_there_before_the_constructor(plain: Bench) -> None:
    _, first = plain.run(TrialPhase.TUNE, knobs=LINE, seed=1)
    _, other = plain.run(TrialPhase.TUNE, knobs=LINE, seed=2)
    _, again = plain.run(TrialPhase.TUNE, knobs=LINE, seed=1)

    assert first["seed/constructor"] == again["seed/constructor"] != other["seed/constructor"]


def test_nothing_is_saved_or_scored_unless_it_is_wanted(plain: Bench) -> None:
    ended, params = plain.run(TrialPhase.TUNE, knobs=LINE, evaluate=False, save=False)

    assert ended.score is None
    assert params == {}


def test_final_train_scores_the_test_data_and_leaves_training_state_out(plain: Bench) -> None:
    ended, params = plain.run(
        TrialPhase.FINAL_TRAIN, knobs=LINE, test_path=str(plain.folder / "test")
    )

    assert ended.score == 0.5
    assert ended.test_score == 0.75
    assert sorted(params) == ["seed/constructor", "weight"]


def test_a_template_without_the_pair_loads_what_it_does_not_train(plain: Bench) -> None:
    plain.record.checkpoints["c"] = {"weight": np.asarray(7.0)}

    ended, _ = plain.run(
        TrialPhase.SEARCH_EVAL,
        knobs=LINE,
        policies=policies("SKIP_TRAIN"),
        start_checkpoint="c",
        save=False,
    )

    assert ended.score == 6.5


def test_search_train_trains_every_candidate_of_its_shard(supernet: Bench) -> None:
    ended, params = supernet.run(
        TrialPhase.SEARCH_TRAIN,
        knobs=WIDTH,
        candidates=cells([0, 1], [0, 2], [0, 0]),
        policies=SEARCH_TRAIN,
        shard=Shard(1, 2),
        data_seed=9,
        round=4,
        evaluate=False,
    )

    assert ended.error is None
    assert ended.score is None
    assert ended.updates == {"weights": 3}
    assert ended.metrics == {"loss": 0.25}
    np.testing.assert_array_equal(params["weights"], [[3, 0, 0], [1, 1, 1]])
    assert "trained 3 shard=(1, 2) data_seed=9 round=4" in supernet.record.lines


def test_search_eval_scores_every_candidate_and_keeps_nan(supernet: Bench) -> None:
    supernet.record.checkpoints["c"] = {"weights": np.arange(6.0).reshape(2, 3)}

    ended, params = supernet.run(
        TrialPhase.SEARCH_EVAL,
        knobs=WIDTH,
        candidates=cells([0, 1], [2, 2], [1, 0]),
        policies=SEARCH_EVAL,
        start_checkpoint="c",
        save=False,
    )

    assert ended.candidate_scores[::2] == (4.0, 4.0)
    assert math.isnan(ended.candidate_scores[1])
    assert ended.score is None
    assert params == {}


def test_a_single_candidate_has_a_score(supernet: Bench) -> None:
    supernet.record.checkpoints["c"] = {"weights": np.arange(6.0).reshape(2, 3)}

    ended, _ = supernet.run(
        TrialPhase.FINAL_EVAL,
        knobs=WIDTH,
        candidates=cells([0, 1]),
        policies=FINAL_EVAL,
        start_checkpoint="c",
        save=False,
    )

    assert ended.score == 4.0


def test_one_instance_serves_all_batches_of_a_phase(supernet: Bench) -> None:
    supernet.record.checkpoints["c"] = {"weights": np.zeros((2, 3))}
    for choice in (0, 1, 2):
        supernet.run(
            TrialPhase.SEARCH_EVAL,
            knobs=WIDTH,
            candidates=cells([choice, 0], [0, choice]),
            policies=SEARCH_EVAL,
            start_checkpoint="c",
            save=False,
        )

    assert sum(line.startswith("constructed") for line in supernet.record.lines) == 1
    assert supernet.record.lines.count("loaded") == 1
    assert supernet.record.asked == ["c"]


def test_other_weights_are_loaded_into_the_same_instance(supernet: Bench) -> None:
    for number, name in enumerate(["a", "b", "b"]):
        supernet.record.checkpoints[name] = {"weights": np.full((2, 3), float(number))}
        ended, _ = supernet.run(
            TrialPhase.SEARCH_EVAL,
            knobs=WIDTH,
            candidates=cells([0, 0], [1, 1]),
            policies=SEARCH_EVAL,
            start_checkpoint=name,
            save=False,
        )

    assert ended.candidate_scores == (2.0, 2.0)
    assert sum(line.startswith("constructed") for line in supernet.record.lines) == 1
    assert supernet.record.asked == ["a", "b"]


def test_weights_saved_by_the_child_are_not_asked_for(supernet: Bench) -> None:
    _, params = supernet.run(
        TrialPhase.SEARCH_TRAIN,
        knobs=WIDTH,
        candidates=cells([0, 1], [0, 2]),
        policies=SEARCH_TRAIN,
        evaluate=False,
    )
    supernet.child.saved("version-1")
    evaluated, _ = supernet.run(
        TrialPhase.SEARCH_EVAL,
        knobs=WIDTH,
        candidates=cells([0, 1], [0, 2]),
        policies=SEARCH_EVAL,
        start_checkpoint="version-1",
        save=False,
    )
    _, trained_on = supernet.run(
        TrialPhase.SEARCH_TRAIN,
        knobs=WIDTH,
        candidates=cells([0, 1]),
        policies=SEARCH_TRAIN,
        start_checkpoint="version-1",
        evaluate=False,
    )

    assert supernet.record.asked == []
    assert evaluated.candidate_scores == (3.0, 3.0)
    np.testing.assert_array_equal(trained_on["weights"], params["weights"] + [[1, 0, 0], [0, 1, 0]])


def test_what_a_template_does_to_its_arrays_does_not_change_a_checkpoint(supernet: Bench) -> None:
    supernet.record.checkpoints["c"] = {"weights": np.zeros((2, 3))}
    runs = [
        supernet.run(
            TrialPhase.SEARCH_TRAIN,
            knobs=WIDTH,
            candidates=cells([0, 0]),
            policies=SEARCH_TRAIN,
            start_checkpoint="c",
            evaluate=False,
        )
        for _ in range(2)
    ]

    for _, params in runs:
        assert params["weights"].sum() == 2.0


def test_no_more_than_four_instances_are_kept(supernet: Bench) -> None:
    supernet.record.checkpoints["c"] = {"weights": np.zeros((2, 3))}
    sets = [policies(*names) for names in ([], ["QUICK_EVAL"], ["DOWNSCALE"], ["SHARE_PARAMS"])]
    for on in [*sets, SEARCH_EVAL, sets[0]]:
        supernet.run(
            TrialPhase.SEARCH_EVAL,
            knobs=WIDTH,
            candidates=cells([0, 0], [1, 1]),
            policies=on,
            start_checkpoint="c",
            save=False,
        )

    assert sum(line.startswith("constructed") for line in supernet.record.lines) == 6


@pytest.mark.slow
def test_a_probe_of_a_tuning_study_measures_whole_trials_stopped_early_and_in_full(
    make_bench: Make,
) -> None:
    bench = make_bench("supernet.py", "Supernet")

    ended, params = bench.run(
        TrialPhase.PROBE, knobs=WIDTH, candidates=cells([0, 0]), policies=policies("EARLY_STOP")
    )

    assert ended.costs is not None
    # 2,000 steps of 5 ms, of which 1 s was run: scaled, whatever the machine's load.
    assert 5.0 < ended.costs.final_train_s < 100.0
    assert 5.0 < ended.costs.search_train_s < 100.0
    assert params == {}


def test_a_probe_of_a_search_measures_every_phase(supernet: Bench) -> None:
    ended, _ = supernet.run(
        TrialPhase.PROBE,
        knobs=WIDTH,
        candidates=cells(*[[n % 3, n % 2] for n in range(10)]),
        policies=SEARCH_TRAIN,
    )

    costs = ended.costs
    assert costs is not None
    assert costs.steps_per_epoch == 40
    # Only whether each is scaled to the whole of its phase, far from what was run of it. A
    # difference of two calls, as search_train_s is, may come out below the time slept.
    assert 0.08 < costs.search_train_s < 1.6  # 40 steps of 4 ms, of which 11 were run
    assert 0.1 <= costs.search_eval_s < 1.0  # 10 candidates of 10 ms
    assert 0.1 <= costs.final_eval_s < 1.0  # the same, of which one was run
    assert 5.0 < costs.final_train_s < 100.0
    assert costs.compile_s == 0.0


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("raise", TrialErrorKind.MODEL_EXCEPTION), ("nan", TrialErrorKind.NON_FINITE_SCORE)],
)
def test_an_outcome_of_the_template_ends_the_run_and_not_the_child(
    plain: Bench, mode: str, kind: TrialErrorKind
) -> None:
    ended, params = plain.run(TrialPhase.TUNE, knobs=LINE | {"mode": mode})
    afterwards, _ = plain.run(TrialPhase.TUNE, knobs=LINE)

    assert ended.error is not None
    assert ended.error.kind is kind
    assert params == {}
    assert afterwards.score == 0.5


def test_an_exception_is_told_in_one_line_with_the_traceback_of_the_template(plain: Bench) -> None:
    ended, _ = plain.run(TrialPhase.TUNE, knobs=LINE | {"mode": "raise"})

    assert ended.error is not None
    assert ended.error.message == "RuntimeError: the loss exploded"
    assert "in train" in ended.error.traceback
    assert "rafiki/worker" not in ended.error.traceback


def test_other_knobs_than_were_uploaded_are_a_problem_of_the_environment(plain: Bench) -> None:
    ended, _ = plain.run(TrialPhase.TUNE, knobs=LINE, config_digest="0" * 64)

    assert ended.error is not None
    assert ended.error.kind is TrialErrorKind.ENVIRONMENT
    assert "declares other knobs here" in ended.error.message


def test_a_checkpoint_that_cannot_be_had_is_a_problem_of_the_environment(plain: Bench) -> None:
    ended, _ = plain.run(TrialPhase.TUNE, knobs=LINE, start_checkpoint="gone")

    assert ended.error is not None
    assert ended.error.kind is TrialErrorKind.ENVIRONMENT
    assert ended.error.message == "no checkpoint gone"


def test_what_cannot_be_imported_here_is_a_problem_of_the_environment(plain: Bench) -> None:
    source = plain.folder / "needy.py"
    source.write_text("import no_such_project\n")

    ended, _ = plain.run(
        TrialPhase.TUNE, source="x", source_path=str(source), model_class="needy:Needy"
    )

    assert ended.error is not None
    assert ended.error.kind is TrialErrorKind.ENVIRONMENT
    assert "no_such_project" in ended.error.message


def test_scores_of_the_wrong_number_are_told(supernet: Bench) -> None:
    source = supernet.folder / "supernet.py"
    source.write_text(
        supernet.source.read_text().replace("for c, score in zip", "for c, score in [] and zip")
    )

    ended, _ = supernet.run(
        TrialPhase.SEARCH_EVAL,
        source="x",
        source_path=str(source),
        knobs=WIDTH,
        candidates=cells([0, 0], [1, 1]),
        policies=SEARCH_EVAL,
    )

    assert ended.error is not None
    assert "0 scores for 2 candidates" in ended.error.message
