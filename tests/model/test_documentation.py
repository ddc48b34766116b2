"""The templates that the documentation shows work."""

import re
from pathlib import Path

from rafiki.model.bench import run_bench

DOCS = Path(__file__).parents[2] / "docs"


def test_the_complete_template_of_the_guide_passes_the_bench(tmp_path: Path) -> None:
    blocks = re.findall(
        r"```python\n(.*?)```", (DOCS / "writing-a-model.md").read_text(), re.DOTALL
    )
    path = tmp_path / "guide.py"
    path.write_text(next(block for block in blocks if "(BaseModel):" in block))
    report = run_bench(path)
    assert [step for step in report.steps if not step.ok] == []
