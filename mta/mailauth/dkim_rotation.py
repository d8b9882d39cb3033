"""How one key follows another: next, signing, retired, removed (RFC 6376 §3.1, §6.1.2: selectors are there for this).

Each algorithm of a domain goes its own way. `plan` is pure: it looks at the keys as they are now and nothing else, so
it does not matter who took the last step, when, and whether a crash cut it short.

======================================================  =====================================  =========================
there is                                                step                                   needs
======================================================  =====================================  =========================
a signing key that another signing key replaces         `Retire` it
(a crash came between the two halves of `Sign`)
a next key                                              `Sign` with it, then `Retire` those    every name server shows
                                                        that signed                            the right record
a retired key, `keep_retired` old                       `Remove` its file
a signing key, no next one, no retired one, and         `Make` the next key
somebody asks, or it is `rotate_every` old
======================================================  =====================================  =========================

`Sign` writes the new key's file first: for a moment both sign, and both are in the DNS. One rotation ends before the
next begins. Retired keys are kept for the sake of their records only: by their file `mta dkim show` knows of them.

A signing key behind a symbolic link belongs to whoever made the link: it is not retired, so nothing takes its place. A
file that says nothing of its age counts as old.

The time is that of the wall, since it has to outlive restarts. A clock that leaps forward begins a rotation early or
removes a file early, which hurts nobody: no key signs before it is published, and no record is withdrawn by us.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from mta.disk.port import RunInThread
from mta.mail.reason import Reason
from mta.mailauth.dkim_published import Published, Resolvers, Sight, look
from mta.mailauth.dkim_store import KeyChanged, KeysBusy, KeyStore
from mta.mailauth.keypair import record_text
from mta.observe.event import Kind, Level
from mta.observe.journal import Journal
from mta.settings.dkim import Algorithm, DkimKey, DkimSettings, KeyState, time_text
from mta.settings.problem import SettingsRefused
from mta.settings.units import seconds_text

_STEPS_MAXIMUM = 100
"""Steps of one domain at once. Each brings a key forward, so that this is never reached by keys that a person made."""


@dataclass(frozen=True, slots=True)
class Make:
    """Make the key that follows."""

    algorithm: Algorithm
    reason: Reason


@dataclass(frozen=True, slots=True)
class Sign:
    """Sign with `key` instead of `replaced`, once it is published."""

    key: DkimKey
    replaced: tuple[DkimKey, ...]
    reason: Reason


@dataclass(frozen=True, slots=True)
class Retire:
    """Sign with `key` no more."""

    key: DkimKey
    reason: Reason


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove the file of `key`."""

    key: DkimKey
    reason: Reason


