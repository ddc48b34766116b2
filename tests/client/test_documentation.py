"""The pages on advisors: every scheme, option and default, and commands that exist."""

import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
import typer

from rafiki.client.cli.advisors import advisor_settings, options_of
from rafiki.client.cli.app import app
from rafiki.client.cli.options import pairs
from rafiki.resources import AdvisorKind, AdvisorSettings

ROOT = Path(__file__).parents[2]
ADVISORS = ROOT / "docs" / "advisors"
SHARED = ADVISORS / "README.md"
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *ADVISORS.glob("*.md")])
SHARED_OPTIONS = re.compile("control_fraction|early_stopping.*|final_trains")


def page(kind: AdvisorKind) -> Path:
    return ADVISORS / f"{kind.lower().replace('_', '-')}.md"


def documented(path: Path) -> dict[str, str]:
    """The default of each option in the tables of a page."""
    rows = re.findall(r"^\| `([a-z0-9_]+)` \| `([^`]*)` \|", path.read_text("utf-8"), re.MULTILINE)
    assert len(rows) == len({name for name, _ in rows})
    return dict(rows)


@pytest.mark.parametrize("kind", AdvisorKind)
def test_every_option_of_a_scheme_is_on_its_page_with_its_default(kind: AdvisorKind) -> None:
    options = {name: option.default for name, option in options_of(kind).items()}
    # ENAS alone has final_trains for itself.
    shared = {
        name
        for name in options
        if SHARED_OPTIONS.fullmatch(name)
        and not (kind is AdvisorKind.ENAS and name == "final_trains")
    }
    own = {name: default for name, default in options.items() if name not in shared}
    assert documented(page(kind)) == own
    assert shared <= set(documented(SHARED))


def test_the_options_of_several_schemes_are_documented_with_their_defaults() -> None:
    options = options_of(AdvisorKind.BAYES_OPT)
    shared = {name: o.default for name, o in options.items() if SHARED_OPTIONS.fullmatch(name)}
    assert documented(SHARED) == shared


@pytest.mark.parametrize("kind", AdvisorKind)
def test_every_scheme_is_listed_and_its_page_says_what_people_ask(kind: AdvisorKind) -> None:
    assert f"[{kind}]({page(kind).name})" in SHARED.read_text("utf-8")
    text = page(kind).read_text("utf-8")
    assert text.startswith(f"# {kind}\n")
    for heading in ("When chosen.", "What it does.", "Settings", "What to expect."):
        assert f"**{heading}" in text


def commands(path: Path) -> list[list[str]]:
    """The `rafiki` commands that a page shows, as arguments."""
    text = path.read_text("utf-8").replace("\\\n", " ")
    lines = re.findall(r"^\$ (rafiki .*)$", text, re.MULTILINE)
    return [shlex.split(line.replace(" ... ", " "), comments=True)[1:] for line in lines]


SHOWN = [(path.relative_to(ROOT), words) for path in PAGES for words in commands(path)]


@pytest.mark.parametrize(("path", "words"), SHOWN, ids=lambda value: str(value)[:60])
def test_a_command_that_is_shown_exists_with_its_options(path: Path, words: list[str]) -> None:
    command = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        command = command.commands[rest.pop(0)]
    known = {name for param in command.params for name in param.opts} | {"--help"}
    assert {word for word in rest if word.startswith("-")} <= known


@pytest.mark.parametrize(("path", "words"), SHOWN, ids=lambda value: str(value)[:60])
def test_the_advisor_options_that_are_shown_are_valid(path: Path, words: list[str]) -> None:
    given = [text for name, text in pairwise(words) if name == "--advisor"]
    options = [text for name, text in pairwise(words) if name == "--advisor-option"]
    settings = advisor_settings((given or ["auto"])[0], pairs(options, "--advisor-option"))
    assert isinstance(settings, AdvisorSettings)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_links_to_files_and_headings_that_exist(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text("utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, target


def slug(heading: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
