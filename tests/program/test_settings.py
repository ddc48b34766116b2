from pathlib import Path
from typing import ClassVar, Literal

import pytest
from pydantic import Field

from rafiki.program import Settings, SettingsError, Words, read_settings, setting_defaults


class Kettle(Settings):
    program: ClassVar[str] = "server"

    water_l: float = Field(default=1.5, gt=0, description="litres of water, 100 % of it clean")
    colour: Literal["red", "blue"] = Field(default="red", description="colour")
    is_loud: bool = Field(default=False, description="whether it whistles")
    folder: Path = Field(default=Path("kettle"), description="where it stands")
    teas: Words = Field(default=(), description="what is drunk")


def read(*flags: str) -> Kettle:
    return read_settings(Kettle, flags)[0]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rafiki.toml"
    path.write_text('[server]\nwater_l = 2\ncolour = "blue"\nteas = ["mint"]\n[worker]\nx = 1\n')
    return path


def test_without_any_source_the_defaults_hold() -> None:
    assert read() == Kettle()
    assert setting_defaults(Kettle) == {
        "water_l": "1.5",
        "colour": "red",
        "is_loud": "false",
        "folder": "kettle",
        "teas": "",
    }


def test_flags_come_before_variables_these_before_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read(f"--config={file}").water_l == 2
    monkeypatch.setenv("RAFIKI_WATER_L", "3")
    assert read("--config", str(file)).water_l == 3
    monkeypatch.setenv("RAFIKI_SERVER_WATER_L", "4")
    assert read("--config", str(file)).water_l == 4
    settings = read("--config", str(file), "--water-l=5")
    assert (settings.water_l, settings.colour, settings.teas) == (5, "blue", ("mint",))


def test_the_file_may_be_named_by_a_variable(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAFIKI_CONFIG", str(file))
    assert read().colour == "blue"


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAFIKI_COLOUR", "")
    assert read().colour == "red"


def test_several_words_are_arguments_or_apart_by_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read("--teas", "mint", "sage").teas == ("mint", "sage")
    monkeypatch.setenv("RAFIKI_TEAS", "mint sage")
    assert read().teas == ("mint", "sage")


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        read().colour = "blue"


def test_a_bad_value_is_told_with_its_origin_and_what_is_allowed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text('[server]\ncolour = "green"\n')
    monkeypatch.setenv("RAFIKI_WATER_L", "0")
    with pytest.raises(SettingsError) as raised:
        read("--config", str(file), "--is-loud=perhaps")
    assert str(raised.value).splitlines() == [
        "water_l should be greater than 0, not '0' (from RAFIKI_WATER_L)",
        f"colour should be 'red' or 'blue', not 'green' (from [server] in {file})",
        "is_loud should be a valid boolean, unable to interpret input, not 'perhaps' "
        "(from --is-loud)",
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--colur=red"], "there is no flag --colur; did you mean --colour?"),
        (["--zzz=1"], "there is no flag --zzz"),
        (["--col=red"], "there is no flag --col"),
        (["tea"], "unexpected argument 'tea'; see --help"),
        (["--colour"], "argument --colour: expected one argument; see --help"),
        (["--config=/none.toml"], "/none.toml cannot be read: No such file or directory"),
    ],
)
def test_an_unknown_flag_is_refused_with_the_nearest(flags: list[str], message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read(*flags)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[server]\ncolor = 'red'", "there is no setting color in [server]; did you mean colour?"),
        ("colour = 'red'", "there is no table [colour]; settings are in [server] and [worker]"),
        ("[kettle]\n", "there is no table [kettle]; settings are in [server] and [worker]"),
        ("[server", "is no TOML file"),
    ],
)
def test_an_unknown_key_of_the_file_is_refused(file: Path, text: str, message: str) -> None:
    file.write_text(text)
    with pytest.raises(SettingsError) as raised:
        read("--config", str(file))
    assert str(file) in str(raised.value)
    assert message in str(raised.value)


def test_only_variables_that_look_misspelt_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAFIKI_COLOUR", "RAFIKI_COLUR", "RAFIKI_SERVER_POT", "RAFIKI_ELSEWHERE"):
        monkeypatch.setenv(name, "red")
    _, warnings = read_settings(Kettle, [])
    assert warnings == [
        "the variable RAFIKI_COLUR is not read; did you mean RAFIKI_COLOUR?",
        "the variable RAFIKI_SERVER_POT is not read",
    ]


def test_help_tells_every_setting_with_its_default_and_its_variable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        read("--help")
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--water-l N litres of water, 100 % of it clean (default 1.5; RAFIKI_WATER_L)" in text
    assert "--teas [TEXT ...] what is drunk (RAFIKI_TEAS)" in text
    assert "--colour red|blue colour (default red; RAFIKI_COLOUR)" in text
