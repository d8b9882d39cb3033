"""The options of sendmail(1), in all the forms in which programs write them."""

from __future__ import annotations

import pytest

from mta.sendmail.exits import EX_UNAVAILABLE, EX_USAGE, Ended
from mta.sendmail.options import Options, read_options


@pytest.mark.parametrize(
    ("line", "options"),
    [
        ("root", Options(recipients=("root",))),
        ("-t -i", Options(from_header=True, dot_is_data=True)),
        ("-it", Options(from_header=True, dot_is_data=True)),
        ("-oi root", Options(recipients=("root",), dot_is_data=True)),
        ("-oem -odb root", Options(recipients=("root",))),
        ("-fbob@example.org root", Options(recipients=("root",), sender="bob@example.org")),
        ("-f bob@example.org root", Options(recipients=("root",), sender="bob@example.org")),
        ("-tfbob@example.org", Options(from_header=True, sender="bob@example.org")),
        ("-r bob root", Options(recipients=("root",), sender="bob")),
        ("-i -FCronDaemon -B8BITMIME -oem root", Options("send", ("root",), False, True, None, "CronDaemon", True)),
        ("root -t", Options(recipients=("root",), from_header=True)),
        ("-t -- -x", Options(recipients=("-x",), from_header=True)),
        ("-N never -R hdrs -V id1 -O DeliveryMode=b -h 5 -G -U root", Options(recipients=("root",))),
        ("-bm root", Options(recipients=("root",))),
        ("-bs", Options(role="smtp")),
        ("-bp", Options(role="queue")),
        ("-bi", Options(role="aliases")),
        ("-I", Options(role="aliases")),
        ("-q", Options(role="retry")),
        ("-qRexample.net", Options(role="retry", filters=("R", "example.net"))),
        ("-v -C /etc/mta root", Options(recipients=("root",), verbose=True, config="/etc/mta")),
    ],
)
def test_what_is_written_is_understood(line: str, options: Options) -> None:
    """Each form is read as sendmail reads it."""
    assert read_options("sendmail", line.split()) == options


@pytest.mark.parametrize(("name", "role"), [("mailq", "queue"), ("newaliases", "aliases"), ("mta-mailq", "queue")])
def test_the_name_of_the_program_decides(name: str, role: str) -> None:
    """A link called mailq or newaliases does what its name says."""
    assert read_options(name, []).role == role


@pytest.mark.parametrize(
    ("line", "status", "word"),
    [
        ("-Z", EX_USAGE, "no option -Z"),
        ("-f", EX_USAGE, "-f needs a value"),
        ("-bd -q30m", EX_UNAVAILABLE, "systemctl start mta"),
        ("-bv root", EX_USAGE, "-bv"),
        ("-q30m", EX_USAGE, "its own times"),
        ("-s", EX_USAGE, "-bs"),
    ],
)
def test_what_is_not_there_is_refused(line: str, status: int, word: str) -> None:
    """What we do not do ends the command with its status and a word, not silently."""
    with pytest.raises(Ended, match=word) as ended:
        read_options("sendmail", line.split())
    assert ended.value.status == status
