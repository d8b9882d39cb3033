"""How much one login has sent today: messages, and recipients that it had not written to before.

This bounds what a stolen password can do before somebody looks. The numbers stand in ``[smtpd.caps]`` and in the
``domain.toml`` of the login's domain (`mta.settings.caps`). A day is the 24 hours from its first message on.

==================  ==============================================  ==================================================
memory              key                                             what is kept
==================  ==============================================  ==================================================
``caps``            what is counted, login                          when its day began and ends, and the count
``correspondents``  login, recipient                                that it was written to, until it is forgotten
==================  ==============================================  ==================================================

Both are of `mta.policy.memory`: they survive a restart, and a crash loses the last seconds. They are two, so that a
crowd of recipients pushes out no count. While what is known of recipients cannot be read, none is taken for new.

Several workers count on one table of the board (`mta.board`), exactly; the memory keeps what it says for the next
start. That a recipient was written to they tell each other (`mta.policy.memory`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from twisted.internet.interfaces import IReactorTime

from mta.board.alone import Draft
from mta.board.port import Table
from mta.disk.port import RunInThread
from mta.mail.reason import Reason
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.policy.memory import Memory, Seen, Spread, key_of, to_nobody
from mta.settings.caps import CapsSettings, UserCaps
from mta.settings.values import fold_domain, fold_local_part
from mta.smtp.address import Mailbox

DAY = 86400.0
NEAR = 0.8
"""The share of a cap from which on the log speaks of it."""

_ALL = "[smtpd.caps]"
_OWN = "[caps] in domain.toml"


class Remembering(Protocol):
    """What is known by key; see `mta.policy.memory.Memory`."""

    @property
    def sound(self) -> bool:
        """Whether what is not known is new."""
        ...

    def get(self, key: bytes) -> Seen | None:
        """Recall a key."""
        ...

    def put(self, key: bytes, seen: Seen) -> None:
        """Remember a key."""
        ...


@dataclass(frozen=True, slots=True)
class Over:
    """A cap is reached: the words for the peer, and why."""

    text: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class _Cap:
    """What is counted, how many there may be (0: any number), and who says so."""

    what: str
    most: int
    source: str


class Caps:
    """Counts by login. `settings` is asked each time, so that a reload counts."""

    TABLES: Mapping[str, int] = {"caps": 3}
    """The table it asks the board for: when the day began and ends, and the count."""

    def __init__(
        self,
        settings: Callable[[], CapsSettings],
        counts: Remembering,
        correspondents: Remembering,
        clock: IReactorTime,
        journal: Journal,
        table: Table,
    ) -> None:
        self._settings = settings
        self._counts = counts
        self._correspondents = correspondents
        self._clock = clock
        self._journal = journal
        self._table = table

    def copy(self) -> Caps:
        """Make one that begins with what is known here, and changes nothing here; it tells nobody."""
        mute = Journal(self._journal.wall, [])
        return Caps(
            self._settings, _Draft(self._counts), _Draft(self._correspondents), self._clock, mute, Draft(self._table)
        )

    def message(self, login: str, own: UserCaps) -> Over | None:
        """Say whether `login` has no message left; `own` is what its domain says of it. Counts nothing."""
        return self._over(login, self._messages(own))

    def sent(self, login: str, own: UserCaps) -> None:
        """Count a message."""
        self._count(login, self._messages(own))

    def recipient(self, login: str, own: UserCaps, mailbox: Mailbox) -> Over | None:
        """Count a recipient elsewhere where `login` has not written to it; say so where none of these is left."""
        cap, now, remember = self._recipients(own), self._clock.seconds(), self._settings().remember
        if not cap.most or not self._correspondents.sound:
            return None
        key = key_of(login, fold_local_part(mailbox.local_part), fold_domain(mailbox.domain))
        known = self._correspondents.get(key)
        if known is None:
            over = self._over(login, cap)
            if over is not None:
                return over
            self._count(login, cap)
        if known is None or known.expires < now + remember - DAY:  # once a day is often enough
            self._correspondents.put(key, Seen(known.since if known else now, now + remember, 1))
        return None

    def _messages(self, own: UserCaps) -> _Cap:
        if own.messages is not None:
            return _Cap("messages", own.messages, _OWN)
        return _Cap("messages", self._settings().messages, _ALL)

    def _recipients(self, own: UserCaps) -> _Cap:
        if own.first_time_recipients is not None:
            return _Cap("first-time recipients", own.first_time_recipients, _OWN)
        return _Cap("first-time recipients", self._settings().first_time_recipients, _ALL)

    def _over(self, login: str, cap: _Cap) -> Over | None:
        seen = self._known(cap, login) if cap.most else None
        if seen is None or seen.passes < cap.most:
            return None
        text = f"{cap.most} {cap.what} are the most for a day; more after {self._when(seen.expires)}"
        return Over(text, Reason(f"{login}: {text}", cap.source))

    def _count(self, login: str, cap: _Cap) -> None:
        if not cap.most:
            return
        now = self._clock.seconds()
        with self._table.hold():
            seen = self._known(cap, login) or Seen(now, now + DAY)
            count = seen.passes + 1
            self._table.put(f"{cap.what} {login}", (seen.since, seen.expires, count))
        self._counts.put(key_of(cap.what, login), Seen(seen.since, seen.expires, count))
        if count not in (cap.most, math.ceil(cap.most * NEAR)):
            return
        until = self._when(seen.expires)
        self._journal.note(
            Kind.CAP_REACHED if count == cap.most else Kind.CAP_NEAR,
            Reason(f"{login} has used {count} of {cap.most} {cap.what} of its day, which ends {until}", cap.source),
            level=Level.WARNING if count == cap.most else Level.NOTICE,
            login=login,
            what=cap.what,
            count=count,
            cap=cap.most,
            until=until,
        )

    def _known(self, cap: _Cap, login: str) -> Seen | None:
        """What was counted today: as the board has it, or as it was kept from before the start, whichever is more."""
        kept = self._counts.get(key_of(cap.what, login))
        since, expires, count = self._table.get(f"{cap.what} {login}") or (0.0, 0.0, 0.0)
        if expires <= self._clock.seconds() or (kept is not None and kept.passes > count):
            return kept
        return Seen(since, expires, int(count))

    def _when(self, monotonic: float) -> str:
        """A time for people; the next whole minute, so that nobody comes too early."""
        wall = self._journal.wall() + monotonic - self._clock.seconds()
        return datetime.fromtimestamp(math.ceil(wall / 60) * 60, UTC).strftime("%Y-%m-%d %H:%M UTC")


class CapsMemory:
    """The two memories of one worker, in files below `directory`."""

    def __init__(
        self,
        directory: str,
        worker: int,
        clock: IReactorTime,
        run: RunInThread,
        journal: Journal,
        spread: Spread = to_nobody,
    ) -> None:
        def memory(name: str) -> Memory:
            path = f"{directory}/{name}-{worker}.sqlite"
            return Memory(path, clock, journal.wall, run, journal, spread=spread)

        self.counts, self.correspondents = memory("caps"), memory("correspondents")

    def start(self) -> None:
        """Read the files."""
        self.counts.start()
        self.correspondents.start()

    async def stop(self) -> None:
        """Write what waits and close the files."""
        await self.counts.stop()
        await self.correspondents.stop()


class _Draft:
    """A memory, and over it what is not to be remembered for good."""

    def __init__(self, memory: Remembering) -> None:
        self._memory = memory
        self._own: dict[bytes, Seen] = {}

    @property
    def sound(self) -> bool:
        return self._memory.sound

    def get(self, key: bytes) -> Seen | None:
        return self._own.get(key) or self._memory.get(key)

    def put(self, key: bytes, seen: Seen) -> None:
        self._own[key] = seen
