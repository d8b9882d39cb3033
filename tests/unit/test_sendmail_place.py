"""Where the command finds the server."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.sendmail.exits import EX_CONFIG, Ended
from mta.sendmail.place import VARIABLE, config_file, socket_path


def test_the_usual_place_comes_first(tmp_path: Path) -> None:
    """A socket at the usual place is taken without a look at the configuration, which a user may not read."""
    usual = tmp_path / "submit.sock"
    usual.touch()
    assert socket_path("", str(usual), str(tmp_path / "missing.toml")) == str(usual)


def test_the_configuration_names_another(tmp_path: Path) -> None:
    """Without a socket at the usual place the configuration is asked, whose paths are relative to it."""
    file = tmp_path / "mta.toml"
    file.write_text('hostname = "mx.example.org"\n[local]\nsocket = "../run/s"\n')
    assert socket_path("", str(tmp_path / "none"), str(file)) == str(tmp_path.parent / "run/s")
    assert socket_path(str(file), str(tmp_path), "") == str(tmp_path.parent / "run/s")


def test_nothing_to_be_found_is_the_usual_place(tmp_path: Path) -> None:
    """With nothing there the usual place is what the word of refusal names."""
    assert socket_path("", "/run/none", str(tmp_path / "none.toml")) == "/run/none"
    (tmp_path / "mta.toml").write_text("hostname = 1\n")
    assert socket_path("", "/run/none", str(tmp_path / "mta.toml")) == "/run/none"


@pytest.mark.parametrize("text", [None, "no toml", "[local]\n", "local = 3\n"])
def test_a_configuration_that_was_named_must_tell(tmp_path: Path, text: str | None) -> None:
    """Who names a configuration is told what is wrong with it."""
    file = tmp_path / "mta.toml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(Ended, match=str(file)) as ended:
        socket_path(str(file))
    assert ended.value.status == EX_CONFIG


def test_a_configuration_is_named_in_two_ways(tmp_path: Path) -> None:
    """-C comes before the variable, and a directory means the file in it."""
    assert config_file("", {}) == ""
    assert config_file("", {VARIABLE: "/a"}) == "/a"
    assert config_file(str(tmp_path), {VARIABLE: "/a"}) == str(tmp_path / "mta.toml")
