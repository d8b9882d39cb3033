"""mta top"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from mta.cli import main, top
from mta.cli.top_view import Difference, Frame, draw
from mta.observe import metric
from mta.observe.tally import Tally

WALL = 1_700_000_000.0


class Server:
    """Numbers of a server, and what else it answers."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.more: dict[str, Any] = {"hostname": "mx.example.test", "destinations": {}, "recent": []}
        self.now: dict[Any, float] = {
            (metric.SESSIONS_OPEN, ("mx",)): 12,
            (metric.SESSIONS_OPEN, ("smtpd",)): 3,
            (metric.WORKER_STARTED, ("0",)): WALL - 11520,
            (metric.WORKERS_WANTED, ()): 2,
            (metric.WORKERS_ANSWERING, ()): 2,
            (metric.DISK_FREE, ("state",)): 50 * 2**30,
            (metric.DISK_RESERVE, ()): 2**20,
        }

    def frame(self, at: float) -> Frame:
        """Answer."""
        return Frame({**self.more, "workers": {"0": self.tally.samples(self.now)}}, at, WALL + at)


def drawn(before: Frame, after: Frame, height: int = 24, width: int = 80, problem: str = "") -> list[str]:
    """The lines of a screen."""
    console = Console(file=io.StringIO(), width=width, no_color=True, highlight=False)
    with console.capture() as captured:
        console.print(draw(before, after, height, width, problem))
    return [line.rstrip() for line in captured.get().splitlines()]


def line(lines: list[str], beginning: str) -> str:
    """The one line that begins so."""
    (found,) = [each for each in lines if each.startswith(beginning)]
    return found


def test_rates_are_what_happened_in_between() -> None:
    """A rate is the difference of two counts by the time between; totals go on from the start."""
    server = Server()
    server.tally.add(metric.MESSAGES_ACCEPTED, "mx", "maildir", amount=1000)
    before = server.frame(10.0)
    server.tally.add(metric.MESSAGES_ACCEPTED, "mx", "spool", amount=5)
    server.tally.add(metric.MESSAGES_ACCEPTED, "smtpd", "spool", amount=2)
    server.tally.add(metric.LOGINS, "PLAIN", "refused", amount=4)
    lines = drawn(before, server.frame(12.0))
    assert "up 3 h 12 min, 2 workers" in lines[0]
    assert line(lines, "sessions").startswith("sessions  mx 12   smtpd 3 open")
    assert line(lines, "accepted") == "accepted  mx 2.5/s   smtpd 1.0/s   1,007 since the start"
    assert "logins 2.0/s" in line(lines, "refused")


def test_a_mean_is_that_of_the_interval() -> None:
    """How long syncs take is told of those that came meanwhile, and nothing where none came."""
    server = Server()
    server.tally.observe(metric.SYNC_SECONDS, 9.0, "spool")
    before = server.frame(0.0)
    for seconds in (0.002, 0.004):
        server.tally.observe(metric.SYNC_SECONDS, seconds, "spool")
        server.tally.observe(metric.BATCH, 8, "spool")
    lines = drawn(before, server.frame(1.0))
    assert line(lines, "syncs") == "syncs     spool 3.0 ms, batch 8.0   maildir –   50.0 GiB free"


def test_a_server_that_began_anew_has_no_negative_rates() -> None:
    """After a restart counts are smaller: that is no rate."""
    old, new = Server(), Server()
    old.tally.add(metric.REPORTS, amount=50)
    assert Difference(old.frame(0.0), new.frame(1.0)).rate(metric.REPORTS) == 0


def test_destinations_of_all_workers_are_one_list() -> None:
    """Recipients are added, the next attempt is the first one, the reason that of the largest part."""
    server = Server()

    def one(recipients: int, next: float | None, reason: str) -> dict[str, Any]:
        return {"recipients": recipients, "states": {}, "next": next, "reason": reason}

    server.more["destinations"] = {
        "0": {"a.test": one(5, WALL + 300, "no answer"), "b.test": one(9, None, "")},
        "1": {"a.test": one(7, WALL + 60, "450 [bold]later[/bold]\x1b[2J"), "local:": one(1, WALL - 5, "full")},
    }
    lines = drawn(server.frame(0.0), server.frame(0.0), width=100)
    table = lines[lines.index(line(lines, "destination")) + 1 :]
    assert table[0].split()[:2] == ["a.test", "12"]
    assert "1 min  450 [bold]later[/bold]" in table[0]
    assert "\x1b" not in table[0]
    assert table[1].split() == ["b.test", "9"]
    assert table[2].startswith("mailboxes here")
    assert "now  full" in table[2]


