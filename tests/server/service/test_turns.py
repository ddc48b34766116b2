"""Whose turn it is when a worker has room."""

from collections import Counter

from rafiki.server.domain.names import StudyName
from rafiki.server.service.turns import Turns

A1, A2, B1 = StudyName("a" * 8, 1), StudyName("a" * 8, 2), StudyName("b" * 8, 1)


def test_the_job_with_the_fewest_running_trials_comes_first() -> None:
    running = Counter({"a" * 8: 2, "b" * 8: 1})
    turns = Turns(lambda job: running[job])
    turns.serve(B1)
    assert turns.order([A1, A2, B1]) == [B1, A1, A2]


def test_among_equals_jobs_take_turns_and_so_do_their_studies() -> None:
    turns = Turns(lambda job: 0)
    served = []
    for _ in range(6):
        study = turns.order([A1, A2, B1])[0]
        turns.serve(study)
        served.append(study)
    assert served == [A1, B1, A2, B1, A1, B1]


def test_a_job_begins_anew_once_all_its_studies_are_forgotten() -> None:
    turns = Turns(lambda job: 0)
    for study in (B1, A1, A2):
        turns.serve(study)
    turns.forget(A1)
    assert turns.order([A2, B1]) == [B1, A2]
    turns.forget(A2)
    assert turns.order([A2, B1]) == [A2, B1]
