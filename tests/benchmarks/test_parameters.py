"""The benchmark of the parameter store, at a tiny size."""

import json
from pathlib import Path

import pytest
from benchmarks import parameters


@pytest.mark.slow
def test_every_figure_is_measured_and_only_what_changed_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "figures.json"
    sizes = ["--megabytes", "0.4", "--tensors", "10", "--workers", "1", "2", "--rounds", "1"]
    parameters.main([*sizes, "--folder", str(tmp_path), "--json", str(file)])
    figures = json.loads(file.read_text())
    sent = {(row["what"], row["workers"]): row["sent_mb"] for row in figures["rows"]}
    assert sent["upload", 2] == pytest.approx(0.8)
    assert sent["the same again", 2] == 0
    assert sent["a fifth changed", 2] == pytest.approx(0.16)
    assert ("msgpack of lists, read", 1) in sent
    ok = {floor["what"]: floor["ok"] for floor in figures["floors"]}
    assert ok["the same again, share sent"] and ok["a fifth changed, share sent"]
    assert "upload, MB/s" in capsys.readouterr().out
