"""Boosted trees: their arrays predict what scikit-learn does, before and after a load."""

import inspect
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from rafiki.model import Feature, InvalidDataset, Policy, load_table, table_matrix, write_table
from rafiki.model.knobs import check_knob_config, offered_policies
from rafiki.zoo import tabular_trees
from rafiki.zoo.tabular_trees import (
    BoostedTrees,
    TreesClassifier,
    TreesRegressor,
    forest_of,
    known_features,
)

KNOBS: dict[str, object] = {
    "iterations": 24,
    "learning_rate": 0.2,
    "leaves": 15,
    "min_samples": 5,
    "l2": 0.1,
    "max_bins": 64,
    "early_stop": False,
}


def classifier(**knobs: object) -> TreesClassifier:
    return TreesClassifier(**(KNOBS | knobs))


def regressor(**knobs: object) -> TreesRegressor:
    return TreesRegressor(**(KNOBS | knobs))


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tables of numbers and 40 categories, with gaps: two classes, four classes, a number."""
    folder: Path = tmp_path_factory.mktemp("mixed")
    rng = np.random.default_rng(0)
    count = 500
    length = rng.normal(size=count)
    length[rng.random(count) < 0.1] = np.nan
    shop = rng.integers(0, 40, count)
    code = rng.integers(0, 3, count)
    columns: dict[str, Sequence[object] | np.ndarray] = {
        "shop": [None if number == 7 else f"shop {number}" for number in shop],
        "length": length,
        "constant": np.ones(count),
        "code": [("x", "y", "z")[number] for number in code],
    }
    value = np.nan_to_num(length, nan=1.0) + np.sin(shop) + code
    targets = {
        "two": np.where(value > 1, "high", "low"),
        "four": np.digitize(value, [0, 1, 2]),
        "number": value,
    }
    for name, target in targets.items():
        write_table(folder / name, columns | {"target": target})
    return {name: str(folder / name) for name in targets}


@pytest.mark.parametrize(
    ("task", "target"),
    [(classifier, "two"), (classifier, "four"), (regressor, "number")],
)
def test_a_loaded_model_predicts_bit_for_bit_the_same(
    task: type[BoostedTrees], target: str, mixed: dict[str, str]
) -> None:
    model, other = task(**KNOBS), task(**KNOBS)
    model.train(mixed[target])
    other.load_parameters(model.dump_parameters())
    queries: list[object] = [
        {"shop": "shop 3", "length": 0.5, "code": "x"},
        {"shop": "a new shop"},
        ["shop 39", "-3", 1, "z"],
        {},
    ]
    assert other.predict(queries) == model.predict(queries)
    assert other.evaluate(mixed[target]) == model.evaluate(mixed[target]) > 0.8


@pytest.mark.parametrize("target", ["two", "four", "number"])
def test_the_arrays_predict_what_scikit_learn_predicts(target: str, mixed: dict[str, str]) -> None:
    is_number = target == "number"
    table = load_table(
        mixed[target], "TABULAR_REGRESSION" if is_number else "TABULAR_CLASSIFICATION"
    )
    order = np.array([0, 3, 1, 2])
    matrix = table_matrix(table, table.features)[:, order]
    grow = HistGradientBoostingRegressor if is_number else HistGradientBoostingClassifier
    model = grow(max_iter=15, categorical_features=[0, 1], early_stopping=False)
    model.fit(matrix, table.target)
    # Also rows that training has not seen.
    rng = np.random.default_rng(1)
    asked = np.concatenate([matrix, rng.permuted(matrix, axis=0)])
    asked[rng.random(asked.shape) < 0.1] = np.nan
    forest = forest_of(model, np.arange(4))
    assert (forest.bitset >= 0).any()
    np.testing.assert_allclose(forest.outputs(asked), model._raw_predict(asked), rtol=0, atol=1e-12)


def test_rows_that_do_not_fit_at_once_are_predicted_in_parts(
    mixed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = regressor()
    model.train(mixed["number"])
    whole = model.evaluate(mixed["number"])
    monkeypatch.setattr(tabular_trees, "DESCENTS", 24 * 7)
    assert model.evaluate(mixed["number"]) == whole


def test_probabilities_are_by_class_and_sum_to_one(mixed: dict[str, str]) -> None:
    model = classifier()
    model.train(mixed["four"])
    (prediction,) = model.predict([{"length": 9, "code": "z"}])
    assert isinstance(prediction, dict)
    assert prediction.keys() == {"0", "1", "2", "3"}
    assert sum(prediction.values()) == pytest.approx(1.0)
    assert max(prediction, key=prediction.__getitem__) == "3"


def test_parameters_are_arrays_that_need_no_pickle(mixed: dict[str, str]) -> None:
    model = classifier()
    model.train(mixed["two"])
    dumped = model.dump_parameters()
    assert {array.dtype.kind for array in dumped.values()} <= set("iufb")
    assert dumped["columns"].dtype == np.uint8
    assert dumped["trees/roots"].shape == (24, 1)


def test_early_stop_takes_a_fourth_of_the_iterations_at_four_times_the_step(
    mixed: dict[str, str],
) -> None:
    stopped = regressor(early_stop=True)
    hasty = regressor(iterations=6, learning_rate=0.8)
    for model in (stopped, hasty):
        model.train(mixed["number"])
    assert stopped.predict([{"length": 1}]) == hasty.predict([{"length": 1}])


def test_the_seeds_of_trials_have_63_bits(mixed: dict[str, str]) -> None:
    model = regressor()
    model.seed = 2**63 - 1
    model.train(mixed["number"])
    assert model.evaluate(mixed["number"]) > 0.8


def test_reports_do_not_change_what_is_learned(
    mixed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    often, never = regressor(), regressor()
    never_reporting = 1000
    often.train(mixed["number"])
    monkeypatch.setattr(tabular_trees, "ITERATIONS_PER_REPORT", never_reporting)
    never.train(mixed["number"])
    assert often.predict([[None] * 4]) == pytest.approx(never.predict([[None] * 4]), abs=1e-9)


def test_rare_categories_beyond_the_bins_count_as_missing(tmp_path: Path) -> None:
    texts = ["often", "rare", "often", "some", "some", "often"]
    write_table(tmp_path / "t.csv", {"shop": texts, "target": [1, 2, 1, 2, 2, 1]})
    table = load_table(tmp_path / "t.csv", "TABULAR_CLASSIFICATION")
    features = known_features(table, 2)
    assert features == (Feature(name="shop", categories=("often", "some")),)
    np.testing.assert_array_equal(table_matrix(table, features)[:, 0], [0, np.nan, 0, 1, 1, 0])


def test_classes_that_training_has_not_seen_are_wrong(
    mixed: dict[str, str], tmp_path: Path
) -> None:
    model = classifier()
    model.train(mixed["two"])
    columns: dict[str, Sequence[object]] = {
        "shop": ["a", "a"],
        "length": [9, 9],
        "constant": [1, 1],
        "code": ["z", "z"],
        "target": ["high", "middling"],
    }
    write_table(tmp_path / "t.csv", columns)
    assert model.evaluate(str(tmp_path / "t.csv")) == 0.5


def test_data_without_a_column_of_the_model_is_refused(
    mixed: dict[str, str], tmp_path: Path
) -> None:
    model = classifier()
    model.train(mixed["two"])
    write_table(tmp_path / "t.csv", {"shop": ["a", "b"], "target": ["high", "low"]})
    with pytest.raises(InvalidDataset, match="there is no column 'code'"):
        model.evaluate(str(tmp_path / "t.csv"))


def test_a_model_without_parameters_says_so() -> None:
    with pytest.raises(ValueError, match="neither trained nor loaded"):
        classifier().dump_parameters()


@pytest.mark.parametrize("template", [TreesClassifier, TreesRegressor])
def test_the_knob_config_is_valid(template: type[BoostedTrees]) -> None:
    config = template.get_knob_config()
    check_knob_config(config)
    assert offered_policies(config) == {Policy.EARLY_STOP}
    assert config.keys() == KNOBS.keys()


def test_the_template_is_one_file_of_less_than_400_lines() -> None:
    assert len(inspect.getsource(tabular_trees).splitlines()) < 400


@pytest.mark.parametrize(
    ("task", "load", "floor"),
    [(classifier, load_breast_cancer, 0.93), (regressor, load_diabetes, 0.25)],
)
def test_it_learns_real_tables(
    task: type[BoostedTrees], load: object, floor: float, tmp_path: Path
) -> None:
    assert callable(load)
    data = load()
    order = np.random.default_rng(0).permutation(len(data.target))
    parts = {"train": order[len(order) // 4 :], "validation": order[: len(order) // 4]}
    for part, rows in parts.items():
        columns = {str(name): data.data[rows, k] for k, name in enumerate(data.feature_names)}
        write_table(tmp_path / part, columns | {"target": data.target[rows]})
    model = task(**KNOBS)
    model.train(str(tmp_path / "train"))
    assert model.evaluate(str(tmp_path / "validation")) > floor
