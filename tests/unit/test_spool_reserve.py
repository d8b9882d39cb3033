"""The reserve of free space."""

from __future__ import annotations

import errno

from twisted.internet.task import Clock

from mta.disk.port import Free
from mta.observe.event import Event, Kind, Level
from mta.observe.journal import Journal
from mta.spool.reserve import LOOK_AGAIN, Reserve
from tests.doubles.disk import FaultyDisk, SimulatedDisk


class Volume:
    """A reserve of 1000 octets and 10 inodes on a volume whose free space is set."""

    def __init__(self) -> None:
        self.simulated = SimulatedDisk(["/spool"])
        self.disk = FaultyDisk(self.simulated)
        self.clock = Clock()
        self.events: list[Event] = []
        journal = Journal(lambda: 0.0, [self.events.append])
        self.reserve = Reserve(self.disk, "/spool", 1000, 10, self.clock.seconds, journal)

    def has(self, octets: int, inodes: int) -> None:
        """Set what is free and let the last answer grow old."""
        self.simulated.free_space = Free(octets, inodes)
        self.clock.advance(LOOK_AGAIN)


def test_room_is_no_reason() -> None:
    """With exactly the reserve free, mail is taken."""
    volume = Volume()
    volume.has(1000, 10)
    assert volume.reserve.low() is None
    assert volume.events == []


def test_few_octets_or_inodes_are_a_reason() -> None:
    """One octet or one inode less than the reserve is a reason that names both numbers and the place."""
    volume = Volume()
    volume.has(999, 10)
    reason = volume.reserve.low()
    assert reason is not None
    assert str(reason) == "999 octets are free, 1000 are kept in reserve [/spool]"
    volume.has(1000, 9)
    reason = volume.reserve.low()
    assert reason is not None
    assert str(reason) == "9 inodes are free, 10 are kept in reserve [/spool]"


def test_a_message_must_fit_beside_the_reserve() -> None:
    """What is asked for must be free beside the reserve; that one message is too large is no event."""
    volume = Volume()
    volume.has(1500, 10)
    assert volume.reserve.low(500) is None
    reason = volume.reserve.low(501)
    assert reason is not None
    assert str(reason) == "501 octets are too many for the 500 beside the reserve [/spool]"
    assert volume.reserve.low() is None
    assert volume.events == []


def test_what_comes_and_what_was_written_since_the_last_look_count() -> None:
    """Octets in memory count until they are written, octets written until the disk is asked again."""
    volume = Volume()
    volume.has(1500, 10)
    assert volume.reserve.low(500) is None
    volume.reserve.hold(300)
    volume.reserve.wrote(200)
    assert volume.reserve.low() is None
    assert volume.reserve.low(1) is not None
    volume.reserve.hold(1)
    assert volume.reserve.low() is not None
    volume.reserve.hold(-1)
    volume.has(1300, 10)
    assert volume.reserve.low() is None
    assert volume.reserve.low(1) is not None
    volume.reserve.hold(-300)
    assert volume.reserve.low(300) is None


def test_the_disk_is_asked_once_in_a_while() -> None:
    """Within `LOOK_AGAIN` seconds the answer is remembered, and then it is asked anew."""
    volume = Volume()
    assert volume.reserve.low() is None
    volume.simulated.free_space = Free(0, 0)
    assert volume.reserve.low() is None
    assert volume.disk.calls["free"] == 1
    volume.clock.advance(LOOK_AGAIN)
    assert volume.reserve.low() is not None
    assert volume.disk.calls["free"] == 2


def test_the_change_is_an_event() -> None:
    """Getting low is one alert, and getting better one notice, however often it was asked."""
    volume = Volume()
    for octets in (0, 0, 10, 5000, 5000):
        volume.has(octets, 100)
        volume.reserve.low()
    assert [(event.kind, event.level) for event in volume.events] == [
        (Kind.DISK_LOW, Level.ALERT),
        (Kind.DISK_RECOVERED, Level.NOTICE),
    ]
    assert volume.events[0].fields == {"path": "/spool", "octets": 0, "inodes": 100}


def test_a_disk_that_does_not_answer_is_low() -> None:
    """In doubt no mail is taken: where the free space cannot be told, that is the reason."""
    volume = Volume()
    volume.disk.fail["free"] = OSError(errno.EIO, "Input/output error")
    reason = volume.reserve.low()
    assert reason is not None
    assert "Input/output error" in reason.text
    assert [event.kind for event in volume.events] == [Kind.DISK_LOW]
