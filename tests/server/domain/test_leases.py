"""Leases in memory."""

from datetime import UTC, datetime, timedelta

from rafiki.resources import StopReason
from rafiki.server.domain.leases import Lease, LeaseTable
from rafiki.server.domain.names import StudyName, TrialName

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(seconds=20)
STUDY = StudyName("0123abcd", 1)


def lease(token: str, worker_id: str = "w", number: int = 1) -> Lease:
    return Lease(
        token=token,
        trial=TrialName(STUDY.job, STUDY.study, number),
        worker_id=worker_id,
        grant_time=NOW,
        expire_time=NOW,
    )


def table(*leases: Lease) -> LeaseTable:
    result = LeaseTable()
    for item in leases:
        result.grant(item)
    return result


def test_renewing_extends_what_the_worker_holds_and_names_the_rest() -> None:
    leases = table(lease("a"), lease("b", "other"))
    renewed, lost = leases.renew(["a", "b", "c"], "w", LATER)
    assert [(x.token, x.expire_time) for x in renewed] == [("a", LATER)]
    assert lost == ["b", "c"]


def test_what_is_not_renewed_is_taken_once_its_time_has_come() -> None:
    leases = table(lease("a"), lease("b"))
    leases.renew(["b"], "w", LATER)
    assert leases.take_expired(NOW - timedelta(seconds=1)) == []
    assert [x.token for x in leases.take_expired(NOW)] == ["a"]
    assert leases.get("a") is None
    assert leases.take_expired(NOW) == []


def test_leases_are_counted_by_job_and_study() -> None:
    leases = table(lease("a"), lease("b", number=2))
    leases.grant(lease("b", number=2))
    assert (leases.count_of_job(STUDY.job), leases.count_of_study(STUDY)) == (2, 2)
    assert leases.drop("a") is not None
    assert leases.drop("a") is None
    assert (leases.count_of_job(STUDY.job), leases.count_of_study(STUDY)) == (1, 1)
    assert leases.count_of_job("ffffffff") == 0


def test_leases_are_found_by_worker_and_study() -> None:
    leases = table(lease("a"), lease("b", "other"))
    assert [x.token for x in leases.of_worker("other")] == ["b"]
    assert {x.token for x in leases.of_study(STUDY)} == {"a", "b"}
    assert leases.of_study(StudyName(STUDY.job, 2)) == []


def test_a_lease_keeps_its_stop_reason_over_renewals() -> None:
    leases = table(lease("a"))
    assert leases.mark_stopped("b", StopReason.JOB_ENDED) is None
    leases.mark_stopped("a", StopReason.JOB_ENDED)
    (renewed,), _ = leases.renew(["a"], "w", LATER)
    assert renewed.stop_reason is StopReason.JOB_ENDED
