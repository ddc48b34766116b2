"""The page on the parameter store names every setting, with its default."""

import re
from pathlib import Path

from rafiki.server.__main__ import _FLAGS

PAGE = Path(__file__).parents[2] / "docs" / "parameter-store.md"
ELSEWHERE = {"--data-dir", "--listen", "--heartbeat-s", "--lease-s", "--log-level"}


def test_every_setting_of_the_store_is_on_the_page_with_its_default() -> None:
    rows = re.findall(r"^\| `(--[a-z-]+)` \| `([^`]*)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    settings = {flag: default for flag, (default, _, _) in _FLAGS.items()}
    assert dict(rows) == {f: d for f, d in settings.items() if f not in ELSEWHERE}
