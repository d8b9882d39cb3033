"""SPF: whether a client may use a domain in MAIL FROM or HELO (RFC 7208).

`SpfChecker` takes an identity, checks what must hold before there is anything to ask (§4.3), runs check_host()
(`spf_check`) within its deadline, and fetches the explanation of a fail in the time that is left. Records are read by
`spf_record`, macros by `spf_macro`.

==============================================  ========================================================================
what is given                                   result
==============================================  ========================================================================
the domain is an address literal, malformed,    none; nothing is asked
or a single label
MAIL FROM is ``<>``                             postmaster@HELO is checked (§2.4)
the local-part is empty                         postmaster (§4.3)
the client's address is IPv4-mapped IPv6        it is the IPv4 address (§5)
the domain or HELO has U-labels                 A-labels (RFC 8616 §4)
the check takes longer than `SpfLimits.seconds` temperror; what is still asked is cancelled (§4.6.4)
==============================================  ========================================================================

Knowingly not here: what is done about a result (§8), which is policy; Received-SPF (§9.1).
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.internet import defer, interfaces

from mta.dns.answer import normal
from mta.dns.resolver import Resolver
from mta.mail.reason import Reason
from mta.mailauth.iprev import client_address
from mta.mailauth.result import Spf, SpfResult
from mta.mailauth.spf_check import DEFAULT, Checked, Client, Evaluation, SpfLimits
from mta.mailauth.spf_macro import shown
from mta.observe.journal import Wall
from mta.settings.values import fold_domain, parse_host_name
from mta.smtp.address import POSTMASTER, Mailbox

T = TypeVar("T")


class SpfChecker:
    """Checks identities of SMTP clients. `hostname` is ours, for explanations (``%{r}``)."""

    def __init__(
        self,
        resolver: Resolver,
        clock: interfaces.IReactorTime,
        wall: Wall,
        hostname: str,
        limits: SpfLimits = DEFAULT,
    ) -> None:
        self._resolver = resolver
        self._clock = clock
        self._wall = wall
        self._hostname = hostname
        self._limits = limits

    async def mail_from(self, address: str, sender: Mailbox | None, helo: str) -> Spf:
        """Check the reverse-path of a client at an IPv4 or IPv6 `address` that said EHLO or HELO `helo`.

        Raises ValueError for what is no address.
        """
        return await self._check("mailfrom", address, sender or Mailbox(POSTMASTER.local_part, helo), helo)

    async def helo(self, address: str, helo: str) -> Spf:
        """Check what the client called itself (RFC 7208 §2.3). Raises ValueError for what is no address."""
        return await self._check("helo", address, Mailbox(POSTMASTER.local_part, helo), helo)

    async def _check(self, identity: str, address: str, mailbox: Mailbox, helo: str) -> Spf:
        domain = normal(fold_domain(mailbox.domain))
        client = Client(
            client_address(address), mailbox.local_part or POSTMASTER.local_part, domain, normal(fold_domain(helo))
        )
        if not _is_well_formed(domain):
            reason = Reason(f"{shown(domain)} is no domain name", "RFC 7208 §4.3")
            return Spf(SpfResult.NONE, identity, domain, reason)
        receiver = {"r": self._hostname or "unknown", "t": str(int(self._wall()))}
        evaluation = Evaluation(self._resolver, client, self._limits, receiver)
        end = self._clock.seconds() + self._limits.seconds
        checked = await self._until(end, evaluation.check_host(domain))
        if checked is None:
            text = f"no result for {domain} in {self._limits.seconds:g} seconds"
            checked = Checked(SpfResult.TEMPERROR, Reason(text, "RFC 7208 §4.6.4"))
        explanation = None
        if checked.result is SpfResult.FAIL:
            explanation = await self._until(end, evaluation.explanation(checked))
        return Spf(checked.result, identity, domain, checked.reason, explanation or "")

    async def _until(self, end: float, work: Coroutine[Any, Any, T]) -> T | None:
        """Wait for `work` until the clock says `end`, then cancel it and return None."""
        waiting = defer.Deferred.fromCoroutine(work)
        waiting.addTimeout(max(0.0, end - self._clock.seconds()), self._clock)
        try:
            return await waiting
        except defer.TimeoutError:
            return None


def _is_well_formed(domain: str) -> bool:
    """Whether it is a domain name (RFC 7208 §4.3). What ends in a number is an address (RFC 3696 §2)."""
    try:
        name = parse_host_name(domain)
    except ValueError:
        return False
    return not name.rpartition(".")[2].isdigit()
