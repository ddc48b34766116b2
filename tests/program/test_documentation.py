"""docs/running-a-server.md tells every setting of the programs."""

import re
from pathlib import Path

import pytest

from rafiki.program import Settings, setting_defaults
from rafiki.server.config import ServerConfig
from rafiki.worker.config import WorkerConfig

PAGE = Path(__file__).parents[2] / "docs" / "running-a-server.md"


def section(heading: str) -> str:
    """What is below a heading, down to the next."""
    _, _, rest = PAGE.read_text("utf-8").partition(f"\n{heading}\n")
    assert rest, f"there is no {heading}"
    return re.split(r"^#", rest, flags=re.MULTILINE)[0]


@pytest.mark.parametrize(
    ("kind", "heading"),
    [
        (ServerConfig, "### Settings of the server"),
        (WorkerConfig, "### Settings of a worker"),
    ],
)
def test_every_setting_is_documented_with_its_default(kind: type[Settings], heading: str) -> None:
    rows = re.findall(r"^\| `(\w+)` \| `([^`]*)` \| \S", section(heading), re.MULTILINE)
    assert dict(rows) == setting_defaults(kind)


@pytest.mark.parametrize("kind", [ServerConfig, WorkerConfig])
def test_every_setting_has_a_line_of_help(kind: type[Settings]) -> None:
    assert [name for name, field in kind.model_fields.items() if not field.description] == []
