"""Resource names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rafiki.server.domain.errors import InvalidArgument
from rafiki.server.domain.names import (
    CheckpointName,
    DatasetName,
    JobName,
    ModelName,
    StudyName,
    TrialName,
    UserName,
    new_id,
    parse_study_or_all,
)

IDS = st.from_regex(r"[0-9a-f]{8}", fullmatch=True)
NUMBERS = st.integers(1, 999_999_999)


@given(IDS, NUMBERS, NUMBERS, st.integers(0, 999_999_999))
def test_every_name_survives_the_round_trip(job: str, study: int, trial: int, attempt: int) -> None:
    assert JobName.parse(str(JobName(job))) == JobName(job)
    assert ModelName.parse(str(ModelName(job))) == ModelName(job)
    assert DatasetName.parse(str(DatasetName(job))) == DatasetName(job)
    assert StudyName.parse(str(StudyName(job, study))) == StudyName(job, study)
    assert TrialName.parse(str(TrialName(job, study, trial))) == TrialName(job, study, trial)
    checkpoint = CheckpointName(job, study, trial, attempt)
    assert CheckpointName.parse(str(checkpoint)) == checkpoint


def test_names_have_the_form_of_the_protos() -> None:
    assert str(CheckpointName("0123abcd", 1, 7, 2)) == (
        "trainJobs/0123abcd/studies/1/checkpoints/7-2"
    )
    assert str(TrialName("0123abcd", 1, 7)) == "trainJobs/0123abcd/studies/1/trials/7"
    assert str(UserName("local")) == "users/local"


def test_parents_are_prefixes() -> None:
    trial = TrialName("0123abcd", 1, 7)
    assert trial.parent == StudyName("0123abcd", 1)
    assert trial.parent.parent == JobName("0123abcd")
    assert CheckpointName("0123abcd", 1, 7, 2).parent == trial.parent


@pytest.mark.parametrize(
    "text",
    [
        "",
        "models/0123ABCD",
        "models/0123abc",
        "models/0123abcd/",
        "models/0123abcd\n",
        "models/../../etc",
        "datasets/0123abcd",
        "models/" + "a" * 10_000,
    ],
)
def test_what_is_no_name_is_refused_with_its_field_and_the_form(text: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        ModelName.parse(text, "train_job.studies[0].model")
    [(field, rule)] = caught.value.violations
    assert field == "train_job.studies[0].model"
    assert "models/{model}" in rule
    assert len(rule) < 500


@pytest.mark.parametrize("number", ["0", "01", "-1", "1e3", "٣", "9999999999"])
def test_numbers_in_names_are_canonical(number: str) -> None:
    with pytest.raises(InvalidArgument):
        StudyName.parse(f"trainJobs/0123abcd/studies/{number}")


def test_a_dash_as_study_means_all_studies() -> None:
    assert parse_study_or_all("trainJobs/0123abcd/studies/-") == JobName("0123abcd")
    assert parse_study_or_all("trainJobs/0123abcd/studies/2") == StudyName("0123abcd", 2)


@pytest.mark.parametrize("text", ["", "trainJobs/x/studies/-", "trainJobs/0123abcd", "studies/-"])
def test_a_wrong_parent_of_trials_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="parent"):
        parse_study_or_all(text)


def test_new_ids_are_ids() -> None:
    assert ModelName.parse(f"models/{new_id()}")
