"""The service extensions of a server, and the keywords by which EHLO tells them (RFC 5321 §2.2, §4.1.1.1).

===================  ====================================  =========================================================
keyword              RFC                                   offered
===================  ====================================  =========================================================
PIPELINING           2920                                  always
SIZE                 1870                                  always, with `Limits.message_size`
8BITMIME             6152                                  always
ENHANCEDSTATUSCODES  2034                                  always
SMTPUTF8             6531                                  `Offer.smtputf8`
STARTTLS             3207                                  `Offer.starttls`, before TLS and before AUTH
AUTH                 4954                                  `Offer.mechanisms`, under TLS or with
                                                           `Offer.auth_without_tls`, and before AUTH
===================  ====================================  =========================================================

Knowingly not offered: DSN, CHUNKING, BINARYMIME (their parameters get 555, BDAT 502), ETRN, VRFY (answered 252).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from mta.smtp.reply import Reply, reply


@dataclass(frozen=True, slots=True)
class Offer:
    """What a session offers to its peer, beside what every session does."""

    starttls: bool = False
    mechanisms: tuple[str, ...] = ()
    """SASL mechanisms in upper case, of those in `mta.smtp.sasl.MECHANISMS`. Empty: AUTH is not known at all."""
    auth_without_tls: bool = False
    """Whether AUTH is offered in clear text (RFC 4954 §4: only where a site's policy permits it)."""
    smtputf8: bool = True
    lenient_line_ends: bool = False
    """Whether a bare CR or LF in the content is taken for CRLF instead of refused: for old devices only."""
    more: tuple[str, ...] = ()
    """Keywords of a service's own, with their parameters (RFC 5321 §2.2.2: they start with X)."""


@lru_cache(maxsize=64)
def hello_reply(
    hostname: str, extended: bool, offer: Offer, message_size: int, tls: bool, authenticated: bool
) -> Reply:
    """Make the reply that accepts EHLO, or HELO where `extended` is false (RFC 5321 §4.1.1.1)."""
    if not extended:
        return reply(250, None, hostname)
    keywords = ["PIPELINING", f"SIZE {message_size}", "8BITMIME", "ENHANCEDSTATUSCODES"]
    if offer.smtputf8:
        keywords.append("SMTPUTF8")
    if offer.starttls and not tls and not authenticated:
        keywords.append("STARTTLS")
    if offer.mechanisms and (tls or offer.auth_without_tls) and not authenticated:
        keywords.append("AUTH " + " ".join(offer.mechanisms))
    keywords += offer.more
    return reply(250, None, hostname, *keywords)
