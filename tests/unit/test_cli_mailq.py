"""mailq, `sendmail -q` and newaliases: what is asked of the daemon, and what is printed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from mta.cli import mailq
from mta.sendmail.options import Options
from tests.doubles.etc import MINIMAL, write_etc


def message(number: int, *recipients: tuple[str, str, str], sender: str = "alice@example.org") -> dict[str, Any]:
    """A message as queue-list tells it: recipients with state and reason."""
    return {
        "queue_id": f"1m89p4xsq00r5nzxn{number}",
        "accepted": 1_795_621_552.0,
        "size": 1500,
        "sender": sender,
        "recipients": [{"mailbox": name, "state": state, "reason": reason} for name, state, reason in recipients],
    }


class Daemon:
    """Answers with pages, and remembers what it was asked."""

    def __init__(self, *pages: dict[str, Any]) -> None:
        self.pages = list(pages)
        self.asked: list[dict[str, Any]] = []

    def __call__(self, config: Path, command: str, **arguments: Any) -> dict[str, Any]:
        """Answer as `ask_daemon` does."""
        self.asked.append({"command": command, **arguments})
        return self.pages.pop(0)


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Print local times of one zone."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def carried_out(monkeypatch: pytest.MonkeyPatch, daemon: Daemon, options: Options) -> int:
    """Carry out options with a daemon."""
    monkeypatch.setattr(mailq, "_ask", daemon)
    return mailq.carry_out(options, "/none/mta.toml")


def test_the_queue_is_printed_as_postfix_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Head, marks, one line for each message, reasons above their recipients, and the sum; over several pages."""
    first = message(1, ("b@x.example", "waiting", "refused"), ("c@x.example", "waiting", "refused"))
    second = message(2, ("d@x.example", "active", ""), ("e@x.example", "waiting", "why " * 30))
    third = message(3, ("f@x.example", "held", ""), sender="")
    daemon = Daemon({"messages": [second, first], "ends": [second["queue_id"]]}, {"messages": [third], "ends": []})
    assert carried_out(monkeypatch, daemon, Options(role="queue")) == 0
    assert [asked["after"] for asked in daemon.asked] == ["", second["queue_id"]]
    assert capsys.readouterr().out.splitlines() == [
        "-Queue ID-          --Size-- ----Arrival Time--- -Sender/Recipient-------",
        "1m89p4xsq00r5nzxn1      1500 Wed Nov 25 15:45:52 alice@example.org",
        "                                                                   (refused)",
        "                                                 b@x.example",
        "                                                 c@x.example",
        "",
        "1m89p4xsq00r5nzxn2*     1500 Wed Nov 25 15:45:52 alice@example.org",
        "                                                 d@x.example",
        f"({'why ' * 30})",
        "                                                 e@x.example",
        "",
        "1m89p4xsq00r5nzxn3!     1500 Wed Nov 25 15:45:52 MAILER-DAEMON",
        "                                                 f@x.example",
        "",
        "-- 4 Kbytes in 3 Requests.",
    ]


def test_an_empty_queue_is_said_to_be_empty(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the words that programs look for."""
    carried_out(monkeypatch, Daemon({"messages": [], "ends": []}), Options(role="queue"))
    assert capsys.readouterr().out == "Mail queue is empty\n"


@pytest.mark.parametrize(
    ("filters", "asked"),
    [
        ((), {}),
        (("I", "1m89"), {"queue_ids": ["1m89"]}),
        (("R", "x.example"), {"recipient": "*x.example*"}),
        (("S", "alice"), {"sender": "*alice*"}),
    ],
)
def test_a_retry_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, filters: tuple[str, ...], asked: dict[str, object]
) -> None:
    """-q has everything tried now, with a filter what it picks, to the last page."""
    daemon = Daemon({"ends": ["1m90"]}, {"ends": []})
    assert carried_out(monkeypatch, daemon, Options(role="retry", filters=filters)) == 0
    common = {"command": "queue-act", "act": "retry", "operator": "sendmail -q"}
    assert daemon.asked == [{**common, "after": "", **asked}, {**common, "after": "1m90", **asked}]


def test_aliases_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The numbers are those of sendmail; that no server runs is told, and no fault: it reads them when it starts."""
    (tmp_path / "aliases").write_text("root: bob\nops: bob,\n  alice@example.org\n")
    config = write_etc(tmp_path, f'state = "{tmp_path}"\n{MINIMAL}[local]\naliases = "aliases"\n')
    assert mailq.carry_out(Options(role="aliases"), config) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{tmp_path}/aliases: 2 aliases, longest 22 bytes, 25 bytes total\n"
    assert "not running" in shown.err


@pytest.mark.parametrize(
    ("local", "aliases", "status", "word"),
    [("aliases = 'aliases'", "root: |x\n", 65, "aliases:1: "), ("socket = 's'", "", 78, "[local] aliases is not set")],
)
def test_aliases_with_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], local: str, aliases: str, status: int, word: str
) -> None:
    """A fault in the file, or no file at all, ends with a word and its status."""
    (tmp_path / "aliases").write_text(aliases)
    config = write_etc(tmp_path, f"{MINIMAL}[local]\n{local}\n")
    with pytest.raises(SystemExit) as ended:
        mailq.carry_out(Options(role="aliases"), config)
    assert ended.value.code == status
    assert word in capsys.readouterr().err


def test_what_came_from_outside_moves_no_cursor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Escapes, line ends and turned directions in addresses and reasons are printed as the log writes them."""
    bad = "\x1b[2J\u202e\x9b\nx"
    daemon = Daemon({"messages": [message(1, (bad, "waiting", bad), sender=bad)], "ends": []})
    assert carried_out(monkeypatch, daemon, Options(role="queue")) == 0
    printed = capsys.readouterr().out
    assert all(line.isprintable() for line in printed.splitlines())
    assert printed.count("[2J") == 3
    assert len(printed.splitlines()) == 6
