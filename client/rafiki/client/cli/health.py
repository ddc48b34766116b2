"""`rafiki job health`: is the search any good?"""

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from rafiki.client import names
from rafiki.client.cli.jobs import JobArgument
from rafiki.client.cli.options import DEFAULT_SERVER, JsonOption, ServerOption, connect
from rafiki.client.cli.output import print_json
from rafiki.client.cli.output import show as render
from rafiki.client.health import Finding, Health, Level, read_health

_STYLES = {Level.OK: "green", Level.NOTE: "yellow", Level.WARNING: "bold red"}
_INDENT = 9  # the width of the longest level, and two


def health(
    job: JobArgument, as_json: JsonOption = False, server: ServerOption = DEFAULT_SERVER
) -> None:
    """Say in words how good a search is: warnings first, with their figures.

    Example: `rafiki job health a1b2c3d4`
    """
    with connect(server) as client:
        found = read_health(client, names.job_name(job))
    if as_json:
        print_json(found)
    else:
        render(Group(*(part for one in found for part in health_parts(one))))


def health_parts(health: Health) -> list[RenderableType]:
    """One study as lines: its verdict, then each finding with its explanation."""
    tally = ", ".join(
        f"{len(health.at(level))} {word}{'s' * (len(health.at(level)) != 1)}"
        for level, word in ((Level.WARNING, "warning"), (Level.NOTE, "note"))
    )
    title = Text.assemble(
        (f"study {names.short(health.study)}", "bold"), f" ({health.advisor}): {tally}"
    )
    return [title, *(part for finding in health.findings for part in _finding(finding)), Text()]


def _finding(finding: Finding) -> list[RenderableType]:
    head = Text.assemble(
        (f"{finding.level:<{_INDENT}}", _STYLES[finding.level]), (finding.title, "bold")
    )
    return [head, Padding(Text(finding.explanation), (0, 0, 0, _INDENT))]
