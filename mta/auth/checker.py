"""May this login submit? The password is checked off the reactor thread, and guessing gets slower and slower.

=====================================  =============================================================================
login and password                     answer
=====================================  =============================================================================
right, known from a moment ago         Accepted at once
network or account guessed too much    after a delay as below, or TryLater without a check where that is too long
no place in the pool                   TryLater
right                                  Accepted
right, and the account is disabled     Disabled: only who knows the password learns of it
wrong, unknown, ``!``, too long        Refused: the session says the same to all of them (RFC 4954 §9, RFC 4616 §2)
our fault                              TryLater
=====================================  =============================================================================

An account has a password and perhaps app passwords beside it; each is as good as the other, and the answer names the
one that was used. The app passwords come first: they are made by chance, so their verifiers need little work.

An unknown login costs what a known one costs: its password is checked against the verifiers of another account, which
a keyed hash of the login picks, so that one unknown login always takes the same time and all of them are spread as the
known ones are (robustness row 24).

Delays come before the check and count wrong passwords by account and network, and by network (row 25, `guesses`).
Equal attempts at the same time, the connections of one program, are one check.

A right password is known for a while: as a keyed hash of login, verifier and password, under a key that lives as long
as the process. Everything known is forgotten when the directory is another one, that is after a reload.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twisted.internet import defer, task
from twisted.internet.interfaces import IReactorTime

from mta.auth.guesses import Guesses, Patience
from mta.auth.pool import FairPool, PoolBounds, PoolFull
from mta.auth.verifier import SchemeUnavailable, verify
from mta.board.port import Board
from mta.disk.port import RunInThread
from mta.mail.reason import Reason
from mta.observe.journal import Journal
from mta.settings.directory import Account, Directory
from mta.settings.sections import AuthSettings, Settings
from mta.settings.values import fold_domain, fold_local_part
from mta.settings.verifier import DISABLED


@dataclass(frozen=True, slots=True)
class Accepted:
    """The password is right; becomes 235 2.7.0."""

    account: Account
    reason: Reason
    app_password: str = ""
    """The name of the app password that it is; empty: it is the account's own."""


@dataclass(frozen=True, slots=True)
class Disabled:
    """The password is right, but nobody logs in to this account for now; becomes 535 5.7.13."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Refused:
    """Login or password is wrong; becomes 535 5.7.8. The reason is for the log: the peer is not told which."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class TryLater:
    """Not checked; becomes 454 4.7.0."""

    reason: Reason


Answer = Accepted | Disabled | Refused | TryLater


