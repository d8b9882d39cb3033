"""How one key follows another: each step when it is due, and never a signature that nobody can verify."""

from __future__ import annotations

import contextlib
import errno
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from twisted.internet import defer

from mta.dns.answer import Failure, Found, NoData, NoSuchName, RecordType
from mta.mailauth.dkim_published import Published, judge
from mta.mailauth.dkim_rotation import Make, Remove, Retire, Rotation, Sign, Step, Turn, Wait, plan, rotate_due
from mta.mailauth.dkim_store import Access, KeysBusy, KeyStore
from mta.mailauth.keypair import record_text
from mta.observe.event import Kind
from mta.settings.dkim import DkimKey, DkimSettings, KeyState, parse_key, read_keys, time_text
from mta.settings.problem import Problem
from tests.doubles.disk import FaultyDisk, SimulatedDisk, fault
from tests.doubles.dkim_keys import DiskFiles, ed25519_pem, generate, rsa_pem
from tests.doubles.dns import Zone, ZoneResolver
from tests.doubles.journal import RecordingJournal
from tests.doubles.sync import inline, result

DOMAIN = "example.org"
DIRECTORY = "/etc/dkim"
DAY = 86400.0
NOON = 1795694400.0
EVERY = DkimSettings(rotate_every=180 * DAY)


@contextlib.contextmanager
def unlocked(path: str) -> Iterator[None]:
    """Lock nothing: the disk is in memory."""
    yield


@dataclass
class World:
    """A disk, two name servers that show the same zone, a clock, and a rotation over them."""

    disk: SimulatedDisk = field(default_factory=lambda: SimulatedDisk([DIRECTORY]))
    zones: tuple[Zone, Zone] = field(default_factory=lambda: (Zone(), Zone()))
    settings: DkimSettings = EVERY
    now: float = NOON
    journal: RecordingJournal = field(default_factory=RecordingJournal)

    def __post_init__(self) -> None:
        self.resolvers = {f"ns{number}": ZoneResolver(zone) for number, zone in enumerate(self.zones, 1)}
        self.use(FaultyDisk(self.disk))

    def use(self, disk: FaultyDisk) -> None:
        """Put the rotation on a disk in front of the simulated one."""
        access = Access(-1, -1, 0o600)
        files = DiskFiles(self.disk)
        self.store = KeyStore(disk, files, generate, random.Random(1), unlocked, lambda path: access)
        self.rotation = Rotation(self.store, self.resolvers, inline, self.journal, lambda: self.now, self.settings)

    def turn(self, begin: bool = False) -> Turn:
        """Let the rotation do what is due."""
        return result(defer.ensureDeferred(self.rotation.rotate(DIRECTORY, DOMAIN, begin)))

    def steps(self, begin: bool = False) -> list[type[Step]]:
        """The kinds of what is done in a turn."""
        return [type(step) for step in self.turn(begin).done]

    def read(self) -> tuple[DkimKey, ...]:
        """The keys as they are on disk."""
        return self.store.read(DIRECTORY, DOMAIN)

    def states(self) -> dict[str, KeyState]:
        """The state of each key."""
        return {key.selector: key.state for key in self.read()}

    def add(self, selector: str, head: str = "", rsa: bool = False) -> None:
        """Put a key there as an administrator does, published."""
        octets = head.encode() + (rsa_pem() if rsa else ed25519_pem(len(selector)))
        file = self.disk.write_new(f"{DIRECTORY}/{selector}.pem", [octets])
        file.sync()
        file.close()
        self.disk.sync_directory(DIRECTORY)
        self.publish(selector)

    def publish(self, *selectors: str, servers: tuple[int, ...] = (0, 1)) -> None:
        """Show the records of keys, all of them where none is named."""
        for key in self.read():
            if key.selector in selectors or not selectors:
                for number in servers:
                    self.zones[number].names.pop(key.name, None)
                    self.zones[number].add(key.name, "TXT", f'"{record_text(key.pem)}"')


# A whole life