Step = Make | Sign | Retire | Remove


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing is to be done with `key` now, and why; `until` is the wall time at which something will be, if known."""

    key: DkimKey
    reason: Reason
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """What was done for a domain, in order; what is waited for then; what kept it from going on."""

    done: tuple[Step, ...]
    waits: tuple[Wait, ...] = ()
    problem: Exception | None = None


def plan(keys: Sequence[DkimKey], settings: DkimSettings, now: float, begin: bool = False) -> tuple[Step | Wait, ...]:
    """Say what is due for the keys of a domain. `begin`: the next key is made whatever the age of the others."""
    out: list[Step | Wait] = []
    for algorithm in dict.fromkeys(key.algorithm for key in keys):
        out += _plan([key for key in keys if key.algorithm == algorithm], settings, now, begin)
    # a name server that is silent keeps waiting only what needs it
    return tuple(sorted(out, key=lambda step: isinstance(step, Sign)))


def _plan(keys: Sequence[DkimKey], settings: DkimSettings, now: float, begin: bool) -> list[Step | Wait]:
    signing = [key for key in keys if key.state is KeyState.SIGNING]
    coming = sorted((key for key in keys if key.state is KeyState.NEXT), key=lambda key: key.since)
    retired = [key for key in keys if key.state is KeyState.RETIRED]
    out: list[Step | Wait] = []
    for key in list(signing):
        successor = next((other for other in signing if other is not key and key.selector in other.replaces), None)
        if successor is not None and not key.linked:
            signing.remove(key)
            retired.append(key)
            out.append(Retire(key, Reason(f"{successor.selector} signs in its place", successor.source)))
    linked = [key for key in (*signing, *coming) if key.linked]
    for key in linked:
        out.append(Wait(key, Reason("its file is a symbolic link: whoever made it changes it", key.file)))
    if not linked:
        out += (Sign(key, tuple(signing), Reason("it is published", key.name)) for key in coming)
    for key in retired:
        if key.state is KeyState.RETIRED:
            out.append(_removal(key, settings, now))
    if signing and not linked and not coming:
        out += _beginning(signing, bool(retired), settings, now, begin)
    return out


def _removal(key: DkimKey, settings: DkimSettings, now: float) -> Remove | Wait:
    kept, until = seconds_text(settings.keep_retired), key.since + settings.keep_retired
    if key.linked:
        return Wait(key, Reason("retired; its file is a symbolic link: whoever made it removes it", key.file))
    if now >= until:
        return Remove(
            key, Reason(f"retired since {time_text(key.since)}, more than {kept} [dkim] keep_retired", key.source)
        )
    return Wait(key, Reason(f"retired; it is removed after {kept}, [dkim] keep_retired", key.source), until)


def _beginning(
    signing: Sequence[DkimKey], ending: bool, settings: DkimSettings, now: float, begin: bool
) -> list[Step | Wait]:
    """The first step of the next rotation, or when that comes. `ending`: the last one is not over."""
    youngest = max(signing, key=lambda key: key.since)
    every = settings.rotate_every
    due = every > 0 and now >= youngest.since + every
    if ending and (begin or due):
        return [Wait(youngest, Reason("signing; a rotation begins when the last one is over", youngest.source))]
    if not begin and not due:
        if not every:
            return [Wait(youngest, Reason("signing; `mta dkim rotate` makes the next key", youngest.source))]
        reason = Reason(
            f"signing; the next key is made after {seconds_text(every)}, [dkim] rotate_every", youngest.source
        )
        return [Wait(youngest, reason, youngest.since + every)]
    if begin:
        return [Make(youngest.algorithm, Reason("the operator asked for the next key", "mta dkim rotate"))]
    since = f"signing since {time_text(youngest.since)}" if youngest.since else "of unknown age"
    text = f"{youngest.selector} is {since}, more than {seconds_text(every)}"
    return [Make(youngest.algorithm, Reason(text, "[dkim] rotate_every"))]


class Rotation:
    """Takes the steps that are due. `store` blocks and is called through `run`; `wall` is wall time."""

    def __init__(
        self,
        store: KeyStore,
        resolvers: Resolvers,
        run: RunInThread,
        journal: Journal,
        wall: Callable[[], float],
        settings: DkimSettings,
    ) -> None:
        self._store = store
        self._resolvers = resolvers
        self._run = run
        self._journal = journal
        self._wall = wall
        self._settings = settings

    async def rotate(self, directory: str, domain: str, begin: bool = False) -> Turn:
        """Do for one domain what is due. `begin`: unless a rotation is under way, one begins.

        A fault of the disk or of a file ends the turn; what was done by then stands, and the next turn goes on.
        """
        done: list[Step] = []
        try:
            waits = await self._turn(directory, domain, begin, done)
        except (OSError, KeysBusy, KeyChanged, SettingsRefused) as problem:
            reason = Reason(str(problem), directory)
            self._journal.note(Kind.DKIM_ROTATION_FAILED, reason, level=Level.ERROR, domain=domain, file=directory)
            return Turn(tuple(done), problem=problem)
        return Turn(tuple(done), waits)

    async def _turn(self, directory: str, domain: str, begin: bool, done: list[Step]) -> tuple[Wait, ...]:
        await self._run(self._store.settle, directory)
        sights: dict[str, tuple[Sight, ...]] = {}
        waits: list[Wait] = []
        while len(done) < _STEPS_MAXIMUM:
            keys = await self._run(self._store.read, directory, domain)
            # what is taken a step further here was under way: only beside other new keys does one begin
            begins = begin and all(isinstance(step, Make) for step in done)
            waits = []
            for step in plan(keys, self._settings, self._wall(), begins):
                due = step
                if isinstance(step, Sign):
                    if step.key.selector not in sights:
                        sights[step.key.selector] = await look(self._resolvers, step.key)
                    due = _judge(step, sights[step.key.selector])
                if not isinstance(due, Wait):
                    await self._do(due, directory, domain)
                    done.append(due)
                    break
                waits.append(due)
            else:
                break
        for wait in waits:
            if wait.key.state is KeyState.NEXT:
                self._note(Kind.DKIM_KEY_WAITS, wait.key, wait.reason, record=record_text(wait.key.pem))
        return tuple(waits)

    async def _do(self, step: Step, directory: str, domain: str) -> None:
        now = self._wall()
        match step:
            case Make():
                made = await self._run(self._store.make, directory, domain, step.algorithm, KeyState.NEXT, now)
                self._note(Kind.DKIM_KEY_MADE, made, step.reason, record=record_text(made.pem))
            case Sign():
                replaces = tuple(key.selector for key in step.replaced)
                signs = await self._run(self._store.change, step.key, KeyState.SIGNING, now, replaces)
                self._note(Kind.DKIM_KEY_SIGNS, signs, step.reason, replaces=" ".join(replaces))
            case Retire():
                retired = await self._run(self._store.change, step.key, KeyState.RETIRED, now)
                until = time_text(now + self._settings.keep_retired)
                self._note(Kind.DKIM_KEY_RETIRED, retired, step.reason, until=until)
            case Remove():
                await self._run(self._store.remove, step.key)
                self._note(Kind.DKIM_KEY_REMOVED, step.key, step.reason)

    def _note(self, kind: Kind, key: DkimKey, reason: Reason, **fields: str) -> None:
        self._journal.note(
            kind,
            reason,
            level=Level.INFO if kind is Kind.DKIM_KEY_WAITS else Level.NOTICE,
            domain=key.domain,
            selector=key.selector,
            name=key.name,
            file=key.file,
            **fields,
        )


def _judge(step: Sign, sights: Sequence[Sight]) -> Sign | Wait:
    """Let a key sign that every name server shows; say what is missing otherwise."""
    wrong = [sight.reason for sight in sights if sight.published is not Published.RIGHT]
    if not sights:
        return Wait(step.key, Reason("no name server was asked for its record", "[dns] nameservers"))
    if wrong:
        return Wait(
            step.key, Reason("; ".join(dict.fromkeys(r.text for r in wrong)), ", ".join(r.source for r in wrong))
        )
    text = f"published: {sights[0].reason.text}"
    return replace(step, reason=Reason(text, ", ".join(sight.reason.source for sight in sights)))


class Rotates(Protocol):
    """`Rotation`, as `rotate_due` sees it."""

    async def rotate(self, directory: str, domain: str) -> Turn:
        """Do for one domain what is due."""
        ...


async def rotate_due(rotation: Rotates, directories: Mapping[str, str]) -> tuple[Step, ...]:
    """Do what is due for each domain, given with its directory of keys; gives what was done.

    What goes wrong with one domain is an event, and the others get their turn.
    """
    done: list[Step] = []
    for domain, directory in directories.items():
        done += (await rotation.rotate(directory, domain)).done
    return tuple(done)
