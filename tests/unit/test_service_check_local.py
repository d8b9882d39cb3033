"""What `mta check` says of mail of this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mta.service.check.finding import Finding, Severity
from mta.service.check.local import check_local
from mta.settings.reader import load
from tests.doubles.etc import MINIMAL, write_etc


def checked(root: Path, local: str, aliases: str | None = None) -> list[Finding]:
    """Check a server whose ``[local]`` has these lines."""
    if aliases is not None:
        (root / "aliases").write_text(aliases)
    return check_local(load(write_etc(root, f"{MINIMAL}[local]\n{local}\n")))


def test_root_without_a_target_is_told(tmp_path: Path) -> None:
    """Where nobody said who reads root's mail that is a warning, with where it goes and the line to write."""
    (found,) = checked(tmp_path, 'aliases = "aliases"', "postmaster: root\n")
    assert found.severity is Severity.WARNING
    assert found.what == "it was not said who gets mail for root@mail.example.org"
    assert "goes to postmaster@example.org" in found.reason.text
    assert f"root: you@example.org in {tmp_path}/aliases" in found.mend


def test_root_with_a_target_is_well(tmp_path: Path) -> None:
    """An alias or a setting is enough."""
    assert checked(tmp_path, 'aliases = "aliases"', "root: bob\n") == []
    assert checked(tmp_path, 'root = "bob@example.org"') == []


def test_nobody_at_all(tmp_path: Path) -> None:
    """A machine without domains, and without a word on root, loses what cron says."""
    write_etc(tmp_path, f'{MINIMAL}[mx]\nenabled = false\n[local]\nsocket = "s"\n', {})
    settings = load(str(tmp_path / "mta.toml"))
    assert "nobody gets mail for root@mail.example.org" in [found.what for found in check_local(settings)]


def test_a_socket_behind_a_closed_door(tmp_path: Path) -> None:
    """A directory that users cannot enter is an error, with the command that opens it."""
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    settings = load(write_etc(tmp_path, f'{MINIMAL}[local]\nroot = "bob@example.org"\n'))
    settings = replace(settings, local=replace(settings.local, socket=str(run / "s")))
    found = {finding.mend: finding.severity for finding in check_local(settings)}
    assert found[f"chmod o+x {run}"] is Severity.ERROR
    run.chmod(0o711)
    assert f"chmod o+x {run}" not in {finding.mend for finding in check_local(settings)}


def test_a_socket_where_everybody_writes(tmp_path: Path) -> None:
    """A directory in which any user could put another socket is an error, a sticky one too; above it sticky is well."""
    run = tmp_path / "run"
    run.mkdir()
    settings = load(write_etc(tmp_path, f'{MINIMAL}[local]\nroot = "bob@example.org"\n'))
    settings = replace(settings, local=replace(settings.local, socket=str(run / "s")))

    def found(directory: Path, mode: int) -> bool:
        directory.chmod(mode)
        what = f"every user may write in {directory}"
        severities = [each.severity for each in check_local(settings) if each.what == what]
        directory.chmod(0o755)
        return severities == [Severity.ERROR]

    assert [found(run, mode) for mode in (0o755, 0o777, 0o1777)] == [False, True, True]
    assert [found(tmp_path, mode) for mode in (0o755, 0o777, 0o1777)] == [False, True, False]


def test_a_socket_that_was_set_after_the_start_is_missed(tmp_path: Path) -> None:
    """Sockets are opened at the start: sendmail fails until the next. A stopped server has none."""
    write_etc(tmp_path, f'{MINIMAL}[local]\nsocket = "s"\nroot = "bob@example.org"\n')
    settings = load(str(tmp_path / "mta.toml"))
    told = "the server runs, and its socket for sendmail is not there"
    (found,) = (finding for finding in check_local(settings, True) if finding.what == told)
    assert (found.severity, found.mend) == (Severity.ERROR, "restart the server")
    assert told not in [finding.what for finding in check_local(settings, False)]
    (tmp_path / "s").touch()
    assert told not in [finding.what for finding in check_local(settings, True)]


def test_what_is_not_there_is_noted(tmp_path: Path) -> None:
    """No [local] at all, or a file of aliases that is not there, is worth a note and no more."""
    (found,) = check_local(load(write_etc(tmp_path)))
    assert (found.severity, "socket = " in found.mend) == (Severity.NOTE, True)
    found = checked(tmp_path, 'aliases = "none"\nroot = "bob@example.org"')[0]
    assert (found.severity, found.what) == (Severity.NOTE, f"{tmp_path}/none is not there")
