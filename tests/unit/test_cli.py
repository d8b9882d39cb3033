"""The `mta` command, as an operator types it."""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from click.testing import CliRunner, Result

from mta.auth.verifier import verify
from mta.cli import main
from mta.settings.reader import load


def mta(*arguments: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def tree(root: Path) -> dict[str, bytes]:
    """All files below a directory."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_the_demonstration_loads_and_its_passwords_are_right(tmp_path: Path) -> None:
    """What init writes is a configuration without a problem, for the ports that were asked for."""
    result = mta("init", "--demo", tmp_path / "demo", "--mx-port", 3025, "--smtpd-port", 3587, "--smtps-port", 3465)
    assert result.exit_code == 0, result.output
    settings = load(str(tmp_path / "demo/etc/mta.toml"))
    assert [str(listen) for listen in settings.mx.listen] == ["127.0.0.1:3025"]
    assert [str(listen) for listen in settings.smtpd.submission] == ["127.0.0.1:3587"]
    assert [str(listen) for listen in settings.smtpd.submissions] == ["127.0.0.1:3465"]
    credentials = dict(line.split(" ") for line in (tmp_path / "demo/credentials").read_text().splitlines())
    assert sorted(credentials) == ["alice@example.test", "bob@example.test"]
    for login, password in credentials.items():
        account = settings.directory.account(login)
        assert account is not None
        assert verify(account.verifier, password.encode())
        assert account.maildir == str(tmp_path / "demo/var/mail/example.test" / login.split("@")[0] / "Maildir")


def test_the_next_thing_to_type_is_printed(tmp_path: Path) -> None:
    """The output has a curl line with alice's password and the submission port, and where the message lands."""
    output = mta("init", "--demo", tmp_path / "demo").output
    password = (tmp_path / "demo/credentials").read_text().split()[1]
    assert f"--user 'alice@example.test:{password}'" in output
    assert "smtp://127.0.0.1:2587" in output
    assert f"{tmp_path}/demo/var/mail/example.test/bob/Maildir/new/" in output


def test_secrets_are_readable_by_the_owner_alone(tmp_path: Path) -> None:
    """Passwords and key are 0600, verifiers no more than group-readable, under any umask."""
    before = os.umask(0)
    try:
        mta("init", "--demo", tmp_path / "demo")
    finally:
        os.umask(before)
    mode = {path: (tmp_path / "demo" / path).stat().st_mode & 0o777 for path in ("credentials", "etc/tls/key.pem")}
    assert mode == {"credentials": 0o600, "etc/tls/key.pem": 0o600}
    assert (tmp_path / "demo/etc/domains/example.test/users").stat().st_mode & 0o007 == 0


def test_init_never_overwrites(tmp_path: Path) -> None:
    """A second run leaves every file as it is, and brings back one that was removed."""
    mta("init", "--demo", tmp_path / "demo")
    before = tree(tmp_path / "demo")
    assert mta("init", "--demo", tmp_path / "demo", "--mx-port", 9).exit_code == 0
    assert tree(tmp_path / "demo") == before
    (tmp_path / "demo/etc/domains/example.test/aliases").unlink()
    mta("init", "--demo", tmp_path / "demo")
    assert tree(tmp_path / "demo") == before


def test_the_certificate_is_good_for_loopback(tmp_path: Path) -> None:
    """Certificate and key belong together and OpenSSL takes them."""
    mta("init", "--demo", tmp_path / "demo")
    tls = tmp_path / "demo/etc/tls"
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls / "certificate.pem", tls / "key.pem")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """An operator's mistake is a sentence and status 73, no traceback."""
    (tmp_path / "file").write_text("")
    result = mta("init", "--demo", tmp_path / "file" / "demo")
    assert result.exit_code == 73
    assert result.output.startswith("mta: cannot write ")
    assert len(result.output.splitlines()) == 1


def test_reload_without_a_daemon_says_so(tmp_path: Path) -> None:
    """Nobody at the control socket is status 69."""
    mta("init", "--demo", tmp_path / "demo")
    result = mta("reload", "--config", tmp_path / "demo/etc/mta.toml")
    assert result.exit_code == 69
    assert "no daemon answers at" in result.output


def test_reload_of_a_bad_file_names_the_problem(tmp_path: Path) -> None:
    """A configuration that cannot be used is status 78, with file, line, what was expected and found."""
    mta("init", "--demo", tmp_path / "demo")
    config = tmp_path / "demo/etc/mta.toml"
    config.write_text(config.read_text() + '[queue]\nfirst_retri = "5m"\n')
    result = mta("reload", "--config", config)
    assert result.exit_code == 78
    assert f"{config}:" in result.output
    assert "first_retry" in result.output