class Checker:
    """Checks logins. `settings` is asked each time; `network_of` names the network whose members count as one."""

    TABLES: Mapping[str, int] = {"guesses.account": Guesses.FIELDS, "guesses.network": Guesses.FIELDS}
    """The tables it asks the board for, with the number of their fields."""

    def __init__(
        self,
        settings: Callable[[], Settings],
        clock: IReactorTime,
        run: RunInThread,
        network_of: Callable[[str], str],
        journal: Journal,
        key: bytes,
        board: Board,
    ) -> None:
        """Take what is injected; `key` is 16 to 64 octets of chance, new in each process."""
        self._settings = settings
        self._clock = clock
        self._network_of = network_of
        self._journal = journal
        self._key = key
        self._pool = FairPool(run, lambda: _bounds(settings().auth))
        self._by_account = Guesses(
            board.table("guesses.account"), lambda: _patience(settings().auth, settings().auth.free_failures)
        )
        self._by_network = Guesses(
            board.table("guesses.network"),
            lambda: _patience(settings().auth, settings().auth.free_failures_per_network),
        )
        self._directory = Directory()
        self._stand_ins: tuple[Account, ...] = ()
        self._known: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        """When a right password is forgotten, and which app password it is, by its keyed hash."""
        self._under_way: dict[tuple[str, bytes], list[defer.Deferred[Answer]]] = {}
        """Who else waits for the same check, by network and keyed hash."""

    async def authenticate(self, login: str, password: str, address: str) -> Answer:
        """Check a login that came from `address`. Never raises; takes up to the longest delay and its turn."""
        self._notice_reload()
        bounds = self._settings().auth
        octets = password.encode()
        if len(octets) > bounds.password_maximum or len(login.encode()) > bounds.user_maximum:
            return Refused(Reason("user name or password is too long", "[auth] user_maximum, password_maximum"))
        account = self._directory.account(login)
        verifier = account.verifier if account else DISABLED
        named = account.login if account else _folded(login)
        secret = self._hash(named.encode(), verifier.encode(), octets)
        until, app_password = self._known.get(secret, (0.0, ""))
        if account is not None and until > self._clock.seconds():
            return let_in(account, app_password, " again")
        return await self._once(named, account, octets, self._network_of(address), secret)

    async def _once(self, login: str, account: Account | None, password: bytes, network: str, secret: bytes) -> Answer:
        """Check, or wait for the same check that is under way."""
        others = self._under_way.get((network, secret))
        if others is not None:
            answer: defer.Deferred[Answer] = defer.Deferred()
            others.append(answer)
            return await answer
        others = self._under_way[network, secret] = []
        found: Answer = TryLater(Reason("the check was broken off", "mta.auth.checker"))
        try:
            found = await self._patiently(login, account, password, network, secret)
        except defer.CancelledError:  # the session is gone
            raise
        except Exception as error:
            self._journal.fault("mta.auth.checker", error)
            found = TryLater(Reason(f"the password could not be checked: {error}", "mta.auth.checker"))
        finally:
            del self._under_way[network, secret]
            for other in others:
                if not other.called:
                    other.callback(found)
        return found

    async def _patiently(
        self, login: str, account: Account | None, password: bytes, network: str, secret: bytes
    ) -> Answer:
        now, directory = self._clock.seconds(), self._directory
        account_here = f"{login} {network}"  # a network has no space
        waits = self._by_account.wait(account_here, now), self._by_network.wait(network, now)
        if None in waits:
            return TryLater(Reason(f"too many wrong passwords from {network}", "[auth] longest_delay"))
        self._by_account.take(account_here, now)
        self._by_network.take(network, now)
        delay = max(wait for wait in waits if wait is not None)
        if delay:
            await task.deferLater(self._clock, delay)
        try:
            right = await self._check(login, account, password, network)
        except PoolFull as full:
            return TryLater(Reason(str(full), "[auth] pool_waiting"))
        except SchemeUnavailable as unavailable:
            return TryLater(Reason(str(unavailable), account.source if account else ""))
        now = self._clock.seconds()
        if account is None or right is None:
            self._by_account.add(account_here, now)
            self._by_network.add(network, now)
            why = "the password is wrong" if account else "there is no such account"
            return Refused(Reason(f"{login}: {why}", account.source if account else self._directory.source))
        self._by_account.forget(account_here)
        if self._settings().directory is directory:  # a password that was revoked meanwhile is not remembered
            self._remember(secret, right, now)
        return let_in(account, right)

    async def _check(self, login: str, account: Account | None, password: bytes, network: str) -> str | None:
        """Check in a thread: against the account's verifiers, or those of a stand-in that take as long.

        Returns the name of the app password that it is, an empty text for the account's own; None where it is wrong.
        """
        checked = account
        if account is None or not has_password(account):
            checked = self._stand_in(login)
        if checked is None:
            return None
        verifiers = _verifiers(checked)
        right: str | None = await self._pool.submit(network, lambda: _find(verifiers, password))
        return right if checked is account else None

    def _stand_in(self, login: str) -> Account | None:
        if not self._stand_ins:
            return None
        number = int.from_bytes(self._hash(login.encode())[:8])
        return self._stand_ins[number % len(self._stand_ins)]

    def _remember(self, secret: bytes, app_password: str, now: float) -> None:
        bounds = self._settings().auth
        if not bounds.cache_seconds:
            return
        self._known[secret] = now + bounds.cache_seconds, app_password
        self._known.move_to_end(secret)
        while len(self._known) > bounds.cache_logins:
            self._known.popitem(last=False)

    def _notice_reload(self) -> None:
        directory = self._settings().directory
        if directory is self._directory:
            return
        self._directory = directory
        self._known.clear()
        self._stand_ins = tuple(account for account in directory.accounts.values() if has_password(account))

    def _hash(self, *parts: bytes) -> bytes:
        # only the last part may hold a NUL, so that the parts cannot be confused
        return hashlib.blake2b(b"\0".join(parts), key=self._key, digest_size=32).digest()


def let_in(account: Account, app_password: str = "", again: str = "") -> Accepted | Disabled:
    """The answer to a right password."""
    if account.disabled is not None:
        why = f": {account.disabled}" if account.disabled else ""
        return Disabled(Reason(f"{account.login} is disabled{why}", account.source))
    used = next((each for each in account.app_passwords if each.name == app_password), None)
    if used is not None:
        text = f"{account.login} gave the right app password {used.name}{again}"
        return Accepted(account, Reason(text, used.source), used.name)
    return Accepted(account, Reason(f"{account.login} gave the right password{again}", account.source))


def has_password(account: Account) -> bool:
    """Whether there is any password to log in with."""
    return account.verifier != DISABLED or bool(account.app_passwords)


def _verifiers(account: Account) -> dict[str, str]:
    """What a password is compared with: each verifier by the name of its app password, the account's own last."""
    verifiers = {each.name: each.verifier for each in account.app_passwords}
    return verifiers if account.verifier == DISABLED else {**verifiers, "": account.verifier}


def _find(verifiers: Mapping[str, str], password: bytes) -> str | None:
    """The name of the verifier that the password fits. Raises SchemeUnavailable where none fits and one is unknown."""
    unavailable: SchemeUnavailable | None = None
    for name, verifier in verifiers.items():
        try:
            if verify(verifier, password):
                return name
        except SchemeUnavailable as error:
            unavailable = error
    if unavailable is not None:
        raise unavailable
    return None


def _folded(login: str) -> str:
    local_part, at, domain = login.rpartition("@")
    return fold_local_part(local_part) + at + fold_domain(domain)


def _bounds(settings: AuthSettings) -> PoolBounds:
    return PoolBounds(settings.pool_threads, settings.pool_waiting, settings.pool_waiting_per_network)


def _patience(settings: AuthSettings, free: int) -> Patience:
    return Patience(free, settings.first_delay, settings.longest_delay, settings.forget_failures)
