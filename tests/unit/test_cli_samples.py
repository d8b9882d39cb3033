"""`mta samples` names the files that came with the program."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from mta.cli.samples import find_samples, samples

ROOT = Path(__file__).resolve().parents[2]


def test_a_checkout_has_its_own() -> None:
    """In a checkout the samples are those of the checkout, whatever is installed beside it."""
    run = CliRunner().invoke(samples, [])
    assert run.exit_code == 0
    assert str(ROOT / "etc/mta.toml") in run.stdout.splitlines()
    assert str(ROOT / "systemd/mta.service") in run.stdout.splitlines()


def test_by_name() -> None:
    """With a name one line is printed, to be used in another command."""
    assert CliRunner().invoke(samples, ["mta.toml"]).stdout == f"{ROOT / 'etc/mta.toml'}\n"


def test_a_name_that_is_not_there() -> None:
    """It is said, and nothing is printed that a script would take for a path."""
    run = CliRunner().invoke(samples, ["mta.toml", "x.json"])
    assert run.exit_code == 65
    assert run.stdout == ""
    assert run.stderr == "mta: no sample is called x.json\n"


def test_hidden_files_are_none(tmp_path: Path) -> None:
    """What editors and Python leave behind is no sample."""
    (tmp_path / "setup.cfg").touch()
    (tmp_path / "etc").mkdir()
    for name in (".swp", "__pycache__", "mta.toml"):
        (tmp_path / "etc" / name).touch()
    assert list(find_samples(tmp_path)) == [tmp_path / "etc/mta.toml"]
