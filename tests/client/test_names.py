import pytest

from rafiki.client import names


@pytest.mark.parametrize("text", ["a1b2c3d4", "trainJobs/a1b2c3d4"])
def test_a_job_is_named_by_its_id_or_in_full(text: str) -> None:
    assert names.job_name(text) == "trainJobs/a1b2c3d4"


@pytest.mark.parametrize(
    "text", ["", "a1b2c3d", "A1B2C3D4", "models/a1b2c3d4", "a1b2c3d4/1", "../x"]
)
def test_what_is_no_job_is_refused(text: str) -> None:
    with pytest.raises(names.InvalidName, match="is no job"):
        names.job_name(text)


def test_models_and_data_sets_are_named_alike() -> None:
    assert names.model_name("a1b2c3d4") == "models/a1b2c3d4"
    assert names.dataset_name("datasets/a1b2c3d4") == "datasets/a1b2c3d4"


@pytest.mark.parametrize(
    ("text", "job"),
    [
        ("3", "a1b2c3d4"),
        ("1/3", "trainJobs/a1b2c3d4"),
        ("a1b2c3d4/1/3", ""),
        ("trainJobs/a1b2c3d4/studies/1/trials/3", ""),
    ],
)
def test_a_trial_has_short_forms(text: str, job: str) -> None:
    assert names.trial_name(text, job) == "trainJobs/a1b2c3d4/studies/1/trials/3"


@pytest.mark.parametrize("text", ["3", "0", "x", "a1b2c3d4/1", "a1b2c3d4/1/3/4"])
def test_a_trial_without_its_job_is_refused(text: str) -> None:
    with pytest.raises(names.InvalidName, match="is no trial"):
        names.trial_name(text)


def test_a_study_has_short_forms() -> None:
    full = "trainJobs/a1b2c3d4/studies/2"
    assert names.study_name("a1b2c3d4/2") == names.study_name("2", "a1b2c3d4") == full
    assert names.study_name(full) == full


@pytest.mark.parametrize(
    "name",
    [
        "trainJobs/a1b2c3d4",
        "trainJobs/a1b2c3d4/studies/2",
        "trainJobs/a1b2c3d4/studies/2/trials/31",
        "models/a1b2c3d4",
    ],
)
def test_short_names_are_read_back(name: str) -> None:
    read = {
        2: names.model_name if name.startswith("models") else names.job_name,
        4: names.study_name,
        6: names.trial_name,
    }[len(name.split("/"))]
    assert read(names.short(name)) == name
