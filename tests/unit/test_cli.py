"""The `mta` command, as an operator types it."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from mta.auth.verifier import verify
from mta.cli import COMMANDS, main
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
    config = tmp_path / "demo/etc/mta.toml"
    assert "control.sock: it does not run; systemctl start mta, or twistd " in result.output
    assert f" mta --config {config}" in result.output


@contextmanager
def daemon(state: Path, answer: str) -> Iterator[list[bytes]]:
    """Answer the first request at the control socket of a state directory; gives the requests."""
    requests: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(state / "control.sock"))
        listening.listen()
        listening.settimeout(10)

        def serve() -> None:
            connection = listening.accept()[0]
            with connection:
                requests.append(connection.recv(4096))
                connection.sendall(answer.encode() + b"\n")

        serving = threading.Thread(target=serve)
        serving.start()
        yield requests
        serving.join()


def test_reload_asks_the_daemon_and_prints_its_answer(tmp_path: Path) -> None:
    """What the daemon says is printed."""
    mta("init", "--demo", tmp_path / "demo")
    with daemon(tmp_path / "demo/var", '{"ok": true, "message": "reloaded: all of it"}') as requests:
        result = mta("reload", "--config", tmp_path / "demo/etc/mta.toml")
    assert requests == [b'{"command": "reload"}\n']
    assert (result.exit_code, result.output) == (0, "reloaded: all of it\n")


def test_the_daemon_judges_the_configuration(tmp_path: Path) -> None:
    """A file with a fault in it is the daemon's to read: what it says of that is told with status 78."""
    mta("init", "--demo", tmp_path / "demo")
    config = tmp_path / "demo/etc/mta.toml"
    config.write_text(config.read_text() + '[queue]\nfirst_retri = "5m"\n')
    with daemon(tmp_path / "demo/var", '{"ok": false, "error": "mta.toml:20: what is wrong"}') as requests:
        result = mta("reload", "--config", config)
    assert len(requests) == 1
    assert result.exit_code == 78
    assert result.output == "mta: not reloaded, the running configuration stays:\nmta.toml:20: what is wrong\n"


@pytest.mark.parametrize(("old", "new"), [('state = "../var"', "state = 5"), ("[mx]", "[mx")])
def test_a_file_that_does_not_tell_the_state_directory(tmp_path: Path, old: str, new: str) -> None:
    """Where the file is no TOML, or `state` is wrong, nobody can be asked: status 78 with file and line."""
    mta("init", "--demo", tmp_path / "demo")
    config = tmp_path / "demo/etc/mta.toml"
    config.write_text(config.read_text().replace(old, new))
    result = mta("reload", "--config", config)
    assert result.exit_code == 78
    assert f"{config}:" in result.output
    assert "the running configuration stays" in result.output


def test_reload_after_a_change_of_the_state_directory(tmp_path: Path) -> None:
    """The daemon still listens in the old one: the message says so, and --state reaches it."""
    mta("init", "--demo", tmp_path / "demo")
    config = tmp_path / "demo/etc/mta.toml"
    config.write_text(config.read_text().replace('state = "../var"', 'state = "../elsewhere"'))
    lost = mta("reload", "--config", config)
    assert lost.exit_code == 69
    assert f"no daemon answers at {tmp_path}/demo/elsewhere/control.sock" in lost.output
    assert "--state" in lost.output
    with daemon(tmp_path / "demo/var", '{"ok": true, "message": "reloaded"}'):
        assert mta("reload", "--config", config, "--state", tmp_path / "demo/var").exit_code == 0


def test_a_path_too_long_for_a_socket_is_told(tmp_path: Path) -> None:
    """A state directory whose socket the kernel would not take is a sentence with both numbers, no traceback."""
    result = mta("reload", "--state", "/" + "x" * 200)
    assert result.exit_code == 78
    assert "has 214 octets, and 107 is the most" in result.output


def test_the_help_of_all_is_read_without_importing_any() -> None:
    """What `mta --help` says of each command fits on a line of 80 columns, and waits for no import."""
    result = CliRunner().invoke(main, ["--help"], terminal_width=80)
    for name, entry in COMMANDS.items():
        assert f"  {name:10}  {entry.summary}\n" in result.output
    code = "import sys; from mta.cli import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {entry.place.partition(":")[0] for entry in COMMANDS.values()} & set(done.stdout.split())


def test_examples_can_be_copied() -> None:
    """Each example of a help is a line of its own on any terminal, and summaries are whole on one of 80 columns."""

    def commands(command: click.Command, context: click.Context) -> Iterator[tuple[click.Command, click.Context]]:
        yield command, context
        if isinstance(command, click.Group):
            for name in command.list_commands(context):
                inner = command.get_command(context, name)
                assert inner is not None
                yield from commands(inner, click.Context(inner, info_name=name, parent=context, terminal_width=40))

    seen = 0
    for command, context in commands(main, click.Context(main, info_name="mta", terminal_width=40)):
        for line in (command.epilog or "").splitlines():
            if line.startswith("  "):
                assert f"{line}\n" in f"{command.get_help(context)}\n"
                seen += 1
        if isinstance(command, click.Group):
            context.terminal_width = 80
            assert "...\n" not in command.get_help(context).partition("Commands:")[2], "summaries are cut short"
        assert bool(command.epilog) is (not isinstance(command, click.Group) or command.invoke_without_command)
    assert seen > 40


def test_the_demonstration_says_what_a_shell_can_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs that are not found by their names are called as the one that runs, and mail can be followed."""
    (tmp_path / "bin").mkdir()
    for name in ("mta", "twistd"):
        (tmp_path / "bin" / name).touch(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bin/mta", "init"])
    monkeypatch.setenv("PATH", "/nowhere")
    lines = [line.strip() for line in mta("init", "--demo", "demo").output.splitlines()]
    assert "bin/twistd -n --pidfile= mta --config demo/etc/mta.toml" in lines
    assert "bin/mta trace --config demo/etc/mta.toml" in lines
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert "mta trace --config demo/etc/mta.toml" in mta("init", "--demo", "demo").output.splitlines()[-3].strip()


def test_what_only_looks_waits_for_no_import_of_twisted() -> None:
    """Commands that read files, or ask the daemon, start without it: it takes longer to import than they take."""
    commands = ("alias", "domain", "log", "reload", "send", "top", "trace", "user")
    imports = "; ".join(f"import {COMMANDS[name].place.partition(':')[0]}" for name in commands)
    code = f"import sys; {imports}; print('twisted' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
