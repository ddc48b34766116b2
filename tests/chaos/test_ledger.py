"""Ledgers as they lie on the disk after a kill."""

from pathlib import Path

from tests.chaos.ledger import Acknowledged, Ledger, Moment, Report, read_reports

REPORT = Report(
    moment=Moment.REPORTING, worker="w", trial="t", token="k", outcome="completed", score=0.5
)
ANSWER = Report(
    moment=Moment.ACKNOWLEDGED,
    worker="w",
    trial="t",
    token="k",
    outcome="completed",
    score=0.5,
    answered_state="COMPLETED",
    answered_score=0.5,
)


def test_lines_are_read_as_they_were_written(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "a.jsonl")
    ledger.write(REPORT)
    ledger.write(ANSWER)
    assert read_reports(tmp_path) == [REPORT, ANSWER]


def test_a_line_without_an_end_does_not_count(tmp_path: Path) -> None:
    Ledger(tmp_path / "a.jsonl").write(REPORT)
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write('{"moment": "ACKNOWLEDGED", "wor')
    assert read_reports(tmp_path) == [REPORT]
    assert Acknowledged(tmp_path).count() == 0


def test_acknowledgements_are_counted_as_they_come(tmp_path: Path) -> None:
    acknowledged = Acknowledged(tmp_path)
    first, second = Ledger(tmp_path / "a.jsonl"), Ledger(tmp_path / "b.jsonl")
    first.write(REPORT)
    first.write(ANSWER)
    assert acknowledged.count() == 1
    second.write(ANSWER)
    assert acknowledged.count() == 2
    assert acknowledged.count() == 2
