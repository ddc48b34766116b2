"""What the bench says about templates with one defect each."""

from pathlib import Path

import pytest

from rafiki.model.bench import Report, run_bench

TEMPLATE = Path(__file__).parent / "templates" / "linear_supernet.py"

# How each template differs from the right one, the step that fails, and what it says.
DEFECTS = {
    "source not Python": (
        ("class LinearSupernet(BaseModel):", "class LinearSupernet(BaseModel:"),
        "the source is Python",
        "is not Python",
    ),
    "missing module": (
        ("import numpy as np", "import numpy as np\nimport no_such_module"),
        "it imports and defines a template",
        "Is 'no_such_module' installed here",
    ),
    "fails while imported": (
        ("CLASSES = 4", "CLASSES = 4 / 0"),
        "it imports and defines a template",
        "in <module>\n    CLASSES = 4 / 0",
    ),
    "exits while imported": (
        ("CLASSES = 4", "CLASSES = 4\nraise SystemExit(0)"),
        "it imports and defines a template",
        "SystemExit: 0",
    ),
    "no template": (
        ("class LinearSupernet(BaseModel):", "class LinearSupernet:"),
        "it imports and defines a template",
        "defines no subclass of rafiki.model.BaseModel",
    ),
    "method missing": (
        ("def predict(", "def forecast("),
        "it imports and defines a template",
        "LinearSupernet does not implement predict",
    ),
    "no task": (
        ('task = "IMAGE_CLASSIFICATION"', "pass"),
        "task and dependencies are declared",
        "The class attribute `task` is ''",
    ),
    "dependency without exact version": (
        ('task = "IMAGE_CLASSIFICATION"', 'task = "T"; dependencies = {"numpy": ">=2"}'),
        "task and dependencies are declared",
        "The version of numpy is '>=2'",
    ),
    "the same policy twice": (
        ('PolicyKnob("DOWNSCALE")', 'PolicyKnob("QUICK_TRAIN")'),
        "the knob config is valid",
        "knob 'downscale': declares EARLY_STOP, which 'early_stop' does already",
    ),
    "unknown policy": (
        ('PolicyKnob("DOWNSCALE")', 'PolicyKnob("SHRINK")'),
        "the knob config is valid",
        "no policy is called 'SHRINK'",
    ),
    "random knob config": (
        ("FixedKnob(20)", "FixedKnob(int(np.random.default_rng().integers(2**62)))"),
        "the knob config is valid",
        "returns another config at the second call",
    ),
    "knob not taken": (
        ("        early_stop: bool = False,\n", "        early: bool = False,\n"),
        "the constructor takes every knob",
        "does not take the declared knobs early_stop",
    ),
    "knob not declared": (
        ("batch_size: int,", "batch_size: int,\n        width: int,"),
        "the constructor takes every knob",
        "The constructor needs width, which no knob gives",
    ),
    "constructor fails": (
        ("self.batch_size = batch_size", "self.batch_size = batch_size.size"),
        "it constructs with random knobs",
        "in __init__",
    ),
    "training fails": (
        ("epochs = 3 if self.early_stop else 10", 'raise KeyError("epochs")'),
        "it trains with EARLY_STOP and dumps parameters",
        "in train\n    raise KeyError",
    ),
    "score is NaN": (
        (
            "return self._accuracy(data.images[rows], data.labels[rows], self.ops)",
            'return float("nan")',
        ),
        "it evaluates to a finite score",
        "evaluate() returned nan: a score must be finite",
    ),
    "parameters are no arrays": (
        ("return dict(self.weights)", "return {k: v.tolist() for k, v in self.weights.items()}"),
        "it trains with EARLY_STOP and dumps parameters",
        "'w/0/mean' is no NumPy array but list",
    ),
    "parameters are not loaded": (
        ("self.weights = dict(params)", "self._start(None)"),
        "a fresh instance that loads the parameters is the same model",
        "a fresh one that loaded its parameters",
    ),
    "parameters are left out": (
        (
            "return dict(self.weights)",
            'return {k: v for k, v in self.weights.items() if k[2] == "0"}',
        ),
        "a fresh instance that loads the parameters is the same model",
        "KeyError",
    ),
    "predictions are arrays": (
        ("self._forward(query_images(queries), self.ops).tolist()", "list(query_images(queries))"),
        "it predicts",
        "predict() returned what JSON cannot carry",
    ),
    "too few predictions": (
        ("return probabilities", "return probabilities[:1]"),
        "it predicts",
        "predict() returned 1 predictions for 3 queries",
    ),
    "no steps per epoch": (
        ('"steps_per_epoch": steps', '"steps": steps'),
        "train_candidates() trains 3 architectures",
        '"steps_per_epoch": None',
    ),
    "updates name unknown tensors": (
        ("updates[path] = updates", 'updates["x/" + path] = updates'),
        "train_candidates() trains 3 architectures",
        "which dump_parameters() does not return",
    ),
    "shared parameters are ignored by the pair": (
        (
            "        self._start(shared_params)\n        steps",
            "        if not shared_params:\n            self._start(None)\n        else:\n"
            "            self.load_parameters(shared_params)\n            candidates = []\n"
            "        steps",
        ),
        "train_candidates() continues from shared parameters, as one shard of two",
        "changed no parameter",
    ),
    "scores differ between calls": (
        (
            "rows = self._rows(len(data.labels), seed)",
            "rows = np.random.default_rng().permutation(len(data.labels))[:7]\n"
            "        self.weights = {k: v + 1 for k, v in self.weights.items()}\n"
            "        return [float(v.sum()) for v in self.weights.values()][:3]",
        ),
        "evaluate_candidates() scores them, twice the same",
        "for the same weights, candidates and seed",
    ),
    "no candidate is scored": (
        ('c["ops"]) for c in candidates]', 'c["ops"]) * float("nan") for c in candidates]'),
        "evaluate_candidates() scores them, twice the same",
        "returned nothing but NaN",
    ),
    "too few candidate scores": (
        ('c["ops"]) for c in candidates]', 'c["ops"]) for c in candidates[1:]]'),
        "evaluate_candidates() scores them, twice the same",
        "returned 2 scores for 3 candidates",
    ),
    "every candidate gets another minibatch": (
        (
            "rows = self._rows(len(data.labels), seed)\n        return [",
            "return [float(k) if self.quick_eval else 0.5 for k, _ in enumerate(candidates)]\n"
            "        rows = data.labels\n        return [",
        ),
        "with QUICK_EVAL all are scored on one minibatch of the seed",
        "in reverse order",
    ),
    "destroy fails": (
        (
            "    def _start(",
            "    def destroy(self) -> None:\n        del self.no\n\n    def _start(",
        ),
        "destroy() and teardown()",
        "in destroy",
    ),
}