def test_the_last_events_come_first_and_are_harmless() -> None:
    """Events of all workers are in the order of time; what a peer wrote moves no cursor."""
    server = Server()
    events = [
        {
            "time": WALL + number,
            "kind": "login.refused",
            "level": "notice",
            "about": f"u{number}",
            "reason": "\x1b[2Jno",
        }
        for number in (1, 3, 2)
    ]
    server.more["recent"] = events
    lines = drawn(server.frame(0.0), server.frame(0.0))
    shown = lines[lines.index("last events worth a look") + 1 :]
    assert [each.split()[2] for each in shown] == ["u3:", "u2:", "u1:"]
    assert "\x1b" not in "".join(shown)


@pytest.mark.parametrize(("height", "destinations", "events"), [(24, 3, 30), (24, 30, 3), (24, 30, 30), (40, 99, 99)])
def test_a_screen_is_as_high_as_the_terminal_at_most(height: int, destinations: int, events: int) -> None:
    """However much there is to show, it fits, in height and in width; and there is something of both."""
    server = Server()
    server.now[metric.TROUBLES, ("disk.low",)] = 1
    each = {"recipients": 1, "states": {}, "next": WALL + 99, "reason": "x" * 200}
    server.more["destinations"] = {"0": {f"{'d' * 60}{number}.test": each for number in range(destinations)}}
    event = {"time": WALL, "kind": "fault", "level": "error", "about": "y" * 200, "reason": "z" * 200}
    server.more["recent"] = [event] * events
    lines = drawn(server.frame(0.0), server.frame(1.0), height, problem="gone")
    assert height - 1 <= len(lines) <= height
    assert max(map(len, lines)) <= 80
    assert sum(each.startswith("dddd") for each in lines) >= 3
    assert sum("fault" in each for each in lines) >= 3


def test_trouble_stands_on_top() -> None:
    """A spool that is suspect, and a daemon that does not answer, cannot be overlooked."""
    server = Server()
    server.now[metric.TROUBLES, ("spool.suspect",)] = 2
    server.now[metric.WORKERS_ANSWERING, ()] = 1
    lines = drawn(server.frame(0.0), server.frame(1.0), problem="connection refused")
    assert "1 of 2 workers" in lines[0]
    assert lines[1] == "no answer, asking again: connection refused"
    assert lines[2] == "TROUBLE  spool.suspect in 2 places, see the log"


def test_once_prints_one_plain_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody looks there are no colours, no keys and no end of frames."""
    server, asked, slept = Server(), [], []

    def ask_daemon(config: Path, command: str) -> dict[str, Any]:
        asked.append(command)
        return dict(server.frame(0.0).answer)

    monkeypatch.setattr(top, "ask_daemon", ask_daemon)
    monkeypatch.setattr(top, "state_directory", lambda config: "/state")
    monkeypatch.setattr(top.time, "sleep", slept.append)
    done = CliRunner().invoke(main, ["top", "--interval", "7"])
    assert done.exit_code == 0, done.output
    assert (asked, slept) == (["top", "top"], [7.0])
    assert done.output.startswith("mta top  mx.example.test")
    assert "\x1b" not in done.output
    assert "The queue is empty." in done.output


def test_a_daemon_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    """The status is EX_UNAVAILABLE."""
    (tmp_path / "mta.toml").write_text(f'hostname = "mx.example.test"\nstate = "{tmp_path}"\n')
    done = CliRunner().invoke(main, ["top", "--config", f"{tmp_path}/mta.toml"])
    assert done.exit_code == 69
    assert done.output.startswith("mta: no daemon answers at ")