def test_a_rotation_from_the_first_key_to_the_end_of_the_old_one() -> None:
    """next, published, signing, retired, removed: each step at its time, and nothing between."""
    world = World()
    world.add("first", f"signing: {time_text(NOON)}\n")
    assert world.steps() == []
    world.now += 180 * DAY - 1
    assert world.steps() == []
    world.now += 1
    assert world.steps() == [Make]
    new = next(key for key in world.read() if key.selector != "first")
    assert (new.selector, new.state, new.since) == ("2027-05-ed", KeyState.NEXT, world.now)
    world.now += DAY
    assert world.steps() == []
    world.publish()
    assert world.steps() == [Sign, Retire]
    assert world.states() == {"first": KeyState.RETIRED, "2027-05-ed": KeyState.SIGNING}
    world.now += 7 * DAY - 1
    assert world.steps() == []
    world.now += 1
    assert world.steps() == [Remove]
    assert world.states() == {"2027-05-ed": KeyState.SIGNING}
    assert world.steps() == []
    assert world.journal.kinds() == [
        Kind.DKIM_KEY_MADE,
        Kind.DKIM_KEY_WAITS,
        Kind.DKIM_KEY_WAITS,
        Kind.DKIM_KEY_SIGNS,
        Kind.DKIM_KEY_RETIRED,
        Kind.DKIM_KEY_REMOVED,
    ]
    assert all(event.reason and event.reason.text and event.reason.source for event in world.journal.events)
    made, waits, _, signs, retired, removed = world.journal.events
    assert made.fields["record"] == waits.fields["record"] == record_text(new.pem)
    assert made.fields["name"] == "2027-05-ed._domainkey.example.org"
    assert str(signs.reason) == ("published: the record at 2027-05-ed._domainkey.example.org is right [ns1, ns2]")
    assert signs.fields["replaces"] == "first"
    assert retired.fields["until"] == time_text(retired.time + NOON + 188 * DAY)
    assert removed.fields["selector"] == "first"


def test_the_first_key_of_a_domain_signs_once_it_is_published() -> None:
    """A key that replaces nothing waits for the DNS like any other; asked for, no rotation follows in that turn."""
    world = World()
    world.store.make(DIRECTORY, DOMAIN, "ed25519", KeyState.NEXT, NOON, "a")
    assert world.steps(begin=True) == []
    world.publish()
    assert world.steps(begin=True) == [Sign]
    assert world.states() == {"a": KeyState.SIGNING}
    assert world.read()[0].replaces == ()


def test_algorithms_rotate_each_for_itself() -> None:
    """RSA and Ed25519 begin together; one whose record is published does not wait for the other."""
    world = World(settings=DkimSettings())
    world.add("a-rsa", rsa=True)
    world.add("b-ed")
    assert world.steps(begin=True) == [Make, Make]
    world.publish("2026-11-ed")
    assert world.steps() == [Sign, Retire]
    assert world.states() == {
        "2026-11-ed": KeyState.SIGNING,
        "2026-11-rsa": KeyState.NEXT,
        "a-rsa": KeyState.SIGNING,
        "b-ed": KeyState.RETIRED,
    }


def test_one_rotation_ends_before_the_next_begins() -> None:
    """While a next or a retired key is there, nothing begins, whoever asks; afterwards it does."""
    world = World()
    world.add("old")
    assert world.steps(begin=True) == [Make]
    assert world.steps(begin=True) == []
    world.publish()
    assert world.steps(begin=True) == [Sign, Retire]
    assert world.steps(begin=True) == []
    world.now += 7 * DAY
    assert world.steps(begin=True) == [Remove]
    assert world.steps(begin=True) == [Make]


def test_off_by_default() -> None:
    """Without rotate_every a key of any age stays; what an operator began is still brought to its end."""
    world = World(settings=DkimSettings())
    world.add("old", "signing: 1999-01-01\n")
    (wait,) = world.turn().waits
    assert (wait.key.selector, wait.until) == ("old", None)
    assert world.steps(begin=True) == [Make]
    world.publish()
    assert world.steps() == [Sign, Retire]