def edited(tmp_path: Path, *edits: tuple[str, str]) -> Path:
    """The right template after some edits, as broken.py."""
    source = TEMPLATE.read_text()
    for old, new in edits:
        assert old in source
        source = source.replace(old, new)
    path = tmp_path / "broken.py"
    path.write_text(source)
    return path


def bench_of(tmp_path: Path, *edits: tuple[str, str]) -> Report:
    return run_bench(edited(tmp_path, *edits))


def failures(report: Report) -> dict[str, str]:
    return {step.name: step.message for step in report.steps if not step.ok}


# The same template without the candidate pair.
WITHOUT_PAIR = (
    ("def train_candidates(", "def other_train_candidates("),
    ("def evaluate_candidates(", "def other_evaluate_candidates("),
)


def test_a_right_template_passes_every_step() -> None:
    report = run_bench(TEMPLATE)
    assert failures(report) == {}
    assert report.model_class == "linear_supernet:LinearSupernet"
    assert report.candidate_batches
    assert report.steps[-1].name == "destroy() and teardown()"


def test_a_right_template_without_the_pair_passes_every_step(tmp_path: Path) -> None:
    report = bench_of(tmp_path, *WITHOUT_PAIR)
    assert failures(report) == {}
    assert not report.candidate_batches
    assert [step.name for step in report.steps][-5:-1] == [
        "it trains with DOWNSCALE, EARLY_STOP",
        "it trains from shared parameters with DOWNSCALE, EARLY_STOP, SHARE_PARAMS",
        "it evaluates loaded parameters with DOWNSCALE, SHARE_PARAMS, SKIP_TRAIN",
        "it evaluates loaded parameters with DOWNSCALE, QUICK_EVAL, SHARE_PARAMS, SKIP_TRAIN",
    ]


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_fails_its_step_and_is_explained(defect: str, tmp_path: Path) -> None:
    edit, name, wrong = DEFECTS[defect]
    failed = failures(bench_of(tmp_path, edit))
    assert name in failed
    assert wrong in failed[name]


def test_ignored_shared_parameters_are_a_defect(tmp_path: Path) -> None:
    report = bench_of(
        tmp_path, *WITHOUT_PAIR, ("if shared_params is not None:", "if self.batch_size < 0:")
    )
    assert "with shared parameters as without" in "".join(failures(report).values())


