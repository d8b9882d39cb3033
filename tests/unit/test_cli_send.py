"""Tests of `mta.cli.send`; what it does with a server stands in `tests/live/test_timeline.py`."""

from __future__ import annotations

import smtplib
from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner, Result

from mta.cli.send import Listener, Sent, _listener, _Mail, _settings, _status, log_in, send
from mta.observe.event import Event, Kind
from mta.observe.story import Story

HEAD = 'hostname = "mx.example.test"\nstate = "/nowhere/state"\n'


def config(tmp_path: Path, toml: str = "") -> Path:
    """Write a configuration."""
    path = tmp_path / "mta.toml"
    path.write_text(HEAD + toml)
    return path


def listener(tmp_path: Path, service: str, toml: str = "") -> Listener:
    """Where a service is spoken to."""
    return _listener(_settings(config(tmp_path, toml)), service)


def run(tmp_path: Path, *arguments: str, toml: str = "") -> Result:
    """Run the command."""
    return CliRunner().invoke(send, ["--config", str(config(tmp_path, toml)), *arguments], catch_exceptions=False)


def test_the_server_is_found_from_its_settings(tmp_path: Path) -> None:
    """A wildcard is spoken to by loopback, submission by STARTTLS rather than TLS, systemd's sockets by their port."""
    assert listener(tmp_path, "mx") == Listener("mx", False, "127.0.0.1", 25)
    assert listener(tmp_path, "smtpd") == Listener("smtpd", False, "127.0.0.1", 587)
    only_tls = '[smtpd]\nsubmission = []\nsubmissions = ["[::]:4650"]\n'
    assert listener(tmp_path, "smtpd", only_tls) == Listener("smtpd", True, "::1", 4650)
    assert listener(tmp_path, "mx", '[mx]\nlisten = ["192.0.2.1:26"]\n') == Listener("mx", False, "192.0.2.1", 26)
    assert listener(tmp_path, "mx", '[mx]\nlisten = ["systemd:mx"]\n') == Listener("mx", False, "127.0.0.1", 25)
    assert str(listener(tmp_path, "smtpd", only_tls)) == "smtpd at [::1]:4650"


def test_what_is_wrong_is_told_in_one_line(tmp_path: Path) -> None:
    """A service that is off, a listener that cannot be read, an address that is none, nobody who sends."""
    off = run(tmp_path, "--from", "a@x", "--to", "b@y", toml="[mx]\nenabled = false\n")
    assert (off.exit_code, off.output.count("\n")) == (66, 1)
    assert "the service mx does not run: [mx] enabled is false" in off.output
    wrong = run(tmp_path, "--from", "a@x", "--to", "b@y", toml='[mx]\nlisten = ["nowhere"]\n')
    assert wrong.exit_code == 78
    assert "mx.listen" in wrong.output
    for arguments in (["--from", "a@x", "--to", "b\r\n@y"], ["--from", "<a@x>", "--to", "b@y"], ["--to", "b@y"]):
        assert run(tmp_path, *arguments).exit_code == 2
    assert "the password of the login is needed" in run(tmp_path, "--login", "a@x", "--to", "b@y").output


def test_an_empty_password_is_no_password(tmp_path: Path) -> None:
    """Nothing is sent with it: the file is named."""
    (tmp_path / "password").write_text("\n")
    result = run(tmp_path, "--login", "a@x", "--to", "b@y", "--password-file", str(tmp_path / "password"))
    assert result.exit_code == 2
    assert "password is empty" in result.output


@pytest.mark.parametrize(("offered", "tried"), [("PLAIN LOGIN", ["PLAIN"]), ("LOGIN", ["LOGIN"])])
def test_a_password_is_tried_once(offered: str, tried: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal of one mechanism is one of the password: another is not tried, and it counts once."""
    client, asked = smtplib.SMTP(), []
    client.esmtp_features, client.does_esmtp, client.ehlo_resp = {"auth": offered}, True, b"x"

    def refuse(mechanism: str, *_: object, **__: object) -> NoReturn:
        asked.append(mechanism)
        raise smtplib.SMTPAuthenticationError(535, b"no")

    monkeypatch.setattr(client, "auth", refuse)
    with pytest.raises(smtplib.SMTPAuthenticationError):
        log_in(client, "a@x", "wrong")
    assert asked == tried


def test_a_message_is_one_that_any_server_takes() -> None:
    """It has the fields of RFC 5322, lines that end with CRLF, and beyond ASCII only where an address is."""
    mail = _Mail("alice@x.test", ["bob@y.test", "eve@y.test"], "Grüße", "zwei\nZeilen ü")
    octets = mail.octets()
    assert octets.isascii()
    assert octets.replace(b"\r\n", b"").count(b"\n") == 0
    for field in (b"From: alice@x.test\r\n", b"To: bob@y.test, eve@y.test\r\n", b"Date: ", b"@x.test>\r\n"):
        assert field in octets
    assert "From: jürgen@x.test".encode() in _Mail("jürgen@x.test", ["bob@y.test"], "s", "b").octets()
    assert b"From: bob@y.test" in _Mail("", ["bob@y.test"], "s", "b").octets()


def story(*events: tuple[Kind, dict[str, Any]]) -> Story:
    """A message for two mailboxes."""
    made = Story("q")
    made.add(Event(0.0, Kind.MESSAGE_ACCEPTED, queue_id="q", fields={"copies": 2, "place": "spool"}))
    for kind, fields in events:
        made.add(Event(1.0, kind, queue_id="q", fields=fields))
    return made


@pytest.mark.parametrize(
    ("sent", "events", "status"),
    [
        (Sent("q"), [Kind.RECIPIENT_DELIVERED, Kind.RECIPIENT_DELIVERED], 0),
        (Sent("q"), [Kind.RECIPIENT_DELIVERED], 75),
        (Sent("q"), [Kind.RECIPIENT_DELIVERED, Kind.RECIPIENT_DEFERRED], 75),
        (Sent("q"), [Kind.RECIPIENT_DELIVERED, Kind.MESSAGE_HELD], 75),
        (Sent("q"), [Kind.RECIPIENT_DEFERRED, Kind.RECIPIENT_FAILED], 69),
        (Sent("q"), [Kind.RECIPIENT_DELIVERED, Kind.RECIPIENT_ENDED], 69),
        (Sent("q", [550]), [Kind.RECIPIENT_DELIVERED, Kind.RECIPIENT_DELIVERED], 69),
        (Sent("q", [450]), [Kind.RECIPIENT_DELIVERED, Kind.RECIPIENT_DELIVERED], 75),
    ],
)
def test_the_status_says_how_it_ended(sent: Sent, events: list[Kind], status: int) -> None:
    """0 only where everybody has it; a failure weighs more than a delay."""
    named = [(kind, {"recipient": f"u{number}@x"}) for number, kind in enumerate(events)]
    assert _status(sent, story(*named)) == status


def test_the_status_of_what_was_refused() -> None:
    """A refusal for good, for now, and of the login."""
    assert _status(Sent(refused=[550]), None) == 69
    assert _status(Sent(refused=[450]), None) == 75
    assert _status(Sent(refused=[535], login_refused=True), None) == 77
    assert _status(Sent("q"), None) == 0