def test_a_key_of_unknown_age_counts_as_old() -> None:
    """A file without a head was made nobody knows when: with rotate_every its successor is made."""
    world = World()
    world.add("dropped")
    assert world.steps() == [Make]
    assert "unknown age" in str(world.journal.events[0].reason)


def test_the_youngest_signing_key_counts() -> None:
    """Two keys of one algorithm, put there by an administrator: the younger says when, and one replaces both."""
    world = World()
    world.add("a", f"signing: {time_text(NOON - 300 * DAY)}\n")
    world.add("bb", f"signing: {time_text(NOON - 10 * DAY)}\n")
    (wait,) = world.turn().waits
    assert wait.until == NOON + 170 * DAY
    world.now += 170 * DAY
    assert world.steps() == [Make]
    world.publish()
    assert world.steps() == [Sign, Retire, Retire]
    assert next(key for key in world.read() if key.state is KeyState.SIGNING).replaces == ("a", "bb")


# What must not happen


@pytest.mark.parametrize(
    ("faults", "text"),
    [
        (((0, "!SERVFAIL"),), "SERVFAIL"),
        (((1, "!SERVFAIL"),), "SERVFAIL"),
        (((1, '"v=DKIM1; k=ed25519; p="'),), "revoked"),
        (((1, "junk"),), "is no tag"),
        (((1, f'"{record_text(ed25519_pem(9))}"'),), "another key"),
    ],
)
def test_no_switch_before_every_name_server_shows_the_record(faults: tuple[tuple[int, str], ...], text: str) -> None:
    """One server that fails, or shows something else, keeps the old key signing; the reason says which and what."""
    world = World()
    world.add("old")
    world.turn(begin=True)
    world.publish()
    name = "2026-11-ed._domainkey.example.org"
    for server, data in faults:
        world.zones[server].names[name]["TXT"] = [data]
    (wait,) = world.turn().waits
    assert text in wait.reason.text
    assert wait.reason.source == f"ns{faults[0][0] + 1}"
    assert world.states()["old"] is KeyState.SIGNING
    world.publish()
    assert world.steps() == [Sign, Retire]


def test_no_name_server_no_switch() -> None:
    """Where nobody can be asked nothing is published."""
    world = World()
    world.resolvers.clear()
    world.store.make(DIRECTORY, DOMAIN, "ed25519", KeyState.NEXT, NOON, "a")
    (wait,) = world.turn().waits
    assert "no name server" in wait.reason.text
    assert world.states() == {"a": KeyState.NEXT}


def signed_and_published(world: World) -> None:
    """Hold that some key signs, and that each that does is published at both servers."""
    signing = [key for key in world.read() if key.state is KeyState.SIGNING]
    assert signing
    for key in signing:
        for server, resolver in world.resolvers.items():
            answer = result(resolver.query(key.name, RecordType.TXT))
            assert judge(answer, key, server).published is Published.RIGHT, key


def test_a_power_cut_at_any_operation_of_a_rotation() -> None:
    """Whatever a crash leaves, mail is signed, only with published keys, and later turns come to the same end."""
    world = World()
    world.add("old")
    cuts = 0

    def before(operation: object) -> None:
        nonlocal cuts
        for label, disk in world.disk.crash_states():
            after = World(disk, world.zones, now=world.now)
            signed_and_published(after)
            after.turn()
            after.publish()
            after.turn()
            signed_and_published(after)
            after.now += 7 * DAY
            after.turn()
            states = after.states()
            assert list(states.values()) == [KeyState.SIGNING], label
            assert "old" not in states, label
            assert [path for path in disk.files() if "/." in path] == []
            cuts += 1
        # what the other life has published is none of this one's
        for zone in world.zones:
            zone.names = {name: types for name, types in zone.names.items() if name in published}

    published = set(world.zones[0].names)
    world.disk.watch = before
    world.turn()
    world.disk.watch = None
    world.publish()
    published = set(world.zones[0].names)
    world.disk.watch = before
    world.turn()
    world.now += 7 * DAY
    world.turn()
    world.disk.watch = None
    assert world.states() == {"2026-11-ed": KeyState.SIGNING}
    assert cuts > 100