def test_a_random_minibatch_that_is_not_drawn_from_the_seed_is_a_defect(tmp_path: Path) -> None:
    report = bench_of(
        tmp_path,
        *WITHOUT_PAIR,
        (
            "return self._accuracy(data.images[rows]",
            "if self.quick_eval:\n            return float(np.random.default_rng().random())\n"
            "        return self._accuracy(data.images[rows]",
        ),
    )
    assert "minibatch of QUICK_EVAL, from self.seed" in "".join(failures(report).values())


def test_one_candidate_that_cannot_be_scored_is_only_remarked(tmp_path: Path) -> None:
    report = bench_of(
        tmp_path,
        (
            "return [self._accuracy(data.images[rows]",
            'return [float("nan") if c is candidates[0] and not self.quick_eval else '
            "self._accuracy(data.images[rows]",
        ),
    )
    assert failures(report) == {}
    assert "1 candidates could not be scored" in "".join(step.message for step in report.steps)


def test_several_defects_are_found_at_once(tmp_path: Path) -> None:
    report = bench_of(tmp_path, DEFECTS["score is NaN"][0], DEFECTS["too few predictions"][0])
    assert {"it evaluates to a finite score", "it predicts"} <= failures(report).keys()


def test_several_templates_in_one_file_are_named(tmp_path: Path) -> None:
    second = "\n\nclass Other(LinearSupernet):\n    pass\n"
    path = tmp_path / "two.py"
    path.write_text(TEMPLATE.read_text() + second)
    assert "LinearSupernet, Other" in "".join(failures(run_bench(path)).values())
    assert run_bench(path, model_class="Other", extract_only=True).model_class == "two:Other"


NEVER_ASKS = ("if logger.progress((epoch + 1) / epochs):", "if False:")


def remark(report: Report, step_name: str) -> str:
    assert report.is_ok
    return next(step.message for step in report.steps if step.name == step_name)


def test_training_that_cannot_be_stopped_is_remarked(tmp_path: Path) -> None:
    report = bench_of(tmp_path, NEVER_ASKS)
    full = remark(report, "it trains with all policies off, as for deployment")
    assert "never called logger.progress" in full


def test_full_training_that_takes_long_is_cut_off(tmp_path: Path) -> None:
    endless = ("else 10\n", "else 10**9\n")
    path = edited(tmp_path, NEVER_ASKS, endless)
    full = remark(
        run_bench(path, full_training_s=0.2), "it trains with all policies off, as for deployment"
    )
    assert "cut off after 0.2 s" in full


def test_short_training_need_not_tell_its_progress(tmp_path: Path) -> None:
    once = ("if logger.progress((epoch + 1) / epochs):", "if epoch > 2 and logger.progress(0.5):")
    report = bench_of(tmp_path, once)
    assert remark(report, "it trains with EARLY_STOP and dumps parameters") == ""
    assert remark(report, "it trains with all policies off, as for deployment") == ""


def test_training_that_goes_on_when_told_to_stop_is_remarked(tmp_path: Path) -> None:
    report = bench_of(tmp_path, ("                break\n", "                pass\n"))
    assert "which means: stop now" in "".join(step.message for step in report.steps)


def test_extracting_runs_no_training(tmp_path: Path) -> None:
    report = run_bench(TEMPLATE, extract_only=True)
    assert report.is_ok
    assert report.knob_config is not None
    assert report.steps[-1].name == "the constructor takes every knob"


def test_a_task_without_made_up_data_needs_data(tmp_path: Path) -> None:
    edit = ('task = "IMAGE_CLASSIFICATION"', 'task = "SPEECH_RECOGNITION"')
    failed = failures(bench_of(tmp_path, edit))
    assert "--train and --validation" in failed["data to train on"]


def test_a_file_that_is_not_there_is_reported(tmp_path: Path) -> None:
    failed = failures(run_bench(tmp_path / "nowhere.py"))
    assert "cannot be read" in failed["the source is Python"]


def test_frames_of_frameworks_are_left_out(tmp_path: Path) -> None:
    edit = ("epochs = 3 if self.early_stop else 10", "np.reshape(np.zeros(3), (2, 2))")
    message = failures(bench_of(tmp_path, edit))["it trains with EARLY_STOP and dumps parameters"]
    assert "broken.py" in message
    assert "site-packages" not in message
    assert "fromnumeric" not in message