@pytest.mark.parametrize("name", ["write_new", "sync", "rename", "unlink", "sync_directory", "list"])
def test_a_fault_of_the_disk_ends_the_turn_and_the_next_goes_on(name: str) -> None:
    """Each call that fails is an event with its reason; when the disk is well again the rotation is where it was."""
    for number in range(1, 9):
        world = World()
        world.add("old")
        faulty = FaultyDisk(world.disk, {(name, number): fault(errno.EIO, "the file")})
        world.use(faulty)
        failed = 0
        for _ in range(3):
            turn = world.turn()
            failed += turn.problem is not None
            world.publish()
            signed_and_published(world)
        world.now += 7 * DAY
        failed += world.turn().problem is not None
        calls = faulty.calls[name]
        faulty.fail.clear()
        world.turn()
        world.publish()
        world.turn()
        world.now += 7 * DAY
        world.turn()
        assert list(world.states().values()) == [KeyState.SIGNING]
        assert "old" not in world.states()
        assert len(world.journal.of(Kind.DKIM_ROTATION_FAILED)) == failed
        assert failed == (calls >= number)
        if not failed:
            break
    assert number > 1


def test_half_of_a_switch_is_completed() -> None:
    """The new key signs and the old one still does: it is retired, and only the one that is replaced."""
    world = World()
    world.add("old")
    world.add("other")
    world.add("newer", "signing: 2026-11-26\nreplaces: old, gone\n")
    assert world.steps() == [Retire]
    assert world.states() == {"newer": KeyState.SIGNING, "old": KeyState.RETIRED, "other": KeyState.SIGNING}


def test_keys_that_replace_each_other_do_not_both_go() -> None:
    """An administrator's slip never ends with no key."""
    world = World()
    world.add("a", "signing: 2026-11-26\nreplaces: b\n")
    world.add("b", "signing: 2026-11-26\nreplaces: a\n")
    world.add("c", "signing: 2026-11-26\nreplaces: c\n")
    assert [type(step) for step in plan(world.read(), DkimSettings(), NOON)] == [Retire, Wait]
    world.turn()
    assert sorted(state.value for state in world.states().values()) == ["retired", "signing", "signing"]
    assert world.states()["c"] is KeyState.SIGNING


def test_a_key_behind_a_link_is_left_alone() -> None:
    """It signs on, nothing takes its place, it is not removed; the reason says who can."""

    def linked(selector: str, head: str) -> DkimKey:
        key = parse_key(head.encode() + ed25519_pem(), selector, DOMAIN, f"{selector}.pem", [], linked=True)
        assert key is not None
        return key

    for head in ("", "next: 2020-01-01\n", "retired: 2020-01-01\n"):
        (wait,) = plan([linked("a", head)], EVERY, NOON, begin=True)
        assert isinstance(wait, Wait)
        assert "symbolic link" in wait.reason.text
    successor = parse_key(b"signing: 2026-11-26\nreplaces: a\n" + ed25519_pem(), "b", DOMAIN, "b.pem", [])
    assert successor is not None
    assert not any(isinstance(step, Retire) for step in plan([linked("a", ""), successor], EVERY, NOON))


def test_a_clock_that_stepped_back_does_nothing_early() -> None:
    """Times in the future are not due, and nothing breaks."""
    world = World()
    world.add("a", f"signing: {time_text(NOON + 1000 * DAY)}\n")
    world.add("bb", f"retired: {time_text(NOON + 1000 * DAY)}\n")
    assert world.steps() == []
    assert set(world.states()) == {"a", "bb"}


def test_domains_do_not_keep_each_other_from_their_turn() -> None:
    """A domain whose keys cannot be read or are locked is an event; the next one is rotated."""
    world = World()
    world.add("old")
    world.disk.make_directories("/etc/bad")
    world.disk.write_new("/etc/bad/x.pem", [b"junk"]).close()
    domains = {"bad.example": "/etc/bad", "gone.example": "/etc/gone", DOMAIN: DIRECTORY}
    done = result(defer.ensureDeferred(rotate_due(world.rotation, domains)))
    assert [type(step) for step in done] == [Make]
    failed = world.journal.of(Kind.DKIM_ROTATION_FAILED)
    assert [event.fields["domain"] for event in failed] == ["bad.example", "gone.example"]
    assert "/etc/bad/x.pem: expected a private key" in str(failed[0].reason)


def test_locked_keys_are_for_the_next_turn() -> None:
    """While somebody else changes the keys, nothing is done and nothing is lost."""
    world = World()
    world.add("old")

    @contextlib.contextmanager
    def busy(path: str) -> Iterator[None]:
        raise KeysBusy("another process")
        yield

    world.store._lock = busy
    turn = world.turn()
    assert isinstance(turn.problem, KeysBusy)
    assert turn.done == ()


# What the DNS shows


def key_of(octets: bytes) -> DkimKey:
    """Read a key."""
    problems: list[Problem] = []
    key = parse_key(octets, "s", DOMAIN, "s.pem", problems)
    assert key is not None, problems
    return key


def found(*records: str) -> Found:
    """Make an answer with TXT records."""
    return Found("s._domainkey.example.org", tuple(record.encode() for record in records), 300, False, "ns")


RSA = record_text(rsa_pem())
ED = record_text(ed25519_pem())


@pytest.mark.parametrize(
    ("octets", "records", "published"),
    [
        (rsa_pem(), (RSA,), Published.RIGHT),
        (rsa_pem(), (RSA.replace(" ", ""),), Published.RIGHT),
        (rsa_pem(), (RSA.partition("; ")[2],), Published.RIGHT),
        (rsa_pem(), (RSA + "; t=s; n=a note",), Published.RIGHT),
        (rsa_pem(), (RSA + "; t=y",), Published.RIGHT),
        (rsa_pem(), (RSA, "another thing"), Published.RIGHT),
        (ed25519_pem(), (ED,), Published.RIGHT),
        (ed25519_pem(), (RSA,), Published.UNUSABLE),
        (rsa_pem(), (record_text(rsa_pem(1)),), Published.DIFFERENT),
        (rsa_pem(), (RSA, record_text(rsa_pem(1))), Published.UNUSABLE),
        (rsa_pem(), ("v=DKIM1; k=rsa; p=",), Published.REVOKED),
        (rsa_pem(), (RSA + "; h=sha1",), Published.UNUSABLE),
        (rsa_pem(), (RSA + "; s=tlsrpt",), Published.UNUSABLE),
        (rsa_pem(), (RSA[:-40],), Published.UNUSABLE),
        (rsa_pem(), (f'"{RSA}"',), Published.UNUSABLE),
        (rsa_pem(), ("v=spf1 -all",), Published.UNUSABLE),
    ],
)
def test_what_a_record_is_to_a_key(octets: bytes, records: tuple[str, ...], published: Published) -> None:
    """A record is right if somebody who verifies gets this key from it; what else it is has a name and a reason."""
    sight = judge(found(*records), key_of(octets), "ns1")
    assert sight.published is published, sight.reason
    assert "s._domainkey.example.org" in sight.reason.text
    assert sight.reason.source == "ns1"


def test_no_record_and_no_answer() -> None:
    """No name and no data are missing; a failure says nothing of the record."""
    key = key_of(ed25519_pem())
    for answer in (NoSuchName("x", 5, False, "ns"), NoData("x", 5, False, "ns")):
        assert judge(answer, key, "ns1").published is Published.MISSING
    sight = judge(Failure("TXT of x: SERVFAIL", "ns"), key, "ns1")
    assert (sight.published, sight.reason.text) == (Published.UNKNOWN, "TXT of x: SERVFAIL")


def test_keys_are_read_back_as_they_were_made() -> None:
    """`read_keys` finds what `KeyStore` made, RSA too."""
    world = World()
    world.store.make(DIRECTORY, DOMAIN, "rsa", KeyState.NEXT, NOON)
    problems: list[Problem] = []
    (key,) = read_keys(DIRECTORY, DOMAIN, problems, DiskFiles(world.disk))
    assert (key.selector, key.bits, key.since, problems) == ("2026-11-rsa", 2048, NOON, [])
